"""Which positions of a field are far from the training images: compared with places in these.

`out_of_distribution` compares whole images. A position's descriptor is of one place, 1.5 crops
wide, and places differ more than images do, so against whole images most would seem far. Here
places are compared with places: positions drawn from training images, whose descriptors and stain
are computed exactly as those of a map's positions: the first augmentation, an upright field,
windows in place of crops, without border correction (which is measured on each field anew, so it
would differ between a map and the training images). From there on all is as for images: the same
distances, the same conformal p-values with a patient or slide as the unit, the same level.

places     P positions: descriptors {configuration: float32 [P, D]}, rows like those of stain_qc.csv
reference  places of training images, an `out_of_distribution.ReferenceDistribution`
"""

import collections
import dataclasses
import itertools
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from histojax.config import STAIN_STATUS, STAIN_TOO_LITTLE_TISSUE, Extraction
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import store
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.heatmap import passes, slide_scan, sliding_window
from histojax.heatmap.crop_pass import CROP_STEP
from histojax.heatmap.probability_map import NO_PLACES
from histojax.heatmap.slide_scan import Grid, SlideScan
from histojax.heatmap.tile_features import OFFSETS
from histojax.images.slide import Slide, open_slide
from histojax.ops import stain
from histojax.prediction import out_of_distribution
from histojax.prediction.out_of_distribution import ReferenceDistribution
from histojax.prediction.uncertainty import FAR_DESCRIPTORS, FAR_STAIN
from histojax.utils.progress import Progress

# Positions of a map are a quarter of a crop apart, so their places overlap: every second one is
# compared, and the others take the result of the nearest; or fewer, if there are many.
_EVERY = 2
_MOST_COMPARED = 2048
# Training images that places are drawn from, and places, at most. Patients count, not places.
_IMAGES = 128
_PLACES = 512
_PLACES_PER_IMAGE = 8
_STAIN_SAMPLE = 96  # Side of the sample of pixels that a place's stain is measured on, at most, px.


@dataclasses.dataclass
class Places:
    """The positions of a map that are compared, and what is known of them.

    Attributes:
      scan: the scanned field.
      chosen: bool [rows, columns].
      rows: of descriptors by configuration, as they come.
    """

    scan: SlideScan
    chosen: np.ndarray
    rows: dict[str, list[np.ndarray]]

    @classmethod
    def of_field(cls, scan: SlideScan) -> "Places":
        """Those of a field that is to be mapped."""
        return cls(scan, compared_positions(scan.scored), collections.defaultdict(list))

    def observe(self, configuration: str, rows: slice, descriptors: np.ndarray) -> None:
        """Keeps the descriptors of chosen positions; see `sliding_window.Observer`."""
        self.rows[configuration].append(descriptors[self.chosen[rows]])

    def far(
        self, reference: ReferenceDistribution, extraction: Extraction
    ) -> dict[str, np.ndarray]:
        """The scored positions that are far from training: bool [rows, columns] by reason."""
        scored = self.scan.scored
        if not scored.any():
            return {reason: np.zeros_like(scored) for reason in (FAR_DESCRIPTORS, FAR_STAIN)}
        names = [str(i) for i in range(self.chosen.sum())]
        means = {name: np.concatenate(parts) for name, parts in self.rows.items()}
        stain_rows = measure_stain(self.scan, self.chosen, extraction, names)
        comparison = out_of_distribution.compare(reference, names, means, stain_rows)
        return {
            FAR_DESCRIPTORS: self._spread(comparison.descriptors_far),
            FAR_STAIN: self._spread(comparison.stain_far),
        }

    def _spread(self, far: np.ndarray) -> np.ndarray:
        """Each scored position takes the value of the nearest chosen one: bool [rows, columns]."""
        values = np.zeros_like(self.chosen)
        values[self.chosen] = far
        nearest = ndimage.distance_transform_edt(
            ~self.chosen, return_distances=False, return_indices=True
        )
        return values[tuple(nearest)] & self.scan.scored


