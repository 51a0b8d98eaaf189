"""Where in the image: class probabilities over a grid of places of a field of any size, and what is written of them.

A place is asked about as if it were an image: its descriptor is the p-norm over nine windows about it, as an image's
is over its crops. Together they are 1.5 crops wide, so the map is no sharper than that, and places closer than a crop
share most of what they are judged by. There are no turns: the models saw every turn, and an upright field is one of
them. Windows are of one trunk pass, as in crop mode shared; to models of exact crops that is an approximation.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image
from scipy import ndimage

from histojax.config import Runtime
from histojax.errors import InputError
from histojax.evaluation import calibration
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.heatmap import overlay, slide_scan, sliding_window
from histojax.heatmap.probability_map import ProbabilityMap, regions_of
from histojax.heatmap.slide_scan import Grid
from histojax.heatmap.tile_features import OFFSETS
from histojax.images import slide
from histojax.prediction import predict
from histojax.prediction.bundle import Bundle
from histojax.utils import files

THUMBNAIL = 1200  # Longest side of what the map is laid over, px.
DONE, PAGE, FAILURES = "grid.json", "overview.html", "failures.csv"


@dataclasses.dataclass(frozen=True)
class HeatmapOptions:
    """What may be chosen of a map.

    Attributes:
      stride: px of the file from one place to the next; None for a quarter of the smallest crop.
      augmentations: how many of the protocol's to average over, the first ones.
      sigma: of the smoothing, in places; 0 for none.
      mpp: microns per pixel, where a file does not say it or is wrong.
    """

    stride: int | None = None
    augmentations: int = 4
    sigma: float = 1.0
    mpp: float | None = None


def map_image(
    bundle: Bundle,
    source: Path | np.ndarray,
    options: HeatmapOptions = HeatmapOptions(),
    *,
    name: str | None = None,
    encoder_set: EncoderSet | None = None,
    runtime: Runtime = Runtime(),
) -> ProbabilityMap:
    """The heat map of one image.

    Args:
      bundle: the models.
      source: an image file, or uint8 RGB [H, W, 3].
      options: stride and so on.
      name: of the image, which seeds the gains; by default the file's without its ending.
      encoder_set: the bundle's encoders, where they are loaded already.
      runtime: devices, crops a step, pooling, and where weights are.

    Raises:
      InputError: the image cannot be read, or is smaller than a crop; or a wish makes no sense.
    """
    encoder_set = encoder_set or predict.load_encoders(bundle, runtime)
    with slide.open_slide(source) as field:
        name = name or (source.stem if isinstance(source, Path) else "field")
        return map_field(bundle, field, encoder_set, _settings(bundle, field, name, options))


def _settings(
    bundle: Bundle, field: slide.Slide, name: str, options: HeatmapOptions
) -> dict[str, Any]:
    """All that decides a map beside the image's pixels: what grid.json says."""
    if (
        not (options.stride is None or options.stride >= 1)
        or options.augmentations < 1
        or not options.sigma >= 0
    ):
        raise InputError(
            f"{options}: expected a stride and augmentations of at least 1, and a sigma of at least 0"
        )
    extraction, mpp = bundle.extraction, options.mpp or field.mpp
    seen, factor = slide_scan.at_target(field, extraction, mpp)
    smallest = min(view.crop_size / view.scale for view in extraction.views)
    grid = Grid(
        seen.size, max(1, round(options.stride * factor if options.stride else smallest / 4))
    )
    return {
        "image": name,
        "size_px": list(field.size),
        "mpp": mpp,
        "target_mpp": extraction.target_mpp,
        "resampled_by": factor,
        "rows_columns": list(grid.shape),
        "stride_px": grid.stride / factor,
        "first_place_px": [grid.stride / factor / 2] * 2,
        "window_px": smallest / factor,
        "neighbourhood_crops": 1 + OFFSETS[-1] - OFFSETS[0],
        "least_tissue": sliding_window.LEAST_TISSUE,
        "smoothing_places": options.sigma,
        "augmentations": min(options.augmentations, extraction.augmentations),
        "configurations": list(bundle.configurations),
        "weights": extraction.weights,
        "classes": list(bundle.classes),
        "positive": [bundle.classes[k] for k in bundle.positive],
        "temperature": bundle.temperature,
        "operating_point": bundle.threshold,
        "models": bundle.identity,
    }


