"""Heat maps: class probabilities over a grid of positions of an image of any size, and their files.

A position is treated as an image: its descriptor is the p-norm over nine windows around it, as an
image's is over its crops. The windows together are 1.5 crops wide, so a map is no sharper than
that, and positions closer than a crop share most of what their probabilities are computed from.
Windows are not turned: models are trained on every turn, and an upright field is one of them.
Windows are cut from feature maps of the whole field; for models, which are of crops, that is an
approximation, which `border_correction` improves. Encoders that make a vector of an image have no
such maps: they see crops of a lattice, see `crop_pass`.
"""

import collections
import dataclasses
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from histojax import config
from histojax.config import Runtime
from histojax.errors import InputError
from histojax.evaluation import calibration
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.heatmap import (
    answers,
    notices,
    overlay,
    page,
    passes,
    probability_map,
    regions,
    slide_scan,
    sliding_window,
    typicality,
)
from histojax.heatmap.answers import Answer
from histojax.heatmap.crop_pass import CROP_STEP
from histojax.heatmap.probability_map import ProbabilityMap
from histojax.heatmap.slide_scan import Grid
from histojax.heatmap.summary import FAILURES, PAGE, HeatmapSummary
from histojax.heatmap.tile_features import OFFSETS
from histojax.heatmap.typicality import Places
from histojax.images import slide
from histojax.images.names import Images, by_name, file_label
from histojax.images.slide import Slide, open_slide
from histojax.prediction import bundled_encoders
from histojax.prediction.bundle import Bundle
from histojax.prediction.outputs import PredictionSummary
from histojax.utils import files

_THUMBNAIL = 1200  # Longest side of the image below the pictures, px.
_DONE = "grid.json"


@dataclasses.dataclass(frozen=True)
class HeatmapOptions:
    """The options of a map.

    Attributes:
      stride: px of the file from one position to the next; None for a quarter of the smallest crop.
      augmentations: how many of the protocol's are averaged, the first ones.
      sigma: of the Gaussian that smooths the map, in positions; 0 for none.
      mpp: microns per pixel, for files that do not say it or are wrong.
      sensitivity: target of the operating point; None for the bundle's.
      crop_step: from one crop to the next for encoders that make vectors, in crops; None for
        `crop_pass.CROP_STEP`.
    """

    stride: int | None = None
    augmentations: int = 4
    sigma: float = 1.0
    mpp: float | None = None
    sensitivity: float | None = None
    crop_step: float | None = None

    def check(self) -> None:
        """Raises InputError if an option is out of range."""
        stride, augmentations, sigma = self.stride, self.augmentations, self.sigma
        if (stride is not None and stride < 1) or augmentations < 1 or not sigma >= 0:
            raise InputError(
                f"--stride is {stride}, --augmentations {augmentations}, --sigma {sigma}: expected "
                "a stride and augmentations of at least 1, and a sigma of at least 0"
            )
        if self.crop_step is not None and not 0 < self.crop_step <= 1:
            raise InputError(
                f"--crop_step is {self.crop_step}, expected above 0 and at most 1: larger "
                "ones would leave parts of the field unseen"
            )


def map_image(
    bundle: Bundle,
    source: str | Path | np.ndarray,
    options: HeatmapOptions = HeatmapOptions(),
    *,
    name: str | None = None,
    predicted: PredictionSummary | None = None,
    encoder_set: EncoderSet | None = None,
    runtime: Runtime = Runtime(),
) -> ProbabilityMap:
    """The heat map of one image.

    Args:
      bundle: the models.
      source: an image file, or uint8 RGB [H, W, 3].
      options: stride and so on.
      name: of the image, which seeds the gains; by default the file's without its ending.
      predicted: what `predict` says of the image, which the map repeats; see `answers`.
      encoder_set: the bundle's encoders, if they are loaded already.
      runtime: devices, cache, and where weights are.

    Raises:
      InputError: the image cannot be read, or is smaller than a crop; or an option is out of range.
    """
    options.check()
    encoder_set = encoder_set or bundled_encoders.load(bundle, runtime)
    passes.check_encoders(encoder_set, options.crop_step)
    source = files.as_path(source)
    with open_slide(source) as field:
        name = name or (source.stem if isinstance(source, Path) else "field")
        label = file_label(name, source if isinstance(source, Path) else Path(f"{name}.png"))
        answer = answers.answer(predicted, name, label)
        settings = _settings(bundle, field, name, encoder_set, options, answer)
        return _map_field(bundle, field, encoder_set, settings, answer)


