"""What a program is compiled for: a workload, and how it is cut and spread over devices.

A plan is static: `jax.jit` traces a program anew for each plan.
"""

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from histojax.config import Extraction, View
from histojax.encoders import Encoder
from histojax.extraction import preparation
from histojax.ops import crops

AXIS = "work"
Pooled = dict[str, jax.Array]


class Part(enum.Enum):
    """What a program computes of an image: rows of descriptors.

    EXACT     crop mode exact: each augmentation, of crops of its own [A, D]
    TILES     the same of all crops that tile the image, in every augmentation [A, D]
    POOL      crop mode hybrid: each crop of the image's pool, four times if gains vary [4 Q, D]
    WINDOWS   at each node of the gains, windows of the whole image in place of these [n^G, Q, D]
    CHECKED   one of its augmentations, of exact crops [1, D]
    """

    EXACT = "exact"
    TILES = "tiles"
    POOL = "pool"
    WINDOWS = "windows"
    CHECKED = "checked"


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a program computes of each image: an encoder's descriptors, or a part on their way.

    Attributes:
      encoder: a folded encoder.
      extraction: the protocol.
      views: of one scale; one, but for windows.
      canvas: height and width of the prepared images, px; for windows, of the whole image alone.
      part: which part.
    """

    encoder: Encoder
    extraction: Extraction
    views: tuple[View, ...]
    canvas: tuple[int, int]
    part: Part = Part.EXACT

    @property
    def rows(self) -> int:
        """Rows of the result: augmentations, encodings of the pool's crops, or nodes."""
        extraction = self.extraction
        match self.part:
            case Part.EXACT | Part.TILES:
                return extraction.augmentations
            case Part.POOL:
                return len(preparation.pool_gains(extraction)) * extraction.pool_crops
            case Part.WINDOWS:
                return len(preparation.gain_nodes(extraction))
            case Part.CHECKED:
                return 1

    @property
    def inputs_per_row(self) -> int:
        """Crops, or whole images, that the encoder sees for a row; of tiles, at most."""
        return self.inputs_of(self.canvas)

    def inputs_of(self, size: tuple[int, int]) -> int:
        """Crops, or whole images, that the encoder sees for a row of an image of that size."""
        if self.part is Part.TILES:
            return math.prod(crops.tile_counts(size, self.views[0].crop_size))
        return self.extraction.crops if self.part in (Part.EXACT, Part.CHECKED) else 1

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row of the result."""
        width = self.encoder.width
        return (self.extraction.pool_crops, width) if self.part is Part.WINDOWS else (width,)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the encoder's input: of a crop, or of the whole image for windows."""
        return self.canvas if self.part is Part.WINDOWS else (self.views[0].crop_size,) * 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a workload is cut to fit the devices; all of it is static.

    Attributes:
      workload: what is computed.
      mesh: the devices, on one axis.
      per_step: crops or whole images that go through the encoder at a time, on all devices.
      per_call: rows of a call.
      kernel: whether the fused kernel pools the crops; then `per_step` is a multiple of an
        augmentation's crops on each device.
    """

    workload: Workload
    mesh: Mesh
    per_step: int
    per_call: int
    kernel: bool = False

    @property
    def rows(self) -> int:
        """The workload's rows rounded up to whole calls."""
        return -(-self.workload.rows // self.per_call) * self.per_call

    @property
    def starts(self) -> range:
        """The first row of each call."""
        return range(0, self.rows, self.per_call)

    def empty(self) -> Pooled:
        """Rows for calls to fill in: zeros, float32 [rows, ...] by name of view."""
        shape = (self.rows, *self.workload.row_shape)
        return {
            view.name: jax.device_put(jnp.zeros(shape), replicated(self.mesh))
            for view in self.workload.views
        }

    def trim(self, pooled: Pooled) -> Pooled:
        """The workload's rows, without those that fill up the last call."""
        return {view: rows[: self.workload.rows] for view, rows in pooled.items()}


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """The devices on one axis."""
    return Mesh(np.array(devices), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_devices(plan: Plan, function: Callable, spread: PartitionSpec) -> Callable:
    """`function` on each device, for its share of the last argument and all of the others."""
    same = PartitionSpec()
    return jax.shard_map(
        function,
        mesh=plan.mesh,
        in_specs=(same, same, same, same, spread),
        out_specs=spread,
        check_vma=False,
    )