def map_field(
    bundle: Bundle, field: slide.Slide, encoder_set: EncoderSet, made_with: dict[str, Any]
) -> ProbabilityMap:
    """The map of an open field, by the settings given."""
    name, stride, mpp = made_with["image"], made_with["stride_px"], made_with["mpp"]
    seen, factor = slide_scan.at_target(field, bundle.extraction, mpp)
    scores = sliding_window.mean_scores(
        seen,
        name,
        encoder_set,
        bundle.configurations,
        bundle.score,
        len(bundle.classes),
        Grid(seen.size, round(stride * factor)),
        made_with["augmentations"],
    )
    known = np.isfinite(scores[..., 0])
    grid = np.full((len(bundle.classes), *known.shape), np.nan, np.float32)
    grid[:, known] = calibration.apply_temperature(scores[known], bundle.temperature).T
    return ProbabilityMap(
        name=name,
        classes=bundle.classes,
        positive=bundle.positive,
        threshold=bundle.threshold,
        grid=grid,
        smoothed=_smoothed(grid, made_with["smoothing_places"]),
        size=field.size,
        stride=stride,
        window=made_with["window_px"],
        mpp=mpp,
        thumbnail=field.thumbnail(THUMBNAIL),
        made_with=made_with,
    )


def _smoothed(grid: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian over places, of `sigma` places, that knows only those with tissue: [K, rows, columns], NaN kept."""
    if sigma == 0:
        return grid
    known = np.isfinite(grid[0])
    weight = ndimage.gaussian_filter(known.astype(float), sigma, mode="constant")
    spread = [
        ndimage.gaussian_filter(np.where(known, each, 0.0), sigma, mode="constant") for each in grid
    ]
    return np.where(known, np.stack(spread) / np.where(known, weight, 1), np.nan).astype(np.float32)


def _write(folder: Path, shown: ProbabilityMap) -> None:
    """Writes a map into its folder: grid, pictures, regions, page; last grid.json, which says that all is there."""
    files.write_array(folder / "grid.npy", shown.grid)
    drawn = overlay.pictures(shown)
    for name, picture in drawn.items():
        with files.atomic_write(folder / f"{name}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    files.write_json(folder / "regions.geojson", regions_of(shown))
    page = overlay.page(
        shown, drawn, shown.made_with["weights"] == "random", datetime.datetime.now()
    )
    files.write_text(folder / PAGE, page)
    files.write_json(folder / DONE, shown.made_with)


@dataclasses.dataclass(frozen=True)
class HeatmapSummary:
    """What a run did: images mapped now, those mapped before, and those that could not be, with the cause."""

    mapped: tuple[str, ...]
    done_before: tuple[str, ...]
    failed: dict[str, str]

    def text(self, out: Path) -> str:
        """A line for a person, and where to look."""
        before = f", {len(self.done_before)} were there already" if self.done_before else ""
        failed = f", {len(self.failed)} could not be: {out / FAILURES}" if self.failed else ""
        return f"{len(self.mapped)} images mapped{before}{failed}\n{out / '*' / PAGE}"


def map_images(
    bundle: Bundle,
    paths: Sequence[Path],
    out: Path,
    options: HeatmapOptions = HeatmapOptions(),
    *,
    strict: bool = False,
    encoder_set: EncoderSet | None = None,
    runtime: Runtime = Runtime(),
) -> HeatmapSummary:
    """Heat maps of images, each in a folder of its name below `out`; what is there already is not made again.

    Args:
      bundle, options, encoder_set, runtime: as for `map_image`.
      paths: image files, of unique names.
      out: where the folders go, and failures.csv, a table of the images that have no map.
      strict: the first image that fails stops the run.

    Raises:
      InputError: an unusable folder, or with `strict` an image that fails.
    """
    files.require_writable(out)
    encoder_set = encoder_set or predict.load_encoders(bundle, runtime)
    made, before, failed = [], [], {}
    for path in paths:
        folder = out / path.stem
        try:
            with slide.open_slide(path) as field:
                wanted = _settings(bundle, field, path.stem, options) | {
                    "file_sha256": files.sha256(path)
                }
                if _is_done(folder, wanted):
                    before.append(path.name)
                    continue
                _write(folder, map_field(bundle, field, encoder_set, wanted))
            made.append(path.name)
        except InputError as error:
            if strict:
                raise
            logging.warning("no heat map: %s", error)
            failed[path.name] = str(error)
    files.write_csv(out / FAILURES, failed.items(), ("image", "cause"))
    return HeatmapSummary(tuple(made), tuple(before), failed)


def _is_done(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a folder holds the map that these settings make."""
    done = folder / DONE
    return done.exists() and not files.differences(files.read_json(done, ()), wanted)
