"""The same in a notebook: `histojax.load_bundle(path)` gives a model that predicts images, and maps them.

Encoders are loaded, and programs compiled, at the first image, and kept for the next.
"""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from histojax.config import Runtime
from histojax.datasets import unlabelled
from histojax.errors import InputError
from histojax.prediction import bundle, predict
from histojax.prediction.bundle import Bundle
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.utils import files

if TYPE_CHECKING:
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

    @property
    def classes(self) -> tuple[str, ...]:
        """K names, in the order of all probabilities."""
        return self.bundle.classes

    @functools.cached_property
    def encoder_set(self) -> "EncoderSet":
        """The encoders, on their devices."""
        return predict.load_encoders(self.bundle, self.runtime)

    def predict(
        self,
        images: Source | Sequence[Source],
        *,
        names: Sequence[str] | None = None,
        mpp: float | None = None,
        coverage: float = PredictionOptions.coverage,
        sensitivity: float | None = None,
        largest_set: int | None = None,
    ) -> list[Prediction]:
        """Predicts images, in their order.

        Args:
          images: a folder, an image, a list of images (.txt, .csv), or uint8 RGB [H, W, 3]; or several of these. Arrays
            are predicted as if they were files.
          names: of arrays, by which their crops are drawn; image0, image1, ... by default. The same name and pixels
            have the same prediction.
          mpp: microns per pixel of the images, where files do not tell.
          coverage: share of images whose class shall be in the prediction set.
          sensitivity: that the operating point is to have; by default the bundle's.
          largest_set: classes that a set may have before the answer is abstained from; by default half of all.

        Returns:
          What is said of each; see `histojax.prediction.uncertainty.Prediction`.

        Raises:
          InputError: an image that cannot be predicted, or wishes that make no sense.
        """
        with tempfile.TemporaryDirectory(prefix="histojax-") as folder:
            paths = self.paths(images, names, Path(folder) / "images")
            outcome = predict.predict_images(
                self.bundle,
                paths,
                Path(folder),
                options=PredictionOptions(coverage, sensitivity, largest_set),
                mpp=mpp,
                strict=True,
                encoder_set=self.encoder_set,
            )
        found = {prediction.image: prediction for prediction in outcome.predictions}
        return [found[path.stem] for path in paths]

    def heatmap(
        self, image: Source, *, name: str | None = None, **options: Any
    ) -> "ProbabilityMap":
        """Where in an image each class is: class probabilities over a grid of places.

        Args:
          image: a path, or uint8 RGB [H, W, 3].
          name: of the image, which seeds the gains; by default the file's without its ending.
          options: stride, augmentations, sigma and mpp, as for `histojax.heatmap.heatmap.HeatmapOptions`.

        Raises:
          InputError: the image cannot be read, or is smaller than a crop.
        """
        from histojax.heatmap import heatmap

        source = image if isinstance(image, np.ndarray) else files.as_path(str(image))
        return heatmap.map_image(
            self.bundle,
            source,
            heatmap.HeatmapOptions(**options),
            name=name,
            encoder_set=self.encoder_set,
        )

    def paths(
        self, images: Source | Sequence[Source], names: Sequence[str] | None, folder: Path
    ) -> tuple[Path, ...]:
        """The images as files: arrays are written into a folder, as PNG, which keeps every pixel."""
        several = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
        arrays = [image for image in several if isinstance(image, np.ndarray)]
        chosen = iter(names or [f"image{i}" for i in range(len(arrays))])
        if names is not None and len(names) != len(arrays):
            raise InputError(f"{len(names)} names for {len(arrays)} arrays: expected one each")
        if not several:
            raise InputError("there is no image to predict")
        sources = [
            written(image, folder / f"{next(chosen)}.png")
            if isinstance(image, np.ndarray)
            else files.as_path(str(image))
            for image in several
        ]
        return unlabelled.find_images(sources)


def written(image: np.ndarray, path: Path) -> Path:
    """Writes uint8 RGB [H, W, 3] as PNG; InputError for another array."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"an image is {image.dtype} {image.shape}, expected uint8 RGB (height, width, 3)"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def load(path: str | Path, runtime: Runtime = Runtime()) -> Model:
    """Opens a bundle, all of it checked.

    Args:
      path: the file that histojax bundle wrote.
      runtime: devices, crops a step, and where weights are.

    Raises:
      InputError: it is no bundle, of another version, altered, cut short, or lacks a part.
    """
    return Model(bundle.load(files.as_path(str(path))), runtime)
