"""Flags of ensembles: descriptors they are trained on, models or bundles, and their predictions."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from histojax.errors import InputError

from . import computing
from .flag_types import define_path

if TYPE_CHECKING:
    from histojax.images.names import Images
    from histojax.prediction.bundle import Bundle
    from histojax.prediction.uncertainty import PredictionOptions

FLAGS = flags.FLAGS


def define_descriptors() -> None:
    """Defines what an ensemble is trained on."""
    define_path(
        "descriptors",
        "Folder of descriptors that histojax extract or import_descriptors wrote.",
        required=True,
    )
    flags.DEFINE_list(
        "configurations",
        None,
        "Configurations to use, such as ResNet-0.5-400. Default: all in --descriptors.",
    )


def define_workers() -> None:
    """Defines how many processes train an ensemble of trees."""
    from histojax.learners import boost

    flags.DEFINE_integer(
        "workers", boost.default_workers(), "Training processes, of one thread each.", lower_bound=1
    )


def define_bundle() -> None:
    """Defines what predicts: --bundle, or --models with --trained_on and --positive_classes."""
    define_path("bundle", "File that histojax bundle wrote, in place of --models.")
    define_path("models", "Folder of models that histojax train or histojax probe wrote.")
    define_path("trained_on", "With --models: the folder of the training images' descriptors.")
    flags.mark_flags_as_mutual_exclusive(["bundle", "models"], required=True)
    define_positive()


def define_positive() -> None:
    """Defines which classes are positive."""
    flags.DEFINE_list(
        "positive_classes",
        [],
        "Classes that count as positive, or none. Default: BACH's InSitu and Invasive, or those "
        "whose names read as disease where every name reads as disease or as none (the guide lists "
        "the words); of two classes that do not tell, it is required.",
    )


def define_sensitivity() -> None:
    """Defines what the operating point is to reach."""
    flags.DEFINE_float(
        "sensitivity",
        0.95,
        "Sensitivity to positive classes that the operating point is chosen for, on other folds "
        "than those it is evaluated on.",
        lower_bound=0.01,
        upper_bound=1.0,
    )


def define_prediction_options() -> None:
    """Defines what is asked of predictions."""
    flags.DEFINE_float(
        "coverage",
        None,
        "Share of images whose class is to be in the prediction set. Default: 0.9, or the most "
        "that the training images' groups can promise.",
        lower_bound=0.01,
        upper_bound=0.999,
    )
    flags.DEFINE_float(
        "sensitivity",
        None,
        "Sensitivity that the operating point is to have. Default: the bundle's, or 0.95.",
        lower_bound=0.01,
        upper_bound=1.0,
    )
    flags.DEFINE_integer(
        "largest_set",
        None,
        "Classes that a prediction set may have; of larger ones the answer is abstained from. "
        "Default: half of all classes.",
        lower_bound=1,
    )


def require_one_of(*names: str) -> None:
    """Requires at least one of several flags, and --help marks them as required."""
    listed = ", ".join(f"--{name}" for name in names[:-1])

    def check(values: dict[str, Any]) -> bool:
        if not any(values.values()):
            raise flags.ValidationError(f"pass one of {listed} or --{names[-1]}")
        return True

    flags.register_multi_flags_validator(names, check)


def configurations() -> tuple[str, ...]:
    """Those of --configurations, or all that --descriptors holds.

    Raises:
      InputError: it holds none, or not those.
    """
    from histojax.extraction import store

    folder, there = FLAGS.descriptors, store.configurations(FLAGS.descriptors)
    if not there:
        raise InputError(
            f"{folder} holds no descriptors: run histojax extract first, or import_descriptors"
        )
    in_any_case = {name.lower(): name for name in there}
    wanted = [in_any_case.get(name.lower(), name) for name in FLAGS.configurations or ()]
    if unknown := sorted({*wanted} - {*there}):
        raise InputError(
            f"{folder} has no descriptors of {', '.join(unknown)}; it has {', '.join(there)}"
        )
    return tuple(wanted or there)


def imported_slides(configurations: Iterable[str]) -> "Images | None":
    """The slides of --descriptors where these were imported, which --data then names; else None."""
    from histojax.extraction import manifests

    return manifests.imported_slides(FLAGS.descriptors, configurations)


@contextlib.contextmanager
def split_kept_with_models(models: Path) -> Iterator[None]:
    """Removes the split made in the block, and its record, where it fails before there is a model.

    A run with other flags would otherwise be refused because of it.
    """
    from histojax.learners import ensembles

    split = models / ensembles.FOLDS
    made = [split, split.with_suffix(".json"), models / ensembles.MANIFEST]
    made = [path for path in made if not path.exists()]
    try:
        yield
    except InputError:
        if not any(models.rglob("seed*-fold*")):
            for path in made:
                path.unlink(missing_ok=True)
        raise


def print_doubts(models: Path) -> None:
    """Prints what makes an ensemble doubtful, if anything does: what is missing, too."""
    from histojax.evaluation import evaluate

    try:
        doubts = evaluate.doubts(models)
    except InputError as error:
        doubts = [str(error)]
    for line in doubts:
        print(f"warning: {line}")


def bundle() -> "Bundle":
    """The models of --bundle or --models.

    Raises:
      InputError: they are unusable, or a flag does not go with --bundle or with its encoders.
    """
    made = _bundle()
    if FLAGS.encoders:
        _check_modules(made)
    return made


def _check_modules(made: "Bundle") -> None:
    """Raises InputError where --encoders has a module that the models do not need."""
    made_with = [manifest for manifest in made.made_with.values() if manifest]
    known = {manifest["protocol"]["encoder"] for manifest in made_with}
    if others := sorted({*computing.load_modules()} - known):
        raise InputError(
            f"--encoders names {', '.join(others)}, expected of the encoders of {made.name}: "
            f"{', '.join(sorted(known)) or 'not known'}"
        )


def _bundle() -> "Bundle":
    from histojax.prediction.bundle import from_models, load

    if not FLAGS.bundle:
        made = from_models(FLAGS.models, FLAGS.positive_classes, descriptors=FLAGS.trained_on)
        print(made.positive_reason)
        return made
    if clashing := [name for name in ("trained_on", "positive_classes") if FLAGS[name].value]:
        raise InputError(f"--{clashing[0]} goes with --models: a bundle has its own")
    return load(FLAGS.bundle)


def prediction_options() -> "PredictionOptions":
    """The values of those flags."""
    from histojax.prediction.uncertainty import PredictionOptions

    return PredictionOptions(FLAGS.coverage, FLAGS.sensitivity, FLAGS.largest_set)
