"""Every number of a protocol and its default, as frozen dataclasses and one table of presets.

A descriptor is decided by `Extraction` (with the constants of `ops/stain.py`), a model by the folds and by `Boosting`,
`Probe` for a head, or `Finetune` for a fine-tuned encoder.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from histojax.errors import InputError

# BACH's classes in the order of every array and table, and those that are carcinoma.
BACH_CLASSES = ("Normal", "Benign", "InSitu", "Invasive")
BACH_CARCINOMA = ("InSitu", "Invasive")

ENCODERS = ("ResNet", "Inception", "VGG")
CROP_MODES = ("exact", "shared")
PRECISIONS = ("float32", "tf32", "bfloat16")
BOOSTS = ("paper", "fast")
FOLD_MAKERS = ("stratified", "grouped", "paper")
UNKNOWN_GROUPS = ("own", "together", "train_only")
HEADS = ("linear", "hidden")
BLOCKS = ("last", "all")
SHARED = "-shared"  # Ends the name of a configuration in crop mode shared.

# Carcinoma scores at and above a set-point are called positive; the paper's Fig. 4.
SET_POINTS = (0.33, 0.50)


@dataclasses.dataclass(frozen=True)
class View:
    """How an image is looked at: its scale, and the side of the square crops in pixels at that scale."""

    scale: float
    crop_size: int

    @property
    def name(self) -> str:
        """As in the authors' folder names: 0.5-400, 1.0-800."""
        return f"{self.scale}-{self.crop_size}"

    @classmethod
    def parse(cls, name: str) -> "View":
        """The view of that name; InputError where it is none."""
        scale, _, crop_size = name.partition("-")
        try:
            view = cls(float(scale), int(crop_size))
        except ValueError:
            raise InputError(
                f"view {name!r} is not of the form SCALE-CROPSIZE, such as 0.5-400"
            ) from None
        if not (0 < view.scale <= 1 and view.crop_size > 0):
            raise InputError(
                f"view {name!r}: the scale must be above 0 and at most 1, the crop size above 0"
            )
        return view


@dataclasses.dataclass(frozen=True)
class Extraction:
    """What decides a descriptor. Defaults are the paper's at scale 0.5."""

    encoders: tuple[str, ...] = ENCODERS
    views: tuple[View, ...] = (View(0.5, 400), View(0.5, 650))
    augmentations: int = 50
    crops: int = 20
    gain_low: float = 0.7
    gain_high: float = 1.3
    p: float = 3.0
    seed: int = 0
    weights: str = "imagenet"
    weights_seed: int = 0
    resnet_variant: str = "keras"
    crop_mode: str = "exact"
    precision: str = "float32"
    target_mpp: float = 0.0
    stain_normalizer: str = "macenko"
    stain_augmentation: str = "hematoxylin_eosin"

    def configuration(self, encoder: str, view: View) -> str:
        """A name such as ResNet-0.5-400, or ResNet-0.5-400-shared: the folder of descriptors, the row of the table."""
        return f"{encoder}-{view.name}" + (SHARED if self.crop_mode == "shared" else "")

    @property
    def configurations(self) -> tuple[str, ...]:
        """The names of all, encoder by encoder."""
        return tuple(
            self.configuration(encoder, view) for encoder in self.encoders for view in self.views
        )


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Where and how descriptors are computed; nothing in it decides what they are.

    Attributes:
      devices: JAX devices that share the work; None for all local ones.
      crops_per_step: crops (whole images in crop mode shared) that go through an encoder at a time,
        on all devices together; None for what memory allows, tried once and remembered in `cache`.
      pooling: `xla`, or `pallas` for the fused kernel (crop mode exact, on a GPU; interpreted, so
        slow, on a CPU).
      cache: where weights, and what was found out about devices, are kept; None for
        $HISTOJAX_CACHE or ~/.cache/histojax.
      weights_dir: folder with the official weight files, for machines without a network.
    """

    devices: tuple[Any, ...] | None = None
    crops_per_step: int | None = None
    pooling: str = "xla"
    cache: Path | None = None
    weights_dir: Path | None = None


@dataclasses.dataclass(frozen=True)
class Boosting:
    """LightGBM's parameters and the ensemble's size; what is not named here is LightGBM's default."""

    folds: int = 10
    fold_seed: int = 0
    seeds: int = 5
    rounds: int = 70
    learning_rate: float = 0.1
    num_leaves: int = 191
    max_depth: int = 7
    feature_fraction: float = 0.46
    bagging_fraction: float = 0.69
    bagging_freq: int = 0
    boost: str = "paper"


@dataclasses.dataclass(frozen=True)
class Probe:
    """Heads on frozen descriptors, trained by Adam, and the ensemble's size, which is that of the trees."""

    folds: int = Boosting.folds
    fold_seed: int = Boosting.fold_seed
    seeds: int = Boosting.seeds
    head: str = "linear"
    hidden_units: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    batch_rows: int = 128
    epochs: int = 200
    patience: int = 20
    validation_parts: int = 6


