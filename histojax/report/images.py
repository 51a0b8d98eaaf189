"""The images that a report shows, as JPEG data URIs, and why some are missing.

Shown are the most confident answers of each cell of the confusion matrix, the most confident
mistakes, pairs of near-duplicates, and one image of each class at every step of the pipeline, as in
the paper's Fig. 2.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from histojax.config import Extraction, View
from histojax.datasets import Dataset
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation.evaluate import Evaluation
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import provenance, store
from histojax.images import slide
from histojax.images.names import Images
from histojax.images.resampling import NO_RESAMPLING, Resampling
from histojax.images.thumbnails import SIDE, thumbnail, thumbnails
from histojax.inspection import near_duplicates, similarity, split_pairs
from histojax.inspection.near_duplicates import Pair
from histojax.inspection.split_pairs import SplitPair
from histojax.utils import ties

# At most so many thumbnails of mistakes, of one cell, and of all cells; so many pairs.
MISTAKES, CELL, ALL_CELLS, PAIRS = 24, 24, 360, 12
_PIPELINES = 4  # At most so many images at every step of the pipeline,
_AUGMENTATIONS = 4  # with so many augmentations,
_STEP_SIDE = 220  # and so many pixels along the longest side.


@dataclasses.dataclass(frozen=True)
class PipelineStep:
    """An image at one step of the pipeline; a crop has the column of its augmentation."""

    caption: str
    uri: str
    column: int


@dataclasses.dataclass(frozen=True)
class ReportImages:
    """The images of a report.

    Attributes:
      notices: a sentence each on what is missing, and why.
      thumbnails: data URIs by image name.
      pipelines: the steps of the pipeline by image name.
      pairs: near-duplicates, those that leak first; None where no search was made.
      pictures: of the first pairs, by `pair_pictures`.
      split: the images that `pairs` indexes.
    """

    notices: tuple[str, ...] = ()
    thumbnails: dict[str, str] = dataclasses.field(default_factory=dict)
    pipelines: dict[str, list[PipelineStep]] = dataclasses.field(default_factory=dict)
    pairs: tuple[SplitPair, ...] | None = None
    pictures: tuple[tuple[str, str], ...] = ()
    split: Folds | None = None


def by_cell(predictions: LabelledPredictions) -> dict[tuple[int, int], list[int]]:
    """Indices of the images in each cell (truth, predicted), the most confident answers first."""
    cells = collections.defaultdict(list)
    for i in _most_confident_first(predictions, np.arange(len(predictions.names))):
        cells[int(predictions.truth[i]), int(predictions.predicted[i])].append(int(i))
    return dict(cells)


def mistakes(predictions: LabelledPredictions) -> list[int]:
    """Indices of the images with a wrong answer, the most confident first."""
    wrong = np.flatnonzero(predictions.truth != predictions.predicted)
    return _most_confident_first(predictions, wrong).tolist()


def _most_confident_first(predictions: LabelledPredictions, indices: np.ndarray) -> np.ndarray:
    """Indices by falling confidence; in their own order where there are no scores."""
    if predictions.scores is None:
        return indices
    confidence = ties.merge(predictions.scores[indices].max(axis=1))
    return indices[np.argsort(-confidence, kind="stable")]


def thumbnails_per_cell(cells: int) -> int:
    """How many thumbnails each of so many cells may have."""
    return min(CELL, max(1, ALL_CELLS // max(1, cells)))


def collect(
    evaluation: Evaluation, dataset: Dataset | None, descriptors: Path | None = None
) -> ReportImages:
    """The images of an evaluation, from its labelled data set, where it is known.

    Args:
      evaluation: it.
      dataset: the images; None where they are not there.
      descriptors: the folder of their descriptors, which knows the pixel sizes that they had.
    """
    if provenance.are_imported(evaluation.ensemble.extractions):
        return ReportImages(("Features were imported, so there are no images to show.",))
    if dataset is None:
        return ReportImages(("Pass --data to see the images, not only their names.",))
    paths = dataset.images
    predictions = evaluation.out_of_fold.predictions
    cells = by_cell(predictions)
    most = thumbnails_per_cell(len(cells))
    indices = [i for cell in cells.values() for i in cell[:most]]
    indices += mistakes(predictions)[:MISTAKES]
    duplicates = _find_duplicates(evaluation.ensemble.folds, paths)
    names = [predictions.names[i] for i in indices]
    wanted = {name: paths[name] for name in names if name in paths}
    uris = thumbnails(wanted)
    notices = list(duplicates.notices)
    if unreadable := [name for name in wanted if name not in uris]:
        notices.append(f"Unreadable ({len(unreadable)}): {_some(unreadable)}.")
    pixel_sizes = store.pixel_sizes(descriptors) if descriptors else {}
    pipelines, notice = _pipelines(evaluation, paths, pixel_sizes)
    notices += [notice] if notice else []
    return dataclasses.replace(
        duplicates, notices=tuple(notices), thumbnails=uris, pipelines=pipelines
    )


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _find_duplicates(folds: Folds, paths: Images) -> ReportImages:
    """Pairs of near-duplicates in a split, or the notice why no search was made."""
    split = folds.take(np.flatnonzero([name in paths for name in folds.names]))
    if len(split.names) < 2:
        return ReportImages()
    try:
        fingerprints = near_duplicates.fingerprints([paths[name] for name in split.names])
    except InputError as error:
        return ReportImages((f"The search for near-duplicates failed: {error}",))
    pairs = split_pairs.pairs_in_split(near_duplicates.find_pairs(fingerprints), split)
    shown = [in_split.pair for in_split in pairs[:PAIRS]]
    pictures = [
        pair_pictures(pair, *(paths[split.names[i]] for i in (pair.first, pair.second)), SIDE)
        for pair in shown
    ]
    return ReportImages(pairs=pairs, pictures=tuple(pictures), split=split)


def pair_pictures(pair: Pair, first: Path, second: Path, side: int) -> tuple[str, str]:
    """Thumbnails of the files of a pair, the second laid on the first: data URIs.

    Args:
      pair: by `near_duplicates`, of fingerprints of these files.
      first: the file of the first image.
      second: that of the second.
      side: the longest side of a thumbnail, px.
    """
    one, other = slide.read_small(first), slide.read_small(second)
    aligned = similarity.warp(other, pair.transform, one.shape[:2])
    return thumbnail(one, side), thumbnail(aligned, side)


def _pipelines(
    evaluation: Evaluation, paths: Images, pixel_sizes: dict[str, float]
) -> tuple[dict[str, list[PipelineStep]], str]:
    """The pipeline of the first image of each class, and a notice where it cannot be shown."""
    protocols = [protocol(manifest) for manifest in evaluation.ensemble.extractions.values()]
    first = [protocols[0][name] for name in ("scale", "mpp")] if protocols else []
    protocols = [other for other in protocols if [other["scale"], other["mpp"]] == first]
    predictions, pipelines = evaluation.out_of_fold.predictions, {}
    for k in range(len(predictions.classes)):
        of_class = [predictions.names[i] for i in np.flatnonzero(predictions.truth == k)]
        name = next((name for name in of_class if name in paths), None)
        if name is None or len(pipelines) == _PIPELINES:
            continue
        try:
            pipelines[name] = pipeline_steps(name, paths[name], protocols, pixel_sizes.get(name))
        except InputError as error:
            return pipelines, f"The pipeline cannot be shown: {error}"
        except ImportError:
            return {}, "The pipeline cannot be shown: that needs jax, which is not installed."
    return pipelines, ""


def protocol(manifest: dict[str, Any] | None) -> dict[str, Any]:
    """The extraction protocol of a manifest; the paper's where there is none."""
    paper = Extraction()
    fields = (
        "seed augmentations crops crop_layout gain_low gain_high crop_mode pool_crops "
        "stain_normalizer stain_augmentation"
    )
    default = {name: getattr(paper, name) for name in fields.split()}
    default |= dataclasses.asdict(paper.views[0])
    return default | (manifest["protocol"] if manifest else {})


