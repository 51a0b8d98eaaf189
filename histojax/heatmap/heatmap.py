"""Heat maps: class probabilities over a grid of positions of an image of any size, and their files.

A position is treated as an image: its descriptor is the p-norm over nine windows around it, as an
image's is over its crops. The windows together are 1.5 crops wide, so a map is no sharper than
that, and positions closer than a crop share most of what their probabilities are computed from.
Windows are not turned: models are trained on every turn, and an upright field is one of them.
Windows are cut from feature maps of the whole field, as in crop mode shared; for models of exact
crops that is an approximation, which `border_correction` improves.
"""

import dataclasses
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from histojax.config import Runtime
from histojax.errors import InputError
from histojax.evaluation import calibration
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.heatmap import overlay, probability_map, slide_scan, sliding_window
from histojax.heatmap.probability_map import ProbabilityMap
from histojax.heatmap.slide_scan import Grid
from histojax.heatmap.tile_features import OFFSETS
from histojax.images import slide
from histojax.images.names import Images, by_name, file_label
from histojax.images.slide import Slide, open_slide
from histojax.prediction import predict
from histojax.prediction.bundle import Bundle
from histojax.utils import files

_THUMBNAIL = 1200  # Longest side of the image below the pictures, px.
_DONE = "grid.json"
_PAGE = "overview.html"
_FAILURES = "failures.csv"


@dataclasses.dataclass(frozen=True)
class HeatmapOptions:
    """The options of a map.

    Attributes:
      stride: px of the file from one position to the next; None for a quarter of the smallest crop.
      augmentations: how many of the protocol's are averaged, the first ones.
      sigma: of the Gaussian that smooths the map, in positions; 0 for none.
      mpp: microns per pixel, for files that do not say it or are wrong.
    """

    stride: int | None = None
    augmentations: int = 4
    sigma: float = 1.0
    mpp: float | None = None

    def check(self) -> None:
        """Raises InputError if an option is out of range."""
        stride, augmentations, sigma = self.stride, self.augmentations, self.sigma
        if (stride is not None and stride < 1) or augmentations < 1 or not sigma >= 0:
            raise InputError(
                f"--stride is {stride}, --augmentations {augmentations}, --sigma {sigma}: expected "
                "a stride and augmentations of at least 1, and a sigma of at least 0"
            )


def map_image(
    bundle: Bundle,
    source: str | Path | np.ndarray,
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
      encoder_set: the bundle's encoders, if they are loaded already.
      runtime: devices, cache, and where weights are.

    Raises:
      InputError: the image cannot be read, or is smaller than a crop; or an option is out of range.
    """
    options.check()
    encoder_set = encoder_set or predict.load_encoders(bundle, runtime)
    source = files.as_path(source)
    with open_slide(source) as field:
        name = name or (source.stem if isinstance(source, Path) else "field")
        return _map_field(bundle, field, encoder_set, _settings(bundle, field, name, options))


def _settings(bundle: Bundle, field: Slide, name: str, options: HeatmapOptions) -> dict[str, Any]:
    """All that decides a map besides the image's pixels: the content of grid.json."""
    stride, sigma = options.stride, options.sigma
    extraction, mpp = bundle.extraction, options.mpp or field.mpp
    resampled, factor = slide_scan.at_target(field, extraction, mpp)
    smallest = min(view.crop_size / view.scale for view in extraction.views)
    grid = Grid(resampled.size, max(1, round(stride * factor if stride else smallest / 4)))
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
        "least_tissue": slide_scan.LEAST_TISSUE,
        "smoothing_places": sigma,
        "augmentations": min(options.augmentations, extraction.augmentations),
        "configurations": list(bundle.configurations),
        "weights": extraction.weights,
        "classes": list(bundle.classes),
        "positive": [bundle.classes[k] for k in bundle.positive],
        "temperature": bundle.temperature,
        "operating_point": bundle.threshold,
        "models": bundle.identity,
    }


