"""Predictions and heat maps in a notebook: `histojax.load_bundle(path)` gives a `Model`.

The first image loads the encoders and compiles the programs; later images reuse them.
"""

import functools
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from histojax.config import Runtime
from histojax.datasets import unlabelled
from histojax.errors import InputError
from histojax.images.names import Images, require_inside
from histojax.prediction import bundle, bundled_encoders, predict
from histojax.prediction import features as new_features
from histojax.prediction.bundle import Bundle
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.report import TEMPLATES
from histojax.utils import files, templates

if TYPE_CHECKING:
    from histojax.encoders import Encoder
    from histojax.extraction.loaded_encoders import EncoderSet
    from histojax.heatmap.probability_map import ProbabilityMap

Source = str | Path | np.ndarray


class Model:
    """A bundle that is ready to predict.

    Attributes:
      bundle: classes, protocol, models, calibration; see `histojax.prediction.bundle.Bundle`.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime = Runtime()):
        self.bundle = bundle
        self.runtime = runtime

    def __repr__(self) -> str:
        classes, configurations = ", ".join(self.classes), ", ".join(self.bundle.configurations)
        return f"<Model {self.bundle.name}: {classes}; {configurations}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """K names, in the order of all probabilities."""
        return self.bundle.classes

    @functools.cached_property
    def encoder_set(self) -> "EncoderSet":
        """The encoders, on their devices."""
        return bundled_encoders.load(self.bundle, self.runtime)

    def predict(
        self,
        images: Source | Sequence[Source],
        *,
        names: Sequence[str] | None = None,
        mpp: float | None = None,
        coverage: float | None = None,
        sensitivity: float | None = None,
        largest_set: int | None = None,
    ) -> "Predictions":
        """Predicts images, in their order.

        Args:
          images: a folder, an image, a list of images (.txt, .csv), or uint8 RGB [H, W, 3]; or
            several of these. Arrays are predicted as if they were files.
          names: of the arrays, which seed their crops; image0, image1, ... by default. The same
            name and pixels give the same prediction.
          mpp: microns per pixel, where the files do not tell.
          coverage: share of images whose class shall be in the prediction set; by default 0.9, or
            the most that the training images' groups can promise.
          sensitivity: target of the operating point; by default the bundle's.
          largest_set: number of classes above which a set makes the prediction abstain; by default
            half of all.

        Returns:
          One prediction per image, which a notebook shows as a table; see
          `histojax.prediction.uncertainty.Prediction`.

        Raises:
          InputError: there are no images, one cannot be predicted, or an option is impossible.
        """
        bundled_encoders.require(self.bundle)
        with tempfile.TemporaryDirectory(prefix="histojax-") as folder:
            found = _as_files(images, names, Path(folder) / "images")
            try:
                summary = predict.predict_images(
                    self.bundle,
                    predict.ImageFiles(found, mpp),
                    folder,
                    options=PredictionOptions(coverage, sensitivity, largest_set),
                    strict=True,
                    encoder_set=self.encoder_set,
                )
            except InputError as error:
                raise InputError(_in_python(str(error), found, folder)) from None
        by_image = {prediction.image: prediction for prediction in summary.predictions}
        return Predictions(by_image[name] for name in found)

    def predict_features(
        self,
        features: str | Path | Sequence[str | Path],
        *,
        coverage: float | None = None,
        sensitivity: float | None = None,
        largest_set: int | None = None,
    ) -> "Predictions":
        """Predicts slides by features that others computed, for models trained on such features.

        Args:
          features: what `histojax import_descriptors` takes, such as TRIDENT's job; imported as the
            training slides' were.
          coverage: as for `predict`.
          sensitivity: as for `predict`.
          largest_set: as for `predict`.

        Returns:
          One prediction per slide, by name.

        Raises:
          InputError: a slide cannot be predicted, the features are of another kind, the models are
            not of imported features, or an option is impossible.
        """
        sources = [features] if isinstance(features, str | Path) else list(features)
        options = PredictionOptions(coverage, sensitivity, largest_set)
        with tempfile.TemporaryDirectory(prefix="histojax-") as folder:
            summary = new_features.predict_features(self.bundle, sources, folder, options)
        if summary.failed:
            slide, cause = next(iter(summary.failed.items()))
            raise InputError(f"{slide} cannot be predicted: {cause}")
        return Predictions(summary.predictions)

    def heatmap(
        self, image: Source, *, name: str | None = None, predict_too: bool = True, **options: Any
    ) -> "ProbabilityMap":
        """Class probabilities over a grid of positions: where in an image each class is.

        Args:
          image: a path, or uint8 RGB [H, W, 3].
          name: of the image, which seeds the gains; by default the file's, without its suffix.
          predict_too: whether the image is predicted first, so that the map says whether `predict`
            abstains from it; that takes as long as `predict`.
          options: stride, augmentations, sigma, crop_step and mpp; see
            `histojax.heatmap.heatmap.HeatmapOptions`.

        Returns:
          The map, which a notebook shows as a picture.

        Raises:
          InputError: the image cannot be read, or is smaller than a crop.
        """
        from histojax.heatmap import answers, heatmap

        chosen = heatmap.HeatmapOptions(**options)
        with tempfile.TemporaryDirectory(prefix="histojax-") as folder:
            root = Path(folder)
            if isinstance(image, np.ndarray):
                name = require_inside(name or "field")
                path = _write_png(image, root / f"{name}.png")
            else:
                path = files.as_path(image)
                name = name or path.stem
            predicted = None
            if predict_too:
                images = predict.ImageFiles({name: path}, chosen.mpp)
                predicted = answers.predict_fields(self.bundle, images, root, self.encoder_set)
            return heatmap.map_image(
                self.bundle,
                path,
                chosen,
                name=name,
                predicted=predicted,
                encoder_set=self.encoder_set,
            )


class Predictions(list[Prediction]):
    """Predictions, in the order of their images; in a notebook, a table."""

    def _repr_html_(self) -> str:
        return templates.render(TEMPLATES, "predictions.html", predictions=self)


def load(
    path: str | Path,
    runtime: Runtime = Runtime(),
    encoders: "str | Encoder | Iterable[str | Encoder]" = (),
) -> Model:
    """Reads a bundle and verifies all of it.

    Args:
      path: the file that `histojax bundle` wrote.
      runtime: devices, crops per step, and where weights are.
      encoders: of a bundle whose encoders are not histojax's: their modules, which are run, as
        --encoders takes them, or their rows.

    Raises:
      InputError: it is no bundle, of another version, altered, cut short, or lacks a part; or an
        encoder cannot be used.
    """
    if encoders:
        from histojax.encoders import own  # Not above: it needs JAX.

        own.load_all(encoders)
    return Model(bundle.load(path), runtime)


def _in_python(text: str, found: Images, folder: str) -> str:
    """A message without temporary files, which stand for arrays, and with names for flags."""
    for name, path in found.items():
        if path.is_relative_to(folder):
            text = text.replace(str(path), name)
    return re.sub(r"--(?=[a-z])", "", text)


def _as_files(
    images: Source | Sequence[Source], names: Sequence[str] | None, folder: Path
) -> Images:
    """The images as files by name: arrays are written as PNG, which keeps every pixel."""
    if isinstance(images, Image.Image):
        raise InputError("a PIL image is no array: pass np.asarray(image.convert('RGB'))")
    sources = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
    if any(isinstance(source, str) and not source for source in sources):
        raise InputError("an empty text names no image: pass a folder, image files or arrays")
    if not sources:
        raise InputError("there are no images to predict: pass a folder, image files or arrays")
    count = sum(isinstance(source, np.ndarray) for source in sources)
    if names is not None and len(names) != count:
        raise InputError(f"{len(names)} names for {count} arrays: expected one each")
    array_names = map(require_inside, names or [f"image{i}" for i in range(count)])
    paths = [
        _write_png(source, folder / f"{next(array_names)}.png")
        if isinstance(source, np.ndarray)
        else files.as_path(source)
        for source in sources
    ]
    return unlabelled.find_images(paths)


def _write_png(image: np.ndarray, path: Path) -> Path:
    """Writes uint8 RGB [H, W, 3]; InputError for any other array."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"an image is {image.dtype} {image.shape}, expected uint8 RGB (height, width, 3)"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path
