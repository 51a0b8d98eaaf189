"""Programs compiled for the devices, and how the work of a configuration is cut to fit them."""

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from histojax.config import Extraction, Runtime, View
from histojax.encoders import Variables
from histojax.errors import InputError
from histojax.extraction import devices, plans, preparation, programs, xla_presets
from histojax.extraction.plans import Part, Plan, Pooled, Workload
from histojax.images.padding import PaddedImage, scaled_size
from histojax.ops import crops, flops, stain
from histojax.utils import files
from histojax.utils.progress import Progress

# The most crops, or whole images, that one device takes at a time; memory may allow fewer.
MOST_CROPS = {"cpu": 8, "accelerator": 64}
_MOST_WHOLE = {"cpu": 1, "accelerator": 8}
# Pixels that a core takes at a time: six crops of 128 px, one of 256. With fewer it mostly prepares
# kernels for its matrix products, with more maps leave its cache; docs/performance.md has times.
_CORE_PIXELS = 100_000
# Bytes of descriptors that a call keeps of the crops that tile an image, until they are pooled.
_MOST_HELD = 2**28

# Height and width of an image, px.
Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled plan.

    Attributes:
      plan: what it was compiled for.
      compiled: `programs.encode` for that plan.
      seconds: time of tracing, compiling and trying it out.
      bytes: memory it needs on each device beside its arguments.
    """

    plan: Plan
    compiled: Any
    seconds: float
    bytes: int

    def run(
        self,
        variables: Variables,
        planes: jax.Array,
        size: Size,
        key: jax.Array,
        bar: Progress | None = None,
    ) -> Pooled:
        """Starts the encoding of one image; arguments as for `programs.encode`.

        Returns:
          The workload's rows, still on the devices: float32 [rows, ...] by name of view.
        """
        pooled, plan, workload = self.plan.empty(), self.plan, self.plan.workload
        image_size = np.array(size, np.int32)
        for first in plan.starts:
            pooled = self.compiled(pooled, variables, planes, image_size, key, np.int32(first))
            if bar is not None:
                if len(plan.starts) > 1:
                    jax.block_until_ready(pooled)
                bar.add(min(plan.per_call, workload.rows - first) * workload.inputs_of(size))
        return plan.trim(pooled)

    def run_first(
        self, variables: Variables, planes: jax.Array, size: Size, key: jax.Array
    ) -> Pooled:
        """Starts the encoding of the first `per_call` rows, for measuring."""
        image_size = np.array(size, np.int32)
        return self.compiled(self.plan.empty(), variables, planes, image_size, key, np.int32(0))


@dataclasses.dataclass
class Engine:
    """The devices, and the programs compiled for them so far: one a workload.

    Attributes:
      mesh: the devices.
      crops_per_step: crops or whole images that go through an encoder at a time, on all devices;
        None for as many as memory allows, up to 64 crops or 8 images a device; on a CPU up to 8
        small crops a core, or one large one.
      kernel: whether to pool by the fused kernel.
      cache: folder where the work per step is remembered.
      programs: compiled so far.
      xla_preset: XLA's flags, of `xla_presets`.
    """

    mesh: jax.sharding.Mesh
    crops_per_step: int | None
    kernel: bool
    cache: Path
    programs: dict[Workload, Program] = dataclasses.field(default_factory=dict)
    xla_preset: str = "none"

    @classmethod
    def of(cls, runtime: Runtime = Runtime()) -> "Engine":
        """An engine on the devices of a runtime, without programs."""
        mesh = plans.mesh_of(runtime.devices or jax.local_devices())
        cache = runtime.cache or files.default_cache()
        kernel, preset = runtime.pooling == "pallas", runtime.xla_preset
        return cls(mesh, runtime.crops_per_step, kernel, cache, xla_preset=preset)

    @property
    def platform(self) -> str:
        """`cpu` or `accelerator`."""
        return "cpu" if self.mesh.devices.flat[0].platform == "cpu" else "accelerator"

    def most_crops(self, size: int) -> int:
        """The most crops of a size, px, that one device takes at a time."""
        most = MOST_CROPS[self.platform]
        return max(1, min(most, _CORE_PIXELS // size**2)) if self.platform == "cpu" else most

    def crops_at_once(self, workload: Workload, variables: Variables) -> int:
        """How many crops of a workload one device takes at a time, where it is not compiled."""
        recalled = devices.recall(self.cache, self.memory_key(workload))
        plan = self._plan(workload, variables, self.crops_per_step or recalled)
        return plan.per_step // self.mesh.size

    def replicate(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return jax.device_put(tree, plans.replicated(self.mesh))

    def prepare(
        self, extraction: Extraction, image: PaddedImage, scale: float, canvas: Size
    ) -> tuple[jax.Array, stain.StainQuality, Size]:
        """Downscales and normalises an image on every device.

        Returns:
          Its planes and how normalisation went, as of `preparation.prepare`, and its scaled size.
        """
        small = scaled_size(image.size, scale)
        planes, quality = preparation.prepare(
            self.replicate(image.rgb),
            *(np.array(size, np.int32) for size in (image.size, small)),
            scale=scale,
            canvas=canvas,
            normalizer=stain.NORMALIZERS[extraction.stain_normalizer],
            augmentation=stain.AUGMENTATIONS[extraction.stain_augmentation],
        )
        return planes, quality, small

    def program(self, workload: Workload, variables: Variables) -> Program:
        """A workload's program, compiled on first use.

        The crops per step are halved until it fits in memory.

        Args:
          workload: what to compute.
          variables: of the encoder, folded and replicated.

        Raises:
          InputError: there is not enough memory.
        """
        if workload in self.programs:
            return self.programs[workload]
        start = time.monotonic()
        key = self.memory_key(workload)
        recalled = devices.recall(self.cache, key)
        plan = self._plan(workload, variables, self.crops_per_step or recalled)
        while (program := self._try_out(plan, variables, tried=bool(recalled))) is None:
            unit = self._unit(workload)
            smaller = plan.per_step // 2 // unit * unit
            if self.crops_per_step or smaller == 0:
                inputs = "whole images" if workload.part is Part.WINDOWS else "crops"
                fewer = "pass --pooling=xla" if self.kernel else "lower --crops_per_step"
                raise InputError(
                    f"out of memory at {plan.per_step} {inputs} a step ({workload.encoder.name}, "
                    f"{workload.views[0].name}): {fewer}, or choose smaller --views"
                )
            plan = dataclasses.replace(plan, per_step=smaller)
        # Where a call has no more inputs, memory might allow more to another protocol.
        is_limited = plan.per_step < plan.per_call * workload.inputs_per_row
        if not self.crops_per_step and is_limited and plan.per_step != recalled:
            devices.remember(self.cache, key, plan.per_step)
        self.programs[workload] = dataclasses.replace(program, seconds=time.monotonic() - start)
        return self.programs[workload]

    def memory_key(self, workload: Workload) -> str:
        """What the work per step depends on, as a key of `devices.remember`."""
        whole, encoder = workload.part is Part.WINDOWS, workload.encoder
        module = f" {encoder.origin.code_sha256[:16]}" if encoder.origin else ""
        parts = (
            f"{self.mesh.size} x {self.mesh.devices.flat[0].device_kind}",
            jax.__version__,
            f"{encoder.name}{module}",
            workload.extraction.precision,
            "whole" if whole else "crops",
            workload.canvas if whole else workload.views[0].crop_size,
            "kernel" if self.kernel else "xla",
            *([] if self.xla_preset == "none" else [self.xla_preset]),
        )
        return ", ".join(map(str, parts))

    def _unit(self, workload: Workload) -> int:
        """What the work per step is a multiple of: the kernel pools whole augmentations."""
        return self.mesh.size * (workload.inputs_per_row if self.kernel else 1)

    def _plan(self, workload: Workload, variables: Variables, per_step: int | None = None) -> Plan:
        """Cuts a workload; without `per_step`, by the size of feature maps."""
        count, inputs, unit = self.mesh.size, workload.inputs_per_row, self._unit(workload)
        whole, on_cpu = workload.part is Part.WINDOWS, self.platform == "cpu"
        if per_step is None:
            held = flops.largest_activations(layers(workload, variables))
            # Twice: the compiler keeps layouts and workspaces beside input and output.
            fitting = devices.memory(self.mesh.devices.flat) // (2 * held)
            most = _MOST_WHOLE[self.platform] if whole else self.most_crops(workload.input_size[0])
            per_step = count * max(1, min(most, fitting))
        # On a CPU users want to see progress; an accelerator should not pause between calls.
        most_rows = 1 if whole else max(1, per_step // inputs)
        held_rows = workload.rows
        if workload.part is Part.TILES:
            held_rows = max(1, _MOST_HELD // (4 * inputs * workload.encoder.width))
        rows = _evenly(workload.rows, most_rows if on_cpu else held_rows)
        # Devices share an augmentation's crops; but rows, where each is of one crop or whole image.
        by_rows = self.kernel or workload.part in (Part.POOL, Part.WINDOWS)
        by_rows |= rows > 1 and not on_cpu
        per_call = -(-rows // count) * count if by_rows else rows
        per_step = min(per_step, per_call * inputs)
        if on_cpu:
            per_step = _evenly(per_call * inputs, per_step)
        return Plan(workload, self.mesh, -(-per_step // unit) * unit, per_call, self.kernel)

    def _try_out(self, plan: Plan, variables: Variables, tried: bool) -> Program | None:
        """Compiles a plan, and runs it once unless it was `tried`; None if memory is short."""
        canvas = plan.workload.canvas
        planes = self.replicate(np.zeros((3, *canvas), np.float32))
        key = self.replicate(crops.image_key(0, ""))
        arguments = (plan.empty(), variables, planes, np.array(canvas, np.int32), key, np.int32(0))
        try:
            lowered = programs.encode.lower(*arguments, plan=plan)
            compiled = xla_presets.compile_with(lowered, self.xla_preset)
            needed = compiled.memory_analysis().temp_size_in_bytes
            if self.crops_per_step is None and needed > devices.memory(self.mesh.devices.flat):
                return None
            # On a CPU a process that runs out of memory is killed, so trying tells nothing.
            if not tried and self.platform != "cpu":
                jax.block_until_ready(compiled(*arguments))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return None
        return Program(plan, compiled, 0.0, needed)


def _evenly(work: int, most: int) -> int:
    """The largest share where work is cut as evenly as can be into as few as can be, by `most`."""
    return -(-work // -(-work // most))


def passes(
    pairs: Iterable[tuple[str, View]], extraction: Extraction
) -> list[tuple[str, tuple[View, ...]]]:
    """What is extracted together: an encoder, and views of one scale or pixel size.

    In crop mode exact each view is by itself; in crop mode hybrid views of one resolution share the
    passes of the whole image.
    """
    if extraction.crop_mode == "exact":
        return [(name, (view,)) for name, view in pairs]

    def together(name: str, resolution: str) -> tuple[View, ...]:
        return tuple(v for v in extraction.views_of(name) if v.resolution == resolution)

    return list(dict.fromkeys((name, together(name, view.resolution)) for name, view in pairs))


def layers(workload: Workload, variables: Variables) -> tuple[flops.Layer, ...]:
    """The encoder's layers on one crop, or on one whole image."""
    image = jax.ShapeDtypeStruct((1, *workload.input_size, 3), jnp.float32)
    return flops.layers(workload.encoder.maps, variables, image)