def _map_field(
    bundle: Bundle, field: Slide, encoder_set: EncoderSet, settings: dict[str, Any]
) -> ProbabilityMap:
    name, stride, mpp = settings["image"], settings["stride_px"], settings["mpp"]
    resampled, factor = slide_scan.at_target(field, bundle.extraction, mpp)
    scores = sliding_window.mean_scores(
        resampled,
        name,
        encoder_set,
        bundle,
        Grid(resampled.size, round(stride * factor)),
        settings["augmentations"],
    )
    scored = np.isfinite(scores[..., 0])
    grid = np.full((len(bundle.classes), *scored.shape), np.nan, np.float32)
    grid[:, scored] = calibration.apply_temperature(scores[scored], bundle.temperature).T
    return ProbabilityMap(
        name=name,
        classes=bundle.classes,
        positive=bundle.positive,
        threshold=bundle.threshold,
        grid=grid,
        smoothed=probability_map.smooth(grid, settings["smoothing_places"]),
        size=field.size,
        stride=stride,
        window=settings["window_px"],
        mpp=mpp,
        thumbnail=field.thumbnail(_THUMBNAIL),
        made_with=settings,
    )


def _write(folder: Path, heatmap: ProbabilityMap) -> None:
    """Writes a map into its folder; last grid.json, which says that the folder is complete."""
    files.write_array(folder / "grid.npy", heatmap.grid)
    pictures = overlay.pictures(heatmap)
    for name, picture in pictures.items():
        with files.atomic_write(folder / f"{name}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    files.write_json(folder / "regions.geojson", probability_map.regions(heatmap))
    untrained = heatmap.made_with["weights"] == "random"
    page = overlay.page(heatmap, pictures, untrained, datetime.datetime.now())
    files.write_text(folder / _PAGE, page)
    files.write_json(folder / _DONE, heatmap.made_with)


@dataclasses.dataclass(frozen=True)
class HeatmapSummary:
    """What a run did.

    Attributes:
      mapped: images that were mapped now.
      done_before: images whose maps were there already.
      failed: the cause, by image, for those that could not be mapped.
    """

    mapped: tuple[str, ...]
    done_before: tuple[str, ...]
    failed: dict[str, str]

    def text(self, out: Path) -> str:
        """A line for a person, and where to look."""
        before = f", {len(self.done_before)} were there already" if self.done_before else ""
        failed = f", {len(self.failed)} could not be: {out / _FAILURES}" if self.failed else ""
        return f"{len(self.mapped)} images mapped{before}{failed}\n{out / '*' / _PAGE}"


def map_images(
    bundle: Bundle,
    images: Images | Iterable[str | Path],
    out: str | Path,
    options: HeatmapOptions = HeatmapOptions(),
    *,
    strict: bool = False,
    encoder_set: EncoderSet | None = None,
    runtime: Runtime = Runtime(),
) -> HeatmapSummary:
    """Heat maps of images, each in a folder of its name below `out`; finished ones are kept.

    Args:
      bundle, options, encoder_set, runtime: as for `map_image`.
      images: image files by name, or image files, see `histojax.images.names`.
      out: where the folders go, and failures.csv, a table of the images that have no map.
      strict: the first image that fails stops the run.

    Raises:
      InputError: an unusable folder, an option out of range, no image could be mapped, or with
        `strict` one could not.
    """
    options.check()
    out = files.as_path(out)
    files.require_writable(out)
    encoder_set = encoder_set or predict.load_encoders(bundle, runtime)
    mapped, done_before, failed = [], [], {}
    for name, path in by_name(images).items():
        folder, label = out / name, file_label(name, path)
        try:
            with open_slide(path) as field:
                settings = _settings(bundle, field, name, options)
                settings["file_sha256"] = slide.digest(path)
                if _is_done(folder, settings):
                    done_before.append(label)
                    continue
                _write(folder, _map_field(bundle, field, encoder_set, settings))
            mapped.append(label)
        except InputError as error:
            if strict:
                raise
            logging.warning("no heat map: %s", error)
            failed[label] = str(error)
    files.write_csv(out / _FAILURES, failed.items(), ("image", "cause"))
    if failed and not mapped and not done_before:
        raise InputError(f"none of {len(failed)} images could be mapped: see {out / _FAILURES}")
    return HeatmapSummary(tuple(mapped), tuple(done_before), failed)


def _is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds the complete map of these settings."""
    done = folder / _DONE
    return done.exists() and not files.differences(files.read_json(done, ()), settings)
