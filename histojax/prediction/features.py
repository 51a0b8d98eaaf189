"""Features of new slides, computed by others, to predictions by a bundle trained on such features.

They are imported exactly as those of the training slides were, by the recipe in the bundle.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from histojax.errors import InputError
from histojax.features import importing
from histojax.features.recipes import Recipe
from histojax.prediction import predict
from histojax.prediction.bundle import Bundle
from histojax.prediction.summary import PredictionSummary
from histojax.prediction.uncertainty import PredictionOptions
from histojax.utils import files

_EMPTY = "it has no tiles, so no features"


@dataclasses.dataclass(frozen=True)
class NewSlides:
    """Slides whose features were imported.

    Attributes:
      names: of those with descriptors of every configuration.
      failed: why others have none, by name.
    """

    names: tuple[str, ...]
    failed: dict[str, str]


def import_new(bundle: Bundle, features: Sequence[str | Path], root: str | Path) -> NewSlides:
    """Makes descriptors of new slides as a bundle's training slides have them.

    Args:
      bundle: the models.
      features: what `histojax import_descriptors` takes, such as TRIDENT's job.
      root: the folder of descriptors.

    Raises:
      InputError: the bundle is not of imported features; or there are no features of the same
        encoder, tiles and width, or no usable ones.
    """
    if not bundle.imported:
        raise InputError(
            f"{bundle.name} extracts from images and takes no features: pass the images"
        )
    paths, root = [files.as_path(path) for path in features], files.as_path(root)
    done = [
        importing.import_features(paths, root, Recipe.from_manifest(bundle.made_with[name]))
        for name in bundle.configurations
    ]
    failed = {}
    for each in done:
        for notice in each.notices:
            logging.warning("%s: %s", each.configuration, notice)
        failed |= dict.fromkeys(each.empty, _EMPTY)
        failed |= each.failures
    everywhere = set.intersection(*({*each.names} for each in done))
    somewhere = set.union(*({*each.names} for each in done))
    for name in somewhere - everywhere - failed.keys():
        lacking = ", ".join(each.configuration for each in done if name not in each.names)
        failed[name] = f"it lacks features of {lacking}"
    return NewSlides(tuple(name for name in done[0].names if name in everywhere), failed)


def predict_features(
    bundle: Bundle,
    features: Sequence[str | Path],
    out: str | Path,
    options: PredictionOptions = PredictionOptions(),
) -> PredictionSummary:
    """Imports features of new slides into OUT/descriptors, and predicts them.

    Raises:
      InputError: as for `import_new` and `predict.predict_descriptors`.
    """
    root = files.as_path(out) / "descriptors"
    new = import_new(bundle, features, root)
    return predict.predict_descriptors(
        bundle, root, out, options, names=new.names, failed=new.failed
    )