@dataclasses.dataclass(frozen=True)
class Finetune:
    """Encoders trained further on crops, by AdamW, and the ensemble's size."""

    folds: int = Boosting.folds
    fold_seed: int = Boosting.fold_seed
    seeds: int = 1
    blocks: str = "last"
    head_learning_rate: float = 1e-3
    body_learning_rate: float = 1e-5
    weight_decay: float = 1e-3
    batch_crops: int = 16
    crops_per_epoch: int = 4
    epochs: int = 10
    warmup_epochs: int = 1
    validation_parts: int = 6


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

# One line of help for each number, shown by the scripts' --help.
HELP = {
    "encoders": "encoders to use, of ResNet, Inception and VGG",
    "views": "scales and crop sizes, each SCALE-CROPSIZE with the crop's side in pixels at that scale, such as 0.5-400",
    "augmentations": "random stain augmentations per image",
    "crops": "random crops per augmentation",
    "gain_low": "lower end of the random hematoxylin and eosin gains",
    "gain_high": "upper end of the random hematoxylin and eosin gains",
    "p": "exponent of the p-norm that pools the crops: 1 is the mean, inf the maximum",
    "seed": "seed of gains and crops",
    "weights": "imagenet (official files, downloaded once) or random (untrained, for trying things out)",
    "weights_seed": "seed of random weights",
    "resnet_variant": "keras (today's, true to the paper's text) or keras2018 (true to the published descriptors)",
    "crop_mode": "exact (each crop by itself) or shared (crops are windows of one pass over the image: approximate)",
    "precision": "float32, tf32 (float32 in the matrix unit's short form) or bfloat16; averages are always float32",
    "target_mpp": "microns per pixel at scale 0.5 that images are resampled to when read (the paper's data have 0.84); "
    "0 reads them as they are",
    "stain_normalizer": "macenko, or none",
    "stain_augmentation": "hematoxylin_eosin (random gains of both stains), or none",
    "folds": "folds of the cross-validation",
    "fold_seed": "seed of the split into folds",
    "seeds": "models with different seeds per fold and configuration",
    "rounds": "boosting rounds",
    "learning_rate": "LightGBM's learning_rate, or Adam's",
    "num_leaves": "LightGBM's num_leaves",
    "max_depth": "LightGBM's max_depth",
    "feature_fraction": "LightGBM's feature_fraction",
    "bagging_fraction": "LightGBM's bagging_fraction",
    "boost": "paper (the paper's trees, bit for bit) or fast (15 bins, rows drawn anew each round)",
    "bagging_freq": "LightGBM's bagging_freq; 0, as in the paper, makes bagging inert",
    "head": "linear, or hidden (one hidden layer with ReLU)",
    "hidden_units": "units of the hidden layer",
    "weight_decay": "L2 penalty of a head's kernels (half of it times their sum of squares is added to the loss), or "
    "AdamW's decay of kernels",
    "batch_rows": "descriptors in a minibatch; each augmentation of an image is one",
    "epochs": "epochs of training, the most of them where training stops early; the best one is kept",
    "patience": "epochs without a lower validation loss after which training stops; the best epoch is kept",
    "validation_parts": "parts that the training images of a fold fall into; one of them decides which epoch is kept",
    "blocks": "last (the layers at the coarsest resolution are trained) or all",
    "head_learning_rate": "AdamW's peak learning rate of the new head",
    "body_learning_rate": "AdamW's peak learning rate of the encoder's trained layers",
    "batch_crops": "crops that a step of training takes",
    "crops_per_epoch": "random crops of each training image in an epoch",
    "warmup_epochs": "epochs in which learning rates rise; after them they fall to zero along a cosine",
}


def in_order(configurations: Iterable[str]) -> tuple[str, ...]:
    """Configuration names in the order of the encoders, then of scale and crop size; unknown ones last."""

    def rank(name: str) -> tuple:
        encoder, _, view = name.removesuffix(SHARED).partition("-")
        try:
            return ENCODERS.index(encoder), View.parse(view).scale, View.parse(view).crop_size, name
        except (ValueError, InputError):
            return len(ENCODERS), 0, 0, name

    return tuple(sorted(configurations, key=rank))


