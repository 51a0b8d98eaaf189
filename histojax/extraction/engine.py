"""What is compiled for which devices, and how the work of a configuration is cut up to fit them."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from histojax.config import Extraction, Runtime, View
from histojax.encoders import Encoder, Variables
from histojax.errors import InputError
from histojax.extraction import devices, programs
from histojax.extraction.programs import Plan, Pooled
from histojax.ops import crops, flops
from histojax.utils import files
from histojax.utils.progress import Progress

# The most crops, or whole images in crop mode shared, that one device takes at a time; memory may allow fewer. A CPU
# gains nothing from more.
MOST = {"exact": {"cpu": 1, "accelerator": 64}, "shared": {"cpu": 1, "accelerator": 8}}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled plan.

    Attributes:
      compiled: `core.describe` for the plan and a canvas.
      seconds: that tracing and compiling took, and trying it out.
      bytes: memory it needs on each device, arguments left out.
    """

    plan: Plan
    compiled: Any
    seconds: float
    bytes: int


@dataclasses.dataclass
class Engine:
    """The devices, and the programs compiled for them so far: one a configuration, however many images come.

    Attributes:
      mesh: the devices.
      crops_per_step: crops (exact) or whole images (shared) that go through an encoder at a time, on all devices; None
        for as many as memory allows, up to MOST.
      kernel: whether to pool by the fused kernel.
      cache: where the work per step that was found is remembered.
    """

    mesh: jax.sharding.Mesh
    crops_per_step: int | None
    kernel: bool
    cache: Path
    programs: dict[Any, Program] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, runtime: Runtime = Runtime()) -> "Engine":
        """All or the chosen devices, without any program yet."""
        mesh = programs.mesh_of(runtime.devices or jax.local_devices())
        cache = runtime.cache or files.default_cache()
        return cls(mesh, runtime.crops_per_step, runtime.pooling == "pallas", cache)

    @property
    def platform(self) -> str:
        """`cpu` or `accelerator`."""
        return "cpu" if self.mesh.devices.flat[0].platform == "cpu" else "accelerator"

    def replicate(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return jax.device_put(tree, programs.replicated(self.mesh))

    def program(
        self,
        encoder: Encoder,
        variables: Variables,
        extraction: Extraction,
        views: tuple[View, ...],
        canvas: tuple[int, int],
    ) -> Program:
        """A configuration's program, compiled at the first asking; with less work per step where memory is short.

        Args:
          encoder, variables: folded; the variables replicated.
          extraction: the protocol.
          views: of one scale; one in crop mode exact.
          canvas: height and width of the prepared images.

        Raises:
          InputError: memory does not suffice.
        """
        known = (encoder, extraction, views, canvas)
        if known in self.programs:
            return self.programs[known]
        start = time.monotonic()
        key = self.key(encoder, extraction, views, canvas)
        recalled = devices.recall(self.cache, key)
        plan = self.plan(
            encoder, variables, extraction, views, canvas, self.crops_per_step or recalled
        )
        while (program := self.try_out(plan, variables, canvas, tried=bool(recalled))) is None:
            smaller = plan.per_step // 2 // self.mesh.size * self.mesh.size
            if self.crops_per_step or self.kernel or smaller == 0:
                of = "crops" if extraction.crop_mode == "exact" else "whole images"
                raise InputError(
                    f"out of memory at {plan.per_step} {of} a step ({encoder.name}, {views[0].name}): lower "
                    "--crops_per_step, or choose smaller --views"
                )
            plan = dataclasses.replace(plan, per_step=smaller)
        if not self.crops_per_step and plan.per_step != recalled:
            devices.remember(self.cache, key, plan.per_step)
        self.programs[known] = dataclasses.replace(program, seconds=time.monotonic() - start)
        return self.programs[known]

    def key(
        self,
        encoder: Encoder,
        extraction: Extraction,
        views: tuple[View, ...],
        canvas: tuple[int, int],
    ) -> str:
        """What the work per step depends on."""
        shape = canvas if extraction.crop_mode == "shared" else views[0].crop_size
        device = f"{self.mesh.size} x {self.mesh.devices.flat[0].device_kind}"
        parts = (
            device,
            jax.__version__,
            encoder.name,
            extraction.precision,
            extraction.crop_mode,
            shape,
        )
        return ", ".join(map(str, (*parts, "kernel" if self.kernel else "xla")))

    def plan(
        self,
        encoder: Encoder,
        variables: Variables,
        extraction: Extraction,
        views: tuple[View, ...],
        canvas: tuple[int, int],
        per_step: int | None = None,
    ) -> Plan:
        """How the work of a configuration is cut up; `per_step`, where not given, by the size of the feature maps."""
        count, mode = self.mesh.size, extraction.crop_mode
        of_an_augmentation = extraction.crops if mode == "exact" else 1
        # A CPU's user wants to see progress; an accelerator wants no gaps.
        per_call = (
            -(-extraction.augmentations // count) * count if self.platform == "accelerator" else 1
        )
        per_call = max(per_call, count if mode == "shared" or self.kernel else 1)
        if per_step is None:
            each = flops.largest_activations(layers(encoder, variables, extraction, views, canvas))
            # Twice: the compiler keeps layouts and workspaces beside input and output.
            fitting = devices.memory(self.mesh.devices.flat) // (2 * each)
            per_step = count * max(1, min(MOST[mode][self.platform], fitting))
        unit = count * (of_an_augmentation if self.kernel else 1)
        per_step = min(per_step, per_call * of_an_augmentation)
        return Plan(
            encoder,
            views,
            extraction,
            self.mesh,
            -(-per_step // unit) * unit,
            per_call,
            self.kernel,
        )

    def try_out(
        self, plan: Plan, variables: Variables, canvas: tuple[int, int], tried: bool
    ) -> Program | None:
        """Compiles a plan, and runs it once where it was not `tried` before; None where memory does not suffice."""
        density = self.replicate(np.zeros((3, *canvas), np.float32))
        key = self.replicate(crops.image_key(0, ""))
        arguments = (plan.empty(), variables, density, np.array(canvas, np.int32), key, np.int32(0))
        try:
            compiled = programs.describe.lower(*arguments, plan=plan).compile()
            needed = compiled.memory_analysis().temp_size_in_bytes
            if self.crops_per_step is None and needed > devices.memory(self.mesh.devices.flat):
                return None
            # A CPU that runs out of memory does not live to tell.
            if not tried and self.platform != "cpu":
                jax.block_until_ready(compiled(*arguments))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return None
        return Program(plan, compiled, 0.0, needed)


def layers(
    encoder: Encoder,
    variables: Variables,
    extraction: Extraction,
    views: tuple[View, ...],
    canvas: tuple[int, int],
) -> tuple[flops.Layer, ...]:
    """The encoder's layers on one crop, or on one whole image in crop mode shared."""
    shape = canvas if extraction.crop_mode == "shared" else (views[0].crop_size,) * 2
    return flops.layers(encoder.maps, variables, jax.ShapeDtypeStruct((1, *shape, 3), jnp.float32))


def describe(
    program: Program,
    variables: Variables,
    density: jax.Array,
    size: tuple[int, int],
    key: jax.Array,
    bar: Progress | None = None,
) -> Pooled:
    """Starts the description of one image: descriptors on the device, float32 [rows, D] by view name."""
    plan = program.plan
    pooled, own_size = plan.empty(), np.array(size, np.int32)
    for first in plan.starts:
        pooled = program.compiled(pooled, variables, density, own_size, key, np.int32(first))
        if bar is not None:
            if len(plan.starts) > 1:
                jax.block_until_ready(pooled)
            done = min(plan.per_call, plan.extraction.augmentations - first)
            bar.add(done * plan.extraction.crops * len(plan.views))
    return pooled


def first_call(
    program: Program,
    variables: Variables,
    density: jax.Array,
    size: tuple[int, int],
    key: jax.Array,
) -> Pooled:
    """Starts the description of the first `per_call` augmentations, for measuring."""
    return program.compiled(
        program.plan.empty(), variables, density, np.array(size, np.int32), key, np.int32(0)
    )
