"""What a program is compiled for: a workload, and how it is cut and spread over devices.

A plan is static: `jax.jit` traces a program anew for each plan.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from histojax.config import Extraction, View
from histojax.encoders import Encoder

AXIS = "work"
Pooled = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is computed of each image: an encoder's descriptors in some views.

    Attributes:
      encoder: a folded encoder.
      extraction: the protocol.
      views: of one scale; one in crop mode exact.
      canvas: height and width of the prepared images, px.
    """

    encoder: Encoder
    extraction: Extraction
    views: tuple[View, ...]
    canvas: tuple[int, int]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the encoder's input: of a crop (exact) or the canvas (shared)."""
        if self.extraction.crop_mode == "shared":
            return self.canvas
        return (self.views[0].crop_size,) * 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a workload is cut to fit the devices; all of it is static.

    Attributes:
      workload: what is computed.
      mesh: the devices, on one axis.
      per_step: crops (exact) or whole images (shared) that go through the encoder at a time, on all
        devices.
      per_call: augmentations of a call.
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
        """Augmentations rounded up to whole calls."""
        return -(-self.workload.extraction.augmentations // self.per_call) * self.per_call

    @property
    def starts(self) -> range:
        """The first augmentation of each call."""
        return range(0, self.rows, self.per_call)

    def empty(self) -> Pooled:
        """Descriptors for calls to fill in: zeros, float32 [rows, D] by name of view."""
        shape = (self.rows, self.workload.encoder.width)
        return {
            view.name: jax.device_put(jnp.zeros(shape), replicated(self.mesh))
            for view in self.workload.views
        }


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