def pipeline_steps(
    name: str, path: Path, protocols: list[dict[str, Any]], pixel_size: float | None = None
) -> list[PipelineStep]:
    """An image as it is, normalised, augmented and cropped, by the random numbers of extraction.

    Args:
      name: of the image, which seeds the random numbers.
      path: its file.
      protocols: of configurations at one scale, from `protocol`; each crop size is shown.
      pixel_size: microns per pixel of the image; None to take what its file says.

    Raises:
      InputError: the image cannot be read.
    """
    # Imported here, since a report can be written without jax, and then lacks these images.
    import jax.numpy as jnp

    from histojax.ops import crops, stain

    prepare, place, cut = _programs()
    first = protocols[0]
    rgb, key = _read(path, first["mpp"], pixel_size), crops.image_key(first["seed"], name)
    normalized, augmented, gains = prepare(
        jnp.asarray(rgb),
        key,
        (first["gain_low"], first["gain_high"]),
        scale=first["scale"],
        count=min(_AUGMENTATIONS, first["augmentations"]),
        normalizer=stain.NORMALIZERS[first["stain_normalizer"]],
        augmentation=stain.AUGMENTATIONS[first["stain_augmentation"]],
    )
    steps = [
        PipelineStep("original", thumbnail(rgb, _STEP_SIDE), 1),
        PipelineStep(
            "not normalised" if first["stain_normalizer"] == "none" else "normalised",
            thumbnail(np.asarray(normalized), _STEP_SIDE),
            2,
        ),
    ]
    for i, planes in enumerate(augmented):
        caption = f"augmentation {i + 1}"
        if first["stain_augmentation"] == "hematoxylin_eosin":
            caption += f": hematoxylin × {gains[i][0]:.2f}, eosin × {gains[i][1]:.2f}"
        steps.append(PipelineStep(caption, thumbnail(_as_rgb(planes), _STEP_SIDE), 3 + i))
    image_size = normalized.shape[:2]
    drawn = first["crops"], first["pool_crops"] if first["crop_mode"] == "hybrid" else None
    drawn = "grid" if first["crop_layout"] == "grid" else drawn
    sizes = {other["crop_size"] for other in protocols}
    for size in sorted(size for size in sizes if size <= min(image_size)):
        for i, planes in enumerate(augmented):
            crop = cut(planes, *place(key, i, np.array(image_size), size, drawn), size=size)
            caption = f"{size} px crop of augmentation {i + 1}"
            steps.append(PipelineStep(caption, thumbnail(_as_rgb(crop), SIDE), 3 + i))
    return steps