def _settings(
    bundle: Bundle,
    field: Slide,
    name: str,
    encoder_set: EncoderSet,
    options: HeatmapOptions,
    answer: Answer,
) -> dict[str, Any]:
    """All that decides a map besides the image's pixels: the content of grid.json."""
    prediction = answer.prediction
    threshold = bundle.threshold
    if options.sensitivity is not None:
        threshold = bundle.uncertainty.threshold(options.sensitivity)
    stride, sigma = options.stride, options.sigma
    extraction, mpp = bundle.extraction, options.mpp or field.mpp
    read = slide_scan.at_target(field, extraction, mpp)
    factor, smallest = read.factor, read.window(read.smallest(extraction))
    grid = Grid(read.size, max(1, round(stride * factor if stride else smallest / 4)))
    neighbourhood = 1 + OFFSETS[-1] - OFFSETS[0]
    step, by_crops = options.crop_step or CROP_STEP, {}
    if of_crops := passes.crop_by_crop(encoder_set):
        by_crops = {"crop_by_crop": list(of_crops), "crop_step_crops": step}
        neighbourhood += step  # The nearest crop is up to half a step from where a window would be.
    uncompared = typicality.uncompared(bundle.places, step)
    stated = [view.mpp for view in extraction.views]
    in_microns = {"views_mpp": stated} if all(stated) else {}
    return {
        "image": name,
        "size_px": list(field.size),
        "mpp": mpp,
        "target_mpp": extraction.target_mpp,
        **in_microns,
        "resampled_by": factor,
        "rows_columns": list(grid.shape),
        "stride_px": grid.stride / factor,
        "first_place_px": [grid.stride / factor / 2] * 2,
        "window_px": smallest / factor,
        "neighbourhood_crops": neighbourhood,
        **by_crops,
        "least_tissue": slide_scan.LEAST_TISSUE,
        "smoothing_places": sigma,
        "augmentations": min(options.augmentations, extraction.augmentations),
        "configurations": list(bundle.configurations),
        "weights": config.as_text(extraction.weights),
        "classes": list(bundle.classes),
        "positive": [bundle.classes[k] for k in bundle.positive],
        "temperature": bundle.temperature,
        "operating_point": threshold,
        "models": bundle.identity,
        "predict_abstains": list(prediction.abstain) if prediction else answer.unpredicted,
        "far_by": "unknown" if uncompared else typicality.compared_with(bundle.places),
    }


def _map_field(
    bundle: Bundle, field: Slide, encoder_set: EncoderSet, settings: dict[str, Any], answer: Answer
) -> ProbabilityMap:
    name, stride, mpp = settings["image"], settings["stride_px"], settings["mpp"]
    read = slide_scan.at_target(field, bundle.extraction, mpp)
    grid = Grid(read.size, round(stride * read.factor))
    scan = slide_scan.scan(read, grid, encoder_set.extraction)
    crop_step = settings.get("crop_step_crops", CROP_STEP)
    uncompared = typicality.uncompared(bundle.places, crop_step)
    places = None if uncompared else Places.of_field(scan)
    scores = sliding_window.mean_scores(
        scan,
        name,
        encoder_set,
        bundle,
        settings["augmentations"],
        observe=places and places.observe,
        crop_step=crop_step,
    )
    probabilities = np.full((len(bundle.classes), *scan.scored.shape), np.nan, np.float32)
    calibrated = calibration.apply_temperature(scores[scan.scored], bundle.temperature)
    probabilities[:, scan.scored] = calibrated.T
    return ProbabilityMap(
        name=name,
        classes=bundle.classes,
        positive=bundle.positive,
        positive_reason=bundle.positive_reason,
        threshold=settings["operating_point"],
        grid=probabilities,
        smoothed=probability_map.smooth(probabilities, settings["smoothing_places"]),
        size=field.size,
        stride=stride,
        window=settings["window_px"],
        mpp=mpp,
        thumbnail=field.thumbnail(_THUMBNAIL),
        made_with=settings,
        prediction=answer.prediction,
        unpredicted=answer.unpredicted,
        far=places and places.far(bundle.places, bundle.extraction),
        uncompared=uncompared,
    )


