"""Every number of a protocol, with its default, help and bounds, as fields of frozen dataclasses.

A descriptor is decided by `Extraction` (with the constants of `ops/stain.py`), a model by the folds
and by `Boosting`, `Probe` for a head, or `Finetune` for a fine-tuned encoder. `Runtime` says where
and how the work is done, and changes no result. The scripts' flags and `check` derive from the
fields, so that a new number is one field here.
"""

import dataclasses
import importlib.metadata

from histojax.config.extraction import (
    CROP_LAYOUTS,
    CROP_MODES,
    ENCODERS,
    PRECISIONS,
    Extraction,
    in_order,
    split,
)
from histojax.config.learning import BLOCKS, BOOSTS, HEADS, Boosting, EnsembleSize, Finetune, Probe
from histojax.config.options import (
    LARGEST_SEED,
    Option,
    as_text,
    check_value,
    option,
    options,
    refusal,
)
from histojax.config.runtime import Runtime
from histojax.config.views import MPP_RANGE, View

__all__ = [
    "BACH_CARCINOMA",
    "BACH_CLASSES",
    "BLOCKS",
    "BOOSTS",
    "CROP_LAYOUTS",
    "CROP_MODES",
    "ENCODERS",
    "FOLD_MAKERS",
    "HEADS",
    "LARGEST_SEED",
    "LEAST_TISSUE",
    "MPP_RANGE",
    "PAPER_VIEWS",
    "PRECISIONS",
    "PRESETS",
    "SET_POINTS",
    "STAIN_OK",
    "STAIN_STATUS",
    "STAIN_TOO_LITTLE_TISSUE",
    "UNKNOWN_GROUPS",
    "VERSION",
    "Boosting",
    "EnsembleSize",
    "Extraction",
    "Finetune",
    "Option",
    "Probe",
    "Protocol",
    "Runtime",
    "View",
    "as_text",
    "check",
    "check_value",
    "in_order",
    "option",
    "options",
    "split",
]


def _version() -> str:
    """The version that was installed, which its tag decides; pyproject.toml says how."""
    try:
        return importlib.metadata.version("histojax")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"


VERSION = _version()

# BACH's classes in the order of every array and table, and those that are carcinoma.
BACH_CLASSES = ("Normal", "Benign", "InSitu", "Invasive")
BACH_CARCINOMA = ("InSitu", "Invasive")

FOLD_MAKERS = ("stratified", "grouped", "paper")
UNKNOWN_GROUPS = ("own", "together", "train_only")
# How the stain normalisation of an image went. All but the first mean that it fell back on the
# reference stains.
STAIN_OK = "ok"
STAIN_TOO_LITTLE_TISSUE = "fallback: too little tissue"
STAIN_STATUS = (STAIN_OK, STAIN_TOO_LITTLE_TISSUE, "fallback: degenerate stain plane")

LEAST_TISSUE = 0.02  # Of an image's pixels; below it stain vectors cannot be found.

# Carcinoma scores at and above a set-point are called positive; the paper's Fig. 4.
SET_POINTS = (0.33, 0.50)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Images to models."""

    extraction: Extraction = Extraction()
    boosting: Boosting = Boosting()
    probe: Probe = Probe()
    finetune: Finetune = Finetune()

    @property
    def models(self) -> int:
        """How many models the ensemble has."""
        return len(self.extraction.configurations) * self.boosting.seeds * self.boosting.folds


PAPER_VIEWS = Extraction().views

PRESETS = {
    # What the paper's code and its Table 1 use: 300 models.
    "paper": Protocol(),
    # What the paper's text counts: 600 models.
    "paper600": Protocol(
        extraction=Extraction(views=(*PAPER_VIEWS, View(1.0, 800), View(1.0, 1300)))
    ),
    # Few images or patients: leaves follow the rows there are, and four patients fill the folds.
    "small": Protocol(
        boosting=Boosting(folds=4, boost="fast"),
        probe=Probe(folds=4, validation_parts=3),
        finetune=Finetune(folds=4, validation_parts=3),
    ),
    # Small images and untrained encoders, for a few minutes on two cores.
    "demo": Protocol(
        extraction=Extraction(
            views=(View(0.5, 96), View(0.5, 160)), augmentations=2, crops=5, weights="random"
        ),
        boosting=Boosting(folds=4, seeds=2, rounds=30),
        probe=Probe(folds=4, seeds=2, validation_parts=3),
        finetune=Finetune(folds=4, batch_crops=8, crops_per_epoch=2, epochs=3, validation_parts=3),
    ),
}


def check(protocol: Protocol) -> None:
    """Raises InputError naming the first value that makes no sense."""
    for part in dataclasses.fields(protocol):
        values = getattr(protocol, part.name)
        for name, allowed in options(values).items():
            check_value(name, getattr(values, name), allowed)
    extraction, boosting, finetune = protocol.extraction, protocol.boosting, protocol.finetune
    if boosting.boost != "paper":
        for name in ("feature_fraction", "bagging_fraction", "bagging_freq"):
            if (value := getattr(boosting, name)) != getattr(Boosting, name):
                raise refusal(name, value, f"none, since --boost={boosting.boost} has its own")
    if extraction.target_mpp and all(view.mpp for view in extraction.views):
        expected = "none, since the views state their own"
        raise refusal("target_mpp", extraction.target_mpp, expected)
    if extraction.crop_layout == "grid":
        _check_grid(extraction)
    if extraction.gain_low > extraction.gain_high:
        raise refusal("gain_low", extraction.gain_low, f"at most gain_high={extraction.gain_high}")
    if finetune.warmup_epochs >= finetune.epochs:
        expected = f"above warmup_epochs={finetune.warmup_epochs}"
        raise refusal("epochs", finetune.epochs, expected)


def _check_grid(extraction: Extraction) -> None:
    """Raises InputError where crops in a grid do not go with the rest."""
    if extraction.crop_mode != "exact":
        expected = "random, since --crop_mode=hybrid draws crops from a pool"
        raise refusal("crop_layout", "grid", expected)
    alike = extraction.gain_low == extraction.gain_high
    if extraction.augmentations > 1 and (extraction.stain_augmentation == "none" or alike):
        expected = "1, since nothing is random with --crop_layout=grid and no stain augmentation"
        raise refusal("augmentations", extraction.augmentations, expected)
