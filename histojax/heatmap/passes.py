"""The passes over a field: which encoders see it in tiles, and which crop by crop."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from histojax.config import View
from histojax.encoders import Encoder
from histojax.errors import InputError
from histojax.extraction.loaded_encoders import EncoderSet, LoadedEncoder
from histojax.extraction.plans import Workload
from histojax.heatmap import slide_scan, tile_features
from histojax.heatmap.crop_pass import CROP_STEP, CropPass
from histojax.heatmap.encoder_pass import EncoderPass, TilePass
from histojax.heatmap.slide_scan import SlideScan
from histojax.images import padding
from histojax.ops import crops, stain


def crop_by_crop(encoder_set: EncoderSet) -> tuple[str, ...]:
    """The encoders that see a field crop by crop, because they make a vector of an image."""
    return tuple(name for name, one in encoder_set.encoders.items() if one.encoder.vectors)


def check_encoders(encoder_set: EncoderSet, crop_step: float | None = None) -> None:
    """Raises InputError where encoders cannot map a field, or have no use for a step of crops.

    Args:
      encoder_set: the encoders.
      crop_step: what the user passed; None for nothing.
    """
    if crop_step is not None and not crop_by_crop(encoder_set):
        raise InputError(
            f"--crop_step is for encoders that make a vector of a crop, but "
            f"{', '.join(encoder_set.encoders)} make maps, of which windows are taken: leave it out"
        )
    for loaded in encoder_set.encoders.values():
        encoder = loaded.encoder
        if encoder.vectors:
            continue
        strides, cell = [tap.stride for tap in encoder.outputs], tile_features.cell_size(encoder)
        if slide_scan.SQUARE % cell or any(cell % stride for stride in strides):
            raise InputError(
                f"heat maps need taps whose strides divide one another and {slide_scan.SQUARE} px, "
                f"but {encoder.name} has {', '.join(map(str, strides))}: predict without them "
                "(histojax mine: --noheatmaps)"
            )


def plan(
    scan: SlideScan,
    name: str,
    encoder_set: EncoderSet,
    configurations: Sequence[str],
    augmentations: int,
    crop_step: float = CROP_STEP,
) -> list[EncoderPass]:
    """The passes over a field, by encoder and scale, or view.

    Args:
      scan: the scanned field.
      name: of the image, which seeds the gains.
      encoder_set: the encoders, and the protocol the models were trained with.
      configurations: those that have models.
      augmentations: how many of the protocol's, the first ones.
      crop_step: of `crop_pass`, in crops.
    """
    extraction = encoder_set.extraction
    key = crops.image_key(extraction.seed, name)
    low, high = extraction.gain_low, extraction.gain_high
    count = stain.AUGMENTATIONS[extraction.stain_augmentation].gains
    draw = jax.vmap(lambda augmentation: crops.gains(key, augmentation, low, high, count))
    gains = np.asarray(draw(jnp.arange(min(augmentations, extraction.augmentations))))
    stains = {resolution: scan.stains(resolution, extraction) for resolution in scan.scales}
    passes = []
    for loaded in encoder_set.encoders.values():
        encoder = loaded.encoder
        views = [
            view
            for view in extraction.views_of(encoder.name)
            if extraction.configuration(encoder.name, view) in configurations
        ]
        for together in _together(views, encoder):
            kind = TilePass
            if encoder.vectors:
                at_once = _crops_at_once(encoder_set, loaded, together)
                kind = functools.partial(CropPass, crop_step=crop_step, at_once=at_once)
            passes.append(
                kind(
                    scan=scan,
                    extraction=extraction,
                    loaded=loaded,
                    mesh=encoder_set.engine.mesh,
                    views=together,
                    positions=scan.scored,
                    stains=stains[together[0].resolution],
                    key=key,
                    gains=gains,
                )
            )
    return passes


def _together(views: Sequence[View], encoder: Encoder) -> list[tuple[View, ...]]:
    """Views that share a pass: those of one scale, if their crops are windows of the same maps."""
    if encoder.vectors:
        return [(view,) for view in views]
    resolutions = padding.by_resolution(views)
    return [tuple(v for v in views if v.resolution == resolution) for resolution in resolutions]


def _crops_at_once(encoder_set: EncoderSet, loaded: LoadedEncoder, views: tuple[View, ...]) -> int:
    """As many as extraction takes: crops on each device."""
    crop = (views[0].crop_size,) * 2
    workload = Workload(loaded.encoder, encoder_set.extraction, views, canvas=crop)
    return encoder_set.engine.crops_at_once(workload, loaded.variables)