def check(protocol: Protocol) -> None:
    """Raises InputError naming the first value that makes no sense."""
    extraction, boosting, probe = protocol.extraction, protocol.boosting, protocol.probe
    finetune = protocol.finetune
    rules = [
        ("encoders", extraction.encoders, "at least one, none twice", unique(extraction.encoders)),
        (
            "encoders",
            extraction.encoders,
            "of ResNet, Inception, VGG",
            {*extraction.encoders} <= {*ENCODERS},
        ),
        (
            "views",
            [v.name for v in extraction.views],
            "at least one, none twice",
            unique(extraction.views),
        ),
        ("augmentations", extraction.augmentations, "at least 1", extraction.augmentations >= 1),
        ("crops", extraction.crops, "at least 1", extraction.crops >= 1),
        (
            "gain_low",
            extraction.gain_low,
            "0 to gain_high",
            0 <= extraction.gain_low <= extraction.gain_high,
        ),
        ("gain_high", extraction.gain_high, "a finite number", extraction.gain_high < float("inf")),
        ("p", extraction.p, "at least 1", extraction.p >= 1),
        ("seed", extraction.seed, "0 to 2^32 - 1", 0 <= extraction.seed < 2**32),
        (
            "weights",
            extraction.weights,
            "imagenet or random",
            extraction.weights in ("imagenet", "random"),
        ),
        ("weights_seed", extraction.weights_seed, "at least 0", extraction.weights_seed >= 0),
        (
            "resnet_variant",
            extraction.resnet_variant,
            "keras or keras2018",
            extraction.resnet_variant in ("keras", "keras2018"),
        ),
        ("crop_mode", extraction.crop_mode, "exact or shared", extraction.crop_mode in CROP_MODES),
        (
            "precision",
            extraction.precision,
            "float32, tf32 or bfloat16",
            extraction.precision in PRECISIONS,
        ),
        (
            "target_mpp",
            extraction.target_mpp,
            "0, or 0.05 to 20 microns",
            extraction.target_mpp == 0 or 0.05 <= extraction.target_mpp <= 20,
        ),
        ("folds", boosting.folds, "at least 2", boosting.folds >= 2),
        ("fold_seed", boosting.fold_seed, "0 to 2^32 - 1", 0 <= boosting.fold_seed < 2**32),
        ("seeds", boosting.seeds, "at least 1", boosting.seeds >= 1),
        ("rounds", boosting.rounds, "at least 1", boosting.rounds >= 1),
        (
            "learning_rate",
            boosting.learning_rate,
            "above 0",
            0 < boosting.learning_rate < float("inf"),
        ),
        ("num_leaves", boosting.num_leaves, "2 to 131072", 2 <= boosting.num_leaves <= 131072),
        (
            "feature_fraction",
            boosting.feature_fraction,
            "above 0, at most 1",
            0 < boosting.feature_fraction <= 1,
        ),
        (
            "bagging_fraction",
            boosting.bagging_fraction,
            "above 0, at most 1",
            0 < boosting.bagging_fraction <= 1,
        ),
        ("boost", boosting.boost, "paper or fast", boosting.boost in BOOSTS),
        ("bagging_freq", boosting.bagging_freq, "at least 0", boosting.bagging_freq >= 0),
        ("folds", probe.folds, "at least 2", probe.folds >= 2),
        ("fold_seed", probe.fold_seed, "0 to 2^32 - 1", 0 <= probe.fold_seed < 2**32),
        ("seeds", probe.seeds, "at least 1", probe.seeds >= 1),
        ("head", probe.head, "linear or hidden", probe.head in HEADS),
        ("hidden_units", probe.hidden_units, "at least 1", probe.hidden_units >= 1),
        ("learning_rate", probe.learning_rate, "above 0", 0 < probe.learning_rate < float("inf")),
        ("weight_decay", probe.weight_decay, "0 or more", 0 <= probe.weight_decay < float("inf")),
        ("batch_rows", probe.batch_rows, "at least 1", probe.batch_rows >= 1),
        ("epochs", probe.epochs, "at least 1", probe.epochs >= 1),
        ("patience", probe.patience, "at least 1", probe.patience >= 1),
        ("validation_parts", probe.validation_parts, "at least 2", probe.validation_parts >= 2),
        ("folds", finetune.folds, "at least 2", finetune.folds >= 2),
        ("fold_seed", finetune.fold_seed, "0 to 2^32 - 1", 0 <= finetune.fold_seed < 2**32),
        ("seeds", finetune.seeds, "at least 1", finetune.seeds >= 1),
        ("blocks", finetune.blocks, "last or all", finetune.blocks in BLOCKS),
        (
            "head_learning_rate",
            finetune.head_learning_rate,
            "above 0",
            0 < finetune.head_learning_rate < float("inf"),
        ),
        (
            "body_learning_rate",
            finetune.body_learning_rate,
            "above 0",
            0 < finetune.body_learning_rate < float("inf"),
        ),
        (
            "weight_decay",
            finetune.weight_decay,
            "0 or more",
            0 <= finetune.weight_decay < float("inf"),
        ),
        ("batch_crops", finetune.batch_crops, "at least 1", finetune.batch_crops >= 1),
        ("crops_per_epoch", finetune.crops_per_epoch, "at least 1", finetune.crops_per_epoch >= 1),
        ("warmup_epochs", finetune.warmup_epochs, "at least 0", finetune.warmup_epochs >= 0),
        (
            "epochs",
            finetune.epochs,
            "above warmup_epochs",
            finetune.epochs > finetune.warmup_epochs,
        ),
        (
            "validation_parts",
            finetune.validation_parts,
            "at least 2",
            finetune.validation_parts >= 2,
        ),
    ]
    for name, value, expected, holds in rules:
        if not holds:
            shown = ",".join(value) if isinstance(value, tuple | list) else str(value)
            raise InputError(f"--{name} is {shown or 'empty'}, expected {expected}")


def unique(values: tuple) -> bool:
    return 0 < len(values) == len(set(values))