def _write(folder: Path, heatmap: ProbabilityMap) -> None:
    """Writes a map into its folder; last grid.json, which says that the folder is complete."""
    files.write_array(folder / "grid.npy", heatmap.grid)
    for name, picture in overlay.pictures(heatmap).items():
        with files.atomic_write(folder / f"{name}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    files.write_json(folder / "regions.geojson", regions.regions(heatmap))
    untrained = "random" in heatmap.made_with["weights"]
    files.write_text(folder / PAGE, page.render(heatmap, untrained, datetime.datetime.now()))
    files.write_json(folder / _DONE, heatmap.made_with)


def map_images(
    bundle: Bundle,
    images: Images | Iterable[str | Path],
    out: str | Path,
    options: HeatmapOptions = HeatmapOptions(),
    *,
    predicted: PredictionSummary | None = None,
    strict: bool = False,
    encoder_set: EncoderSet | None = None,
    runtime: Runtime = Runtime(),
) -> HeatmapSummary:
    """Heat maps of images, each in a folder of its name below `out`; finished ones are kept.

    Args:
      bundle, options, encoder_set, runtime: as for `map_image`.
      images: image files by name, or image files, see `histojax.images.names`.
      out: where the folders go, and failures.csv, a table of the images that have no map.
      predicted: what `predict` says of the images, which maps repeat; see `answers`.
      strict: the first image that fails stops the run.

    Raises:
      InputError: an unusable folder, an option out of range, no image could be mapped, or with
        `strict` one could not.
    """
    options.check()
    out = files.as_path(out)
    files.require_writable(out)
    encoder_set = encoder_set or bundled_encoders.load(bundle, runtime)
    passes.check_encoders(encoder_set, options.crop_step)
    mapped, done_before, failed = [], [], {}
    noticed = collections.defaultdict(list)
    for name, path in by_name(images).items():
        folder, label = out / name, file_label(name, path)
        try:
            with open_slide(path) as field:
                answer = answers.answer(predicted, name, label)
                settings = _settings(bundle, field, name, encoder_set, options, answer)
                settings["file_sha256"] = slide.digest(path)
                if _is_done(folder, settings):
                    done_before.append(label)
                    continue
                heatmap = _map_field(bundle, field, encoder_set, settings, answer)
                _write(folder, heatmap)
            mapped.append(label)
            for notice in notices.of_map(heatmap):
                noticed[notice.kind].append(label)
        except InputError as error:
            if strict:
                raise
            logging.warning("no heat map: %s", error)
            failed[label] = str(error)
    files.write_csv(out / FAILURES, failed.items(), ("image", "cause"))
    if failed and not mapped and not done_before:
        first = next(iter(failed.values()))
        raise InputError(
            f"no image could be mapped: {out / FAILURES} lists {len(failed)}; the first: {first}"
        )
    return HeatmapSummary(tuple(mapped), tuple(done_before), failed, dict(noticed))


def _is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds the complete map of these settings."""
    done = folder / _DONE
    return done.exists() and not files.differences(files.read_json(done, ()), settings)