def _read(path: Path, mpp: float | None, pixel_size: float | None) -> np.ndarray:
    """An image as extraction reads it for a view, as far as its pixel size is known."""
    if mpp is None:
        return NO_RESAMPLING.read(path)
    if not (pixel_size or slide.pixel_size(path)):
        raise InputError(f"{path} does not say its pixel size")
    enlarging = Extraction(most_enlarged=math.inf)
    return Resampling.of(enlarging, pixel_size, View.in_microns(mpp, 1)).read(path)


@functools.cache
def _programs() -> tuple[Callable, Callable, Callable]:
    """Compiled: an image to its normalised and augmented forms, a crop's place, and its cut."""
    import jax

    from histojax.ops import crops, resize

    @functools.partial(jax.jit, static_argnames=("scale", "count", "normalizer", "augmentation"))
    def prepare(rgb, key, limits, *, scale, count, normalizer, augmentation):
        normalized, _ = normalizer.normalize(resize.downscale(rgb, scale))
        planes = augmentation.planes(normalized)
        gains = [crops.gains(key, i, *limits, augmentation.gains) for i in range(count)]
        return normalized, [augmentation.apply(planes, each) for each in gains], gains

    @functools.partial(jax.jit, static_argnums=4)
    def place(key, i, image_size, size, drawn):
        if drawn == "grid":  # The one in the middle.
            middle = math.prod(crops.tile_counts(image_size, size)) // 2
            return crops.tile_corner(middle, image_size, size), crops.NO_TURN
        count, pool = drawn
        if pool is None:
            return crops.corner_and_turn(key, i, 0, image_size, size)
        return crops.pool_corner_and_turn(
            key, crops.choose(key, i, count, pool)[0], image_size, size
        )

    return prepare, place, jax.jit(crops.cut, static_argnames="size")


def _as_rgb(planes: Any) -> np.ndarray:
    """Whole grey levels [3, H, W] -> uint8 [H, W, 3]."""
    return np.moveaxis(np.asarray(planes), 0, -1).astype(np.uint8)
