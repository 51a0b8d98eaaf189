"""What a compiled program is compiled for, and how its work is spread over devices.

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
class Plan:
    """What a program is compiled for; all of it is static.

    Attributes:
      encoder: a folded encoder.
      views: of one scale; one in crop mode exact.
      extraction: the protocol.
      mesh: the devices, on one axis.
      per_step: crops (exact) or whole images (shared) that go through the encoder at a time, on all
        devices.
      per_call: augmentations of a call.
      kernel: whether the fused kernel pools the crops; then `per_step` is a multiple of an
        augmentation's crops on each device.
    """

    encoder: Encoder
    views: tuple[View, ...]
    extraction: Extraction
    mesh: Mesh
    per_step: int
    per_call: int
    kernel: bool = False

    @property
    def rows(self) -> int:
        """Augmentations rounded up to whole calls."""
        return -(-self.extraction.augmentations // self.per_call) * self.per_call

    @property
    def starts(self) -> range:
        """The first augmentation of each call."""
        return range(0, self.rows, self.per_call)

    def empty(self) -> Pooled:
        """Descriptors for calls to fill in: zeros, float32 [rows, D] by name of view."""
        shape = (self.rows, self.encoder.width)
        return {
            view.name: jax.device_put(jnp.zeros(shape), replicated(self.mesh))
            for view in self.views
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
