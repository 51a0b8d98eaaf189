"""An encoder that makes a vector of a crop, over a field: each crop of a lattice by itself.

A class token, or a map that is resized to one size, is no map of places, so windows of one pass
over the field cannot stand in for crops. Here the crops themselves go through the encoder, as in
training, `CROP_STEP` of their side apart, and from one edge of the field to the other. Their
descriptors are the field's feature cells, each of one crop, and a window is the crop of the lattice
that lies nearest to it: nothing is approximated but where it lies, by up to half a step.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from histojax.config import View
from histojax.encoders import Encoder, Variables
from histojax.heatmap import tile_features
from histojax.heatmap.encoder_pass import EncoderPass, Windows
from histojax.heatmap.tile_features import FieldStain
from histojax.images import padding

CROP_STEP = 0.5  # From one crop to the next, in crops; a position then has four of them or fewer.
_READ = 1024  # Side of what is read of a field at a time, px at the scale, or one crop.


@dataclasses.dataclass(frozen=True)
class CropAxis:
    """Where crops lie along an axis of a field at a scale.

    Attributes:
      size: of the field, px.
      crop: side of a crop, px.
      step: from one crop to the next, px; the last one may be nearer.
    """

    size: int
    crop: int
    step: int

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where they start, px, in order: int [n]; the last ends with the field."""
        last = self.size - self.crop
        return np.append(np.arange(0, last, self.step), last)

    @property
    def block(self) -> int:
        """How many are read at a time."""
        return min(len(self.starts), max(1, (_READ - self.crop) // self.step + 1))

    @property
    def read(self) -> int:
        """The side of what they are read from, px; of few different sizes, so few programs."""
        return padding.bucket(self.crop + (self.block - 1) * self.step)

    def nearest(self, centres: np.ndarray) -> np.ndarray:
        """The crops nearest to the windows around grid positions: [C] -> int [C, 3].

        Args:
          centres: of the positions, px at the scale.
        """
        starts = self.starts
        wanted = tile_features.window_starts(centres, self.crop, self.size)
        return np.searchsorted((starts[1:] + starts[:-1]) / 2, wanted)


@dataclasses.dataclass(frozen=True)
class CropPass(EncoderPass):
    """An encoder of crops, one by one, over a field; of one view.

    Attributes:
      crop_step: from one crop to the next, in crops.
      at_once: crops that go through the encoder at a time on each device.
    """

    crop_step: float
    at_once: int

    @functools.cached_property
    def axes(self) -> tuple[CropAxis, CropAxis]:
        """Where crops lie along the field's height and width."""
        crop = self.views[0].crop_size
        step = max(1, round(self.crop_step * crop))
        return tuple(CropAxis(size, crop, step) for size in self.at_scale.size)

    @property
    def piece_cells(self) -> tuple[int, int]:
        """A crop is one feature cell."""
        return 1, 1

    @property
    def block(self) -> tuple[int, int]:
        """See `EncoderPass`."""
        return tuple(axis.block for axis in self.axes)

    @property
    def batch(self) -> int:
        """See `EncoderPass`."""
        return self.mesh.size * self.at_once

    @functools.cached_property
    def needed(self) -> np.ndarray:
        """See `EncoderPass`."""
        rows, columns = (
            np.any(nearest[..., None] == np.arange(len(axis.starts)), axis=1).astype(int)
            for nearest, axis in zip(self._nearest(), self.axes, strict=True)
        )
        return rows.T @ self.positions @ columns > 0

    def read(self, place: Sequence[int]) -> np.ndarray:
        """Crops that lie beside each other, with what is between them."""
        corner = tuple(int(axis.starts[i]) for axis, i in zip(self.axes, place, strict=True))
        sides = tuple(axis.read for axis in self.axes)
        return self.at_scale.reading.tile(corner, sides)

    def cut(self, block: np.ndarray, place: Sequence[int]) -> np.ndarray:
        """A crop: uint8 [S, S, 3]."""
        top, left = (
            axis.starts[i] - axis.starts[i // axis.block * axis.block]
            for axis, i in zip(self.axes, place, strict=True)
        )
        crop = self.axes[0].crop
        return block[top : top + crop, left : left + crop]

    def encode(self, pieces: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Descriptors of crops: float32 [B, 1, 1, D]."""
        descriptors = _descriptors(
            self.loaded.variables,
            self.stains,
            pieces,
            gains,
            encoder=self.loaded.encoder,
            mesh=self.mesh,
        )
        return np.asarray(descriptors)[:, None, None]

    def windows(self, view: View) -> Windows:
        """A crop for each window."""
        tops, lefts = self._nearest()
        taps = tuple((tap, 1.0) for tap in self.loaded.encoder.outputs)
        return Windows(taps, tops, lefts, int(np.ptp(tops, axis=1).max()) + 1)

    def _nearest(self) -> list[np.ndarray]:
        """Of each row, and of each column, the crops nearest to its windows: int [C, 3]."""
        return [axis.nearest(along) for axis, along in zip(self.axes, self.centres, strict=True)]


@functools.partial(jax.jit, static_argnames=("encoder", "mesh"))
def _descriptors(
    variables: Variables,
    stains: FieldStain,
    crops: jax.Array,
    gains: jax.Array,
    *,
    encoder: Encoder,
    mesh: Mesh,
) -> jax.Array:
    """Augmented crops through the encoder, the devices sharing them.

    Args:
      variables: of `encoder.fold_variables`, on every device.
      stains: of the field.
      crops: uint8 [B, S, S, 3].
      gains: float32 [B, G], of each crop's augmentation.
      encoder: a folded encoder.
      mesh: the devices.

    Returns:
      float32 [B, D].
    """

    def on_one_device(
        variables: Variables, stains: FieldStain, crops: jax.Array, gains: jax.Array
    ) -> jax.Array:
        images = jnp.moveaxis(jax.vmap(stains.augmented)(crops, gains), 1, -1)
        return encoder.descriptors(variables, images)

    run = tile_features.on_each_device(mesh, on_one_device, shared=2, split=2)
    return run(variables, stains, crops, gains)