def compared_positions(scored: np.ndarray) -> np.ndarray:
    """A lattice of the scored positions, or all of them if it misses them: bool [rows, columns]."""
    every = max(_EVERY, int(np.ceil(np.sqrt(scored.sum() / _MOST_COMPARED))))
    lattice = np.zeros_like(scored)
    lattice[every // 2 :: every, every // 2 :: every] = True
    return scored & lattice if (scored & lattice).any() else scored


def compared_with(reference: ReferenceDistribution) -> str:
    """What positions are compared with, in words."""
    patients = round(reference.masses.sum())
    level = max(out_of_distribution.FAR, 1 / (patients + 1))
    return (
        f"{len(reference.folds)} places of {patients} training patients, slides or single images; "
        "in each of both, a place of a new one is far by chance with a probability of at most "
        f"{level:.2g}"
    )


def uncompared(reference: ReferenceDistribution | None, crop_step: float) -> str:
    """Why positions cannot be compared with places of training images; empty where they can.

    Args:
      reference: the places, which are described with `CROP_STEP`.
      crop_step: that positions are described with.
    """
    if reference is None:
        return NO_PLACES
    if crop_step != CROP_STEP:
        return f"places of these are described with --crop_step={CROP_STEP:g}, not {crop_step:g}"
    return ""


def fit(
    folds: Folds,
    paths: Mapping[str, Path],
    encoder_set: EncoderSet,
    configurations: Sequence[str],
    pixel_sizes: Mapping[str, float] = types.MappingProxyType({}),
) -> ReferenceDistribution:
    """Places of the training images, which maps are compared with.

    Args:
      folds: the training images, with their folds and, where known, groups.
      paths: image files by name; images without one are left out.
      encoder_set: the encoders, and the protocol the models were trained with.
      configurations: those that have models.
      pixel_sizes: microns per pixel of the images that they were described at, by name; for the
        others that of the file is taken.

    Raises:
      InputError: an image cannot be read, or is smaller than a crop; or none has tissue.
    """
    passes.check_encoders(encoder_set)
    extraction = encoder_set.extraction
    images = _spread_over_groups(folds, [i for i, name in enumerate(folds.names) if name in paths])
    per_image = min(_PLACES_PER_IMAGE, max(1, _PLACES // len(images)))
    place_images, names, stain_rows = [], [], {}
    descriptors = collections.defaultdict(list)
    with Progress("places of the training images", len(images), "images") as progress:
        for image in images:
            name = folds.names[image]
            with open_slide(paths[name]) as field:
                scan = _scan(field, extraction, pixel_sizes.get(name))
                chosen = _draw(scan.scored, per_image, seed=image)
                if chosen.any():
                    here = [f"{name}\0{i}" for i in range(chosen.sum())]
                    described = _describe(scan, chosen, name, encoder_set, configurations)
                    for configuration, rows in described:
                        descriptors[configuration].append(rows)
                    stain_rows |= measure_stain(scan, chosen, extraction, here)
                    names += here
                    place_images += [image] * len(here)
            progress.add(1)
    if not names:
        raise InputError(f"none of {len(images)} training images has tissue to compare maps with")
    groups = folds.groups or ("",) * len(folds.names)
    places = dataclasses.replace(
        folds.take(np.array(place_images)),
        names=tuple(names),
        groups=tuple(groups[i] or f"\0{folds.names[i]}" for i in place_images),
    )
    means = {name: np.concatenate(rows) for name, rows in descriptors.items()}
    return out_of_distribution.fit(places, means, stain_rows)


def measure_stain(
    scan: SlideScan, chosen: np.ndarray, extraction: Extraction, names: Sequence[str]
) -> store.StainQC:
    """The stain of places as extraction measures an image's, at the scale of the smallest crop.

    Args:
      scan: the scanned field.
      chosen: bool [rows, columns], P positions.
      extraction: the protocol of the models.
      names: of the P places, in the order of their rows.
    """
    view = scan.smallest
    width = round((1 + OFFSETS[-1] - OFFSETS[0]) * view.crop_size)
    reading, size = scan.scales[view.resolution][:2]
    sides = tuple(min(width, side) for side in size)
    step = max(1, -(-width // _STAIN_SAMPLE))
    rows = {}
    for name, position in zip(names, np.argwhere(chosen), strict=True):
        corner = [
            int(np.clip(centres[i] - side / 2, 0, whole - side))
            for centres, i, side, whole in zip(
                scan.grid.centres(reading.on_grid), position, sides, size, strict=True
            )
        ]
        rgb = reading.tile(corner, sides)[::step, ::step]
        rows[name, view.resolution] = _stain_row(name, view.resolution, _measure(rgb))
    return rows


@jax.jit
def _measure(rgb: jax.Array) -> stain.StainQuality:
    """How Macenko's fit to all pixels goes: uint8 [h, w, 3]."""
    return stain.fit_macenko(rgb, jnp.ones(rgb.shape[:2], bool))[1]


def _stain_row(name: str, resolution: str, quality: stain.StainQuality) -> store.StainQCRow:
    status = STAIN_STATUS[int(quality.status)]
    angle = None if status == STAIN_TOO_LITTLE_TISSUE else float(quality.stain_angle)
    maxima = map(float, quality.maxima)
    return store.StainQCRow(
        name, resolution, float(quality.tissue_fraction), angle, *maxima, status, ""
    )


def _spread_over_groups(folds: Folds, images: Sequence[int]) -> list[int]:
    """At most _IMAGES of the images, from as many groups as possible."""
    members = collections.defaultdict(list)
    for i in images:
        group = folds.groups[i] if folds.groups else ""
        members[group or f"\0{folds.names[i]}"].append(i)
    rounds = itertools.zip_longest(*members.values())
    in_turn = [i for turn in rounds for i in turn if i is not None]
    return sorted(in_turn[:_IMAGES])


def _scan(field: Slide, extraction: Extraction, mpp: float | None) -> SlideScan:
    """A training image as a map would scan it."""
    read = slide_scan.at_target(field, extraction, mpp)
    smallest = read.window(read.smallest(extraction))
    return slide_scan.scan(read, Grid(read.size, max(1, round(smallest / 4))), extraction)


def _draw(scored: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the scored positions at random: bool [rows, columns]."""
    positions = np.flatnonzero(scored)
    drawn = np.random.default_rng(seed).permutation(positions)[:count]
    chosen = np.zeros(scored.size, bool)
    chosen[drawn] = True
    return chosen.reshape(scored.shape)


def _describe(
    scan: SlideScan,
    chosen: np.ndarray,
    name: str,
    encoder_set: EncoderSet,
    configurations: Sequence[str],
) -> list[tuple[str, np.ndarray]]:
    """Descriptors of chosen positions, float32 [P, D] by configuration."""
    rows = collections.defaultdict(list)
    for encoder_pass in passes.plan(scan, name, encoder_set, configurations, 1):
        windows = [(view, None) for view in encoder_pass.views]
        for found in sliding_window.descriptors_of_rows(encoder_pass.of_positions(chosen), windows):
            rows[found.configuration].append(found.descriptors[:, :, 0][chosen[found.rows]])
    return [(configuration, np.concatenate(parts)) for configuration, parts in rows.items()]
