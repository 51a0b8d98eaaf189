"""Two tiny networks and heat maps by them, and a map made of given numbers.

One has two layers with the strides of an encoder, the other is a vision transformer whose vectors
have signs; both take no time.
"""

import contextlib
import dataclasses
import functools
import types
from unittest import mock

import flax.linen as nn
import jax
import numpy as np

from histojax.config import Extraction, View
from histojax.encoders import CAFFE, MINUS_ONE_TO_ONE, Encoder, Tap, vit
from histojax.extraction import loaded_encoders
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.heatmap import border_correction, slide_scan, sliding_window
from histojax.heatmap.probability_map import ProbabilityMap
from histojax.heatmap.slide_scan import Grid
from histojax.images import slide
from histojax.prediction.uncertainty import Prediction


class Tiny(nn.Module):
    """Random textures at two strides, and the brightness of the image."""

    @nn.compact
    def __call__(self, images):
        normal = nn.initializers.normal(0.15)
        rows, columns = (side // 8 for side in images.shape[1:3])
        images = images[:, : rows * 8, : columns * 8]
        fine = nn.Conv(8, (5, 5), (4, 4), use_bias=False, kernel_init=normal, name="fine")
        coarse = nn.Conv(8, (3, 3), (2, 2), use_bias=False, kernel_init=normal, name="coarse")
        fine_maps = nn.relu(fine(images / 64))
        coarse_maps = nn.relu(coarse(fine_maps))
        light = images.reshape(len(images), rows, 8, columns, 8, 3).mean(axis=(2, 4))
        return {"fine": fine_maps, "coarse": coarse_maps, "light": light + 123.0}


# Its receptive field reaches 13 px to each side at most.
TINY = Encoder(
    name="Tiny",
    module=Tiny(),
    outputs=(Tap("fine", 8, stride=4), Tap("coarse", 8, stride=8), Tap("light", 3, stride=8)),
    convention=dataclasses.replace(CAFFE, bgr=False),
    first_convolution="fine",
    first_convolution_padded=True,
    last_block=("coarse",),
    tile=128,
    halo=32,
    weight_file=None,
)
TOKENS = Encoder(
    name="Tokens",
    module=vit.VisionTransformer(width=8, depth=1, heads=2, patch=8, hidden=8, grid=4),
    outputs=(Tap("class_token", 8, signed=True), Tap("patch_mean", 8, signed=True)),
    convention=MINUS_ONE_TO_ONE,
)
REASON = "positive class: malignant (reads as disease, against benign)"
LIGHT = 16  # The first of the three channels of brightness.


@functools.cache
def _variables(module: nn.Module):
    return jax.jit(module.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


def encoder_set(extraction: Extraction, encoder: Encoder = TINY) -> loaded_encoders.EncoderSet:
    """Encoders on all devices, with random variables that are not folded."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("work",))
    engine = types.SimpleNamespace(mesh=mesh, crops_at_once=lambda *_: 3)
    known = {"Tiny": encoder, "Tokens": TOKENS}
    loaded = {
        name: LoadedEncoder(known[name], _variables(known[name].module), "random, seed 0", "")
        for name in extraction.encoders
    }
    return loaded_encoders.EncoderSet(extraction, engine, loaded)


def protocol(*views: View, encoders: tuple[str, ...] = ("Tiny",), **others) -> Extraction:
    """Two augmentations, random weights."""
    return Extraction(encoders, views, augmentations=2, weights="random", **others)


def bundle(extraction: Extraction, score, classes=("benign", "malignant")) -> types.SimpleNamespace:
    """What `mean_scores` and `map_image` use of a bundle."""
    return types.SimpleNamespace(
        extraction=extraction,
        imported=False,
        configurations=extraction.configurations,
        classes=classes,
        positive=(1,),
        positive_reason=REASON,
        temperature=0.5,
        threshold=0.5,
        identity="abc",
        places=None,
        score=score,
    )


@contextlib.contextmanager
def windows_as_they_are():
    """Nothing is added to windows for the borders of crops until the end of the block."""

    def nothing(encoder_pass):
        width = encoder_pass.loaded.encoder.width
        return [np.zeros(width, np.float32)] * len(encoder_pass.views)

    with mock.patch.object(border_correction, "corrections", nothing):
        yield


def scores_of(
    rgb,
    extraction,
    score,
    stride,
    augmentations=1,
    loaded=None,
    corrected=False,
    mpp=None,
    **others,
):
    """Mean scores of the positions of a field called `a`: float64 [rows, columns, 2]."""
    arguments = rgb, extraction, score, stride, augmentations, loaded
    if not corrected:
        with windows_as_they_are():
            return scores_of(*arguments, corrected=True, mpp=mpp, **others)
    loaded = loaded or encoder_set(extraction)
    with slide.open_slide(rgb) as field:
        read = slide_scan.at_target(field, extraction, mpp)
        grid = Grid(read.size, stride)
        scan = slide_scan.scan(read, grid, extraction)
        models = bundle(extraction, score)
        return sliding_window.mean_scores(scan, "a", loaded, models, augmentations, **others)


def descriptors_of(
    rgb, extraction, stride, augmentations=1, loaded=None, corrected=False, **others
):
    """Descriptors of the scored positions in order, by configuration; and where they are."""
    by_configuration = {}

    def score(configuration, descriptors):
        by_configuration.setdefault(configuration, []).append(descriptors)
        return np.zeros((len(descriptors), 2))

    arguments = rgb, extraction, score, stride, augmentations, loaded, corrected
    scores = scores_of(*arguments, **others)
    descriptors = {name: np.concatenate(parts) for name, parts in by_configuration.items()}
    return descriptors, np.isfinite(scores[..., 0])


def darkness(_, descriptors):
    """Two scores that add up to one: how light a position is, and how dark."""
    dark = 1 - descriptors[..., LIGHT].mean(axis=1) / 255
    return np.stack([1 - dark, dark], axis=1)


def prediction(*abstain: str) -> Prediction:
    """A prediction of two classes, abstained from for these reasons."""
    return Prediction(
        image="a",
        file="a.png",
        predicted="malignant",
        probabilities={"benign": 0.29, "malignant": 0.71},
        positive_score=0.71,
        positive=True,
        spread_augmentations=0.1,
        spread_models=0.1,
        prediction_set=("malignant",),
        stain_p=0.5,
        descriptors_p=0.5,
        abstain=abstain,
    )


def map_of(
    score: np.ndarray, stride: float = 40, size: tuple[int, int] | None = None, **others
) -> ProbabilityMap:
    """A map of two classes from the probability of the second, NaN where there is glass."""
    grid = np.stack([1 - score, score]).astype(np.float32)
    size = size or tuple(round(stride * count) for count in score.shape)
    thumbnail_size = (round(size[0] / 2), round(size[1] / 2), 3)
    values = {
        "name": "a",
        "classes": ("benign", "malignant"),
        "positive": (1,),
        "positive_reason": REASON,
        "threshold": 0.5,
        "grid": grid,
        "smoothed": grid,
        "size": size,
        "stride": stride,
        "window": 4 * stride,
        "mpp": 0.5,
        "thumbnail": np.random.default_rng(0).integers(0, 255, thumbnail_size, dtype=np.uint8),
        "made_with": {
            "augmentations": 4,
            "classes": ["benign", "malignant"],
            "size_px": list(size),
            "far_by": "unknown",
            "target_mpp": 0.84,
            "neighbourhood_crops": 1.5,
        },
    }
    return ProbabilityMap(**(values | others))
