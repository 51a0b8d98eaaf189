"""Every number of a protocol, with its default, help and bounds, as fields of frozen dataclasses.

A descriptor is decided by `Extraction` (with the constants of `ops/stain.py`), a model by the folds
and by `Boosting`, `Probe` for a head, or `Finetune` for a fine-tuned encoder. `Runtime` says where
and how the work is done, and changes no result. The scripts' flags and `check` derive from the
fields, so that a new number is one field here.
"""

import contextlib
import dataclasses
import importlib.metadata
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from histojax.errors import InputError


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

# The paper's encoders; what other encoders there are, `histojax.encoders.ENCODERS` says.
ENCODERS = ("ResNet", "Inception", "VGG")
CROP_MODES = ("exact", "hybrid")
CROP_LAYOUTS = ("random", "grid")
PRECISIONS = ("float32", "tf32", "bfloat16")
BOOSTS = ("paper", "fast", "xgboost")
FOLD_MAKERS = ("stratified", "grouped", "paper")
UNKNOWN_GROUPS = ("own", "together", "train_only")
HEADS = ("linear", "hidden")
BLOCKS = ("last", "all")
# How the stain normalisation of an image went. All but the first mean that it fell back on the
# reference stains.
STAIN_OK = "ok"
STAIN_TOO_LITTLE_TISSUE = "fallback: too little tissue"
STAIN_STATUS = (STAIN_OK, STAIN_TOO_LITTLE_TISSUE, "fallback: degenerate stain plane")

LEAST_TISSUE = 0.02  # Of an image's pixels; below it stain vectors cannot be found.

# What ends the name of a configuration, by crop mode; shared was one until histojax 0.1.
_ENDINGS = {"exact": "", "hybrid": "-hybrid", "shared": "-shared"}

# Carcinoma scores at and above a set-point are called positive; the paper's Fig. 4.
SET_POINTS = (0.33, 0.50)

LARGEST_SEED = 2**32 - 1

MPP_RANGE = (0.05, 20.0)  # Microns per pixel that images may be resampled to.


@dataclasses.dataclass(frozen=True)
class Option:
    """What a field may be, and its help.

    Attributes:
      help: sentences for --help.
      choices: the words that it may be.
      least: the smallest number, itself allowed.
      above: the number that it must be larger than.
      most: the largest number, itself allowed; infinity allows infinity, None any finite number.
      zero: whether 0 is allowed too, below `least`.
    """

    help: str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    above: float = -math.inf
    most: float | None = None
    zero: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a value of the field's type may be taken; None stands for a default."""
        if value is None:
            return True
        if isinstance(value, tuple):
            return 0 < len(value) == len(set(value))
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if not isinstance(value, int | float):
            return True
        below = value < math.inf if self.most is None else value <= self.most
        return (self.zero and value == 0) or (value >= self.least and value > self.above and below)

    @property
    def expected(self) -> str:
        """The values allowed, as an error message says it."""
        if self.choices:
            *first, last = self.choices
            return f"{', '.join(first)} or {last}"
        least, above, most = (f"{bound or 0:.10g}" for bound in (self.least, self.above, self.most))
        capped = self.most not in (None, math.inf)
        if self.above > -math.inf:
            return f"above {above}" + (f", at most {most}" if capped else "")
        if self.least > -math.inf:
            bounds = f"{least} to {most}" if capped else f"at least {least}"
            return f"0, or {bounds}" if self.zero else bounds
        return "at least one, none twice"


def option(default: Any, text: str, **bounds: Any) -> Any:
    """A field with its default, its help, and the bounds of an `Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(text, **bounds)})


def options(part: Any) -> dict[str, Option]:
    """The options of a dataclass, or of a value of one, by field name."""
    fields = dataclasses.fields(part)
    return {f.name: f.metadata["option"] for f in fields if "option" in f.metadata}


@dataclasses.dataclass(frozen=True)
class View:
    """How crops are taken: the image's scale or pixel size, and the crops' side in pixels there.

    Attributes:
      scale: of the image as it is read; 1 where the pixel size is stated.
      crop_size: side of a crop, px.
      mpp: microns per pixel that the image is resampled to when it is read; None for a scale.
    """

    scale: float
    crop_size: int
    mpp: float | None = None

    @classmethod
    def in_microns(cls, mpp: float, crop_size: int) -> "View":
        """Crops at a pixel size, in microns per pixel."""
        return cls(1.0, crop_size, mpp)

    @property
    def resolution(self) -> str:
        """What crops are cut at: a scale such as 0.5, or microns per pixel, such as 0.5mpp."""
        return str(self.scale) if self.mpp is None else f"{self.mpp}mpp"

    @property
    def name(self) -> str:
        """As in the authors' folder names: 0.5-400, 1.0-800; in microns 0.5mpp-224."""
        return f"{self.resolution}-{self.crop_size}"

    @classmethod
    def parse(cls, name: str) -> "View":
        """The view of that name; InputError where it is none."""
        resolution, _, crop_size = name.partition("-")
        number = resolution.removesuffix("mpp")
        try:
            make = cls if number == resolution else cls.in_microns
            view = make(float(number), int(crop_size))
        except ValueError:
            raise InputError(
                f"view {name!r} is not of the form SCALE-CROPSIZE or MICRONSmpp-CROPSIZE, such as "
                "0.5-400 or 0.5mpp-224"
            ) from None
        low, high = MPP_RANGE
        if view.mpp is not None and not low <= view.mpp <= high:
            raise InputError(
                f"view {name!r}: the microns per pixel must be at least {low} and at most {high}"
            )
        if not (0 < view.scale <= 1 and view.crop_size > 0):
            raise InputError(
                f"view {name!r}: the scale must be above 0 and at most 1, the crop size above 0"
            )
        return view


@dataclasses.dataclass(frozen=True)
class Extraction:
    """What decides a descriptor. Defaults are the paper's at scale 0.5.

    `weights` is a word for all encoders, `imagenet` or `random`, or (encoder, word) pairs, where
    the word may also be the SHA-256 of an encoder's variables, for those from a file.
    `Runtime.weight_files` says where the files are.

    Each encoder takes each of the views, unless `own_views` says which (encoder, view) pairs are
    taken, as for native views.
    """

    encoders: tuple[str, ...] = option(
        ENCODERS,
        "Encoders to use, by name: histojax encoders lists them; one of your own as "
        "path/to/module.py:ENCODER, see docs/extending.md.",
    )
    views: tuple[View, ...] = option(
        (View(0.5, 400), View(0.5, 650)),
        "Scales and crop sizes, each SCALE-CROPSIZE with the crop's side in pixels at that scale, "
        "or MICRONSmpp-CROPSIZE at that many microns per pixel; native takes the one that each "
        "encoder was published with; auto takes those that suit the images, as histojax "
        "inspect_data recommends them, and native ones where encoders have them.",
    )
    augmentations: int = option(50, "Random stain augmentations per image.", least=1)
    crops: int = option(20, "Random crops per augmentation.", least=1)
    gain_low: float = option(0.7, "Lower end of the random gains of the stains.", least=0)
    gain_high: float = option(1.3, "Upper end of the random gains of the stains.", least=0)
    p: float = option(
        3.0,
        "Exponent of the p-norm that pools the crops: 1 is the mean, inf the maximum. Descriptors "
        "that have signs, such as those of transformers, are always pooled by the mean.",
        least=1,
        most=math.inf,
    )
    seed: int = option(0, "Seed of gains and crops.", least=0, most=LARGEST_SEED)
    weights: str | tuple[tuple[str, str], ...] = option(
        "imagenet",
        "Weights of the encoders: imagenet, or published, takes the published files: ImageNet's, "
        "downloaded once, and those of pathology's encoders, which are looked for in --weights_dir "
        "and Hugging Face's cache (histojax encoders says where to get them); random ones are "
        "untrained, for trying things out; ENCODER=FILE takes a file of your own (Keras HDF5, "
        "safetensors, .npz, or PyTorch's). Several are separated by commas: "
        "VGG=my.h5,ResNet=imagenet.",
        choices=("imagenet", "random"),
    )
    weights_seed: int = option(0, "Seed of random weights.", least=0)
    resnet_variant: str = option(
        "keras",
        "Which ResNet-50: keras is today's, true to the paper's text; keras2018 is true to the "
        "published descriptors.",
        choices=("keras", "keras2018"),
    )
    crop_mode: str = option(
        "exact",
        "How crops are encoded: exact sends each through the encoder alone, augmentation by "
        "augmentation; hybrid sends only a pool of crops through it, and takes what the stain "
        "augmentation changes from a few passes of the whole image. Each run says how far it is "
        "from exact on the same crops.",
        choices=CROP_MODES,
    )
    pool_crops: int = option(
        13,
        "Crop mode hybrid: crops of an image and size, each encoded four times, from which every "
        "augmentation draws; with fewer, augmentations are more alike, and the mean of an image's "
        "augmentations is further from that of exact ones.",
        least=2,
    )
    gain_nodes: int = option(
        3,
        "Crop mode hybrid: gains of each stain at which the whole image is encoded; those of the "
        "augmentations are interpolated.",
        least=2,
        most=9,
    )
    precision: str = option(
        "float32",
        "Precision of the encoders: tf32 is float32 in the matrix unit's short form. Averages are "
        "always float32. On a CPU tf32 is float32, and bfloat16 pays where the processor has "
        "AVX512-BF16 (docs/performance.md has times).",
        choices=PRECISIONS,
    )
    target_mpp: float = option(
        0.0,
        "Microns per pixel, at scale 0.5, that images are resampled to when they are read (the "
        "paper's data have 0.84); 0 reads them as they are. Views in microns state their own.",
        least=MPP_RANGE[0],
        most=MPP_RANGE[1],
        zero=True,
    )
    most_enlarged: float = option(
        1.2,
        "How many times a view in microns may enlarge an image at most, which adds no detail; "
        "images that would be enlarged more are refused by name.",
        least=1,
    )
    stain_normalizer: str = option(
        "macenko",
        "Stain normalisation of each image: macenko fits its two stains and maps them to those of "
        "the reference image; none leaves colours as they are.",
    )
    stain_augmentation: str = option(
        "hematoxylin_eosin",
        "Stain augmentation: hematoxylin_eosin multiplies the amounts of both stains by random "
        "gains; none leaves colours as they are.",
    )
    crop_layout: str = option(
        "random",
        "Where crops lie: random draws --crops for each augmentation, and turns them; grid takes "
        "all that tile the image, as few as cover it, evenly spread.",
        choices=CROP_LAYOUTS,
    )
    own_views: tuple[tuple[str, View], ...] = ()

    def configuration(self, encoder: str, view: View) -> str:
        """A name such as ResNet-0.5-400-hybrid: the folder of descriptors, the row of the table."""
        return f"{encoder}-{view.name}{_ENDINGS[self.crop_mode]}"

    def weights_of(self, encoder: str) -> str:
        """The weights of an encoder: imagenet, random, or the SHA-256 of its variables.

        An encoder without a pair in `weights` has ImageNet's.
        """
        if isinstance(self.weights, str):
            return self.weights
        return dict(self.weights).get(encoder, "imagenet")

    def views_of(self, encoder: str) -> tuple[View, ...]:
        """The views that an encoder takes."""
        own = self.own_views
        return tuple(view for view in self.views if not own or (encoder, view) in own)

    @property
    def pairs(self) -> tuple[tuple[str, View], ...]:
        """Encoder and view of each configuration, encoder by encoder."""
        return tuple((name, view) for name in self.encoders for view in self.views_of(name))

    @property
    def configurations(self) -> tuple[str, ...]:
        """The names of all, encoder by encoder."""
        return tuple(self.configuration(encoder, view) for encoder, view in self.pairs)

    @property
    def crops_text(self) -> str:
        """How many crops an augmentation has, in words."""
        if self.crop_layout == "grid":
            return "all crops that tile the image"
        return f"{self.crops} crops"


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Where and how descriptors are computed; nothing in it decides what they are.

    Attributes:
      devices: JAX devices that share the work; None for all local ones.
      weight_files: (encoder, file) pairs: files that weights are taken from, in place of the
        official ones. What they hold is recorded by its SHA-256.
    """

    devices: tuple[Any, ...] | None = None
    crops_per_step: int | None = option(
        None,
        "Crops (or whole images, in crop mode hybrid) that go through an encoder at a time, on all "
        "devices together. Default: what memory allows, tried once and remembered in the cache; "
        "on a CPU eight small crops or a large one a core, which is fastest there.",
        least=1,
    )
    pooling: str | None = option(
        None,
        "What pools feature maps: xla, or the fused kernel pallas, for crop mode exact on a GPU "
        "(interpreted, so slow, on a CPU). Default: xla, unless histojax accelerator measured on "
        "this kind of device that every encoder is faster with pallas.",
        choices=("xla", "pallas"),
    )
    xla_preset: str = option(
        "none",
        "XLA's flags for the encoders' programs on a GPU, by preset: nhwc, channels last in "
        "float32 and tf32 before Hopper; cublas, matrix products by cuBLAS; triton, by Triton; "
        "tiling, the same with every tiling tried, which takes long. histojax accelerator measures "
        "which is faster.",
        choices=("none", "nhwc", "cublas", "triton", "tiling"),
    )
    cache: Path | None = option(
        None,
        "Folder for weights and for what was found out about devices. Default: $HISTOJAX_CACHE, or "
        "~/.cache/histojax.",
    )
    weights_dir: Path | None = option(
        None,
        "Folder with files of weights, for machines without a network: the official ones of "
        "ImageNet, and those of pathology's encoders, such as FOLDER/UNI2-h/pytorch_model.bin.",
    )
    weight_files: tuple[tuple[str, Path], ...] = ()
    checked: float = option(
        0.05,
        "Crop mode hybrid: the share of images, but at least three, of which an augmentation is "
        "computed exactly too, to state the error; 0 checks none.",
        least=0,
        most=1,
    )


@dataclasses.dataclass(frozen=True)
class EnsembleSize:
    """How many models an ensemble has for each configuration."""

    folds: int = option(10, "Folds of the cross-validation.", least=2)
    fold_seed: int = option(0, "Seed of the split into folds.", least=0, most=LARGEST_SEED)
    seeds: int = option(5, "Models with different seeds per fold and configuration.", least=1)


@dataclasses.dataclass(frozen=True)
class Boosting(EnsembleSize):
    """LightGBM's parameters; what is not named here is LightGBM's default."""

    rounds: int = option(70, "Boosting rounds.", least=1)
    learning_rate: float = option(0.1, "LightGBM's learning_rate.", above=0)
    num_leaves: int = option(191, "LightGBM's num_leaves.", least=2, most=131072)
    max_depth: int = option(7, "LightGBM's max_depth.")
    feature_fraction: float = option(0.46, "LightGBM's feature_fraction.", above=0, most=1)
    bagging_fraction: float = option(0.69, "LightGBM's bagging_fraction.", above=0, most=1)
    bagging_freq: int = option(
        0, "LightGBM's bagging_freq; 0, as in the paper, makes bagging inert.", least=0
    )
    boost: str = option(
        "paper",
        "Which trees are grown: paper, the paper's, bit for bit; fast, with 15 bins, a tenth of "
        "the rows for each round, a fifth of the channels for each tree, and leaves that follow "
        "the rows where they are few; xgboost, XGBoost's with such settings "
        "(requirements-xgboost.txt).",
        choices=BOOSTS,
    )

    @property
    def learner(self) -> str:
        """Which library's trees: a key of `ensembles.LEARNERS`."""
        return "xgboost" if self.boost == "xgboost" else "trees"


@dataclasses.dataclass(frozen=True)
class Probe(EnsembleSize):
    """Heads on frozen descriptors, trained by Adam."""

    head: str = option(
        "linear", "Kind of head: hidden has one hidden layer with ReLU.", choices=HEADS
    )
    hidden_units: int = option(64, "Units of the hidden layer.", least=1)
    learning_rate: float = option(1e-3, "Adam's learning rate.", above=0)
    weight_decay: float = option(
        1e-3,
        "L2 penalty of a head's kernels: half of it times their sum of squares adds to the loss.",
        least=0,
    )
    batch_rows: int = option(
        128, "Descriptors in a minibatch; each augmentation of an image is one.", least=1
    )
    epochs: int = option(200, "Epochs of training at most.", least=1)
    patience: int = option(
        20,
        "Epochs without a lower validation loss after which training stops; the best one is kept.",
        least=1,
    )
    validation_parts: int = option(
        6,
        "Parts that the training images of a fold fall into; one decides which epoch is kept.",
        least=2,
    )


@dataclasses.dataclass(frozen=True)
class Finetune(EnsembleSize):
    """Encoders trained further on crops, by AdamW."""

    seeds: int = option(1, "Models with different seeds per fold and configuration.", least=1)
    blocks: str = option(
        "last",
        "What is trained: last, the layers at the coarsest resolution, or all layers.",
        choices=BLOCKS,
    )
    head_learning_rate: float = option(1e-3, "AdamW's peak learning rate of the new head.", above=0)
    body_learning_rate: float = option(
        1e-5, "AdamW's peak learning rate of the encoder's trained layers.", above=0
    )
    weight_decay: float = option(1e-3, "AdamW's decay of kernels.", least=0)
    batch_crops: int = option(16, "Crops that a step of training takes.", least=1)
    crops_per_epoch: int = option(4, "Random crops of each training image in an epoch.", least=1)
    epochs: int = option(10, "Epochs of training; the best one is kept.", least=1)
    warmup_epochs: int = option(
        1,
        "Epochs in which learning rates rise; after them they fall to zero along a cosine.",
        least=0,
    )
    validation_parts: int = option(
        6,
        "Parts that the training images of a fold fall into; one decides which epoch is kept.",
        least=2,
    )


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


def split(configuration: str) -> tuple[str, View | None]:
    """The encoder and view of a configuration's name; the name and None where it has no view.

    An encoder's own name may have hyphens: UNI2-h-0.5-400-hybrid is of UNI2-h.
    """
    name = configuration
    for ending in _ENDINGS.values():
        name = name.removesuffix(ending)
    parts = name.split("-")
    for i in range(1, len(parts)):
        with contextlib.suppress(InputError):
            return "-".join(parts[:i]), View.parse("-".join(parts[i:]))
    return configuration, None


def in_order(configurations: Iterable[str]) -> tuple[str, ...]:
    """Configuration names by encoder, the paper's first, then by scale or pixel size, and crop."""

    def rank(name: str) -> tuple:
        encoder, view = split(name)
        if view is None:
            return len(ENCODERS) + 1, "", 0, 0, 0, name
        place = ENCODERS.index(encoder) if encoder in ENCODERS else len(ENCODERS)
        return place, encoder, view.mpp or 0, view.scale, view.crop_size, name

    return tuple(sorted(configurations, key=rank))


def as_text(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, View):
        return value.name
    if isinstance(value, tuple):
        return ",".join("=".join(i) if isinstance(i, tuple) else as_text(i) for i in value)
    return str(value)


def check_value(name: str, value: Any, allowed: Option) -> None:
    """Raises InputError where a field has a value that its option does not allow."""
    if not allowed.allows(value):
        endless = value == math.inf and allowed.most is None
        raise _error(name, value, "a finite number" if endless else allowed.expected)


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
                raise _error(name, value, f"none, since --boost={boosting.boost} has its own")
    if extraction.target_mpp and all(view.mpp for view in extraction.views):
        expected = "none, since the views state their own"
        raise _error("target_mpp", extraction.target_mpp, expected)
    if extraction.crop_layout == "grid":
        _check_grid(extraction)
    if extraction.gain_low > extraction.gain_high:
        raise _error("gain_low", extraction.gain_low, f"at most gain_high={extraction.gain_high}")
    if finetune.warmup_epochs >= finetune.epochs:
        expected = f"above warmup_epochs={finetune.warmup_epochs}"
        raise _error("epochs", finetune.epochs, expected)


def _check_grid(extraction: Extraction) -> None:
    """Raises InputError where crops in a grid do not go with the rest."""
    if extraction.crop_mode != "exact":
        expected = "random, since --crop_mode=hybrid draws crops from a pool"
        raise _error("crop_layout", "grid", expected)
    alike = extraction.gain_low == extraction.gain_high
    if extraction.augmentations > 1 and (extraction.stain_augmentation == "none" or alike):
        expected = "1, since nothing is random with --crop_layout=grid and no stain augmentation"
        raise _error("augmentations", extraction.augmentations, expected)


def _error(name: str, value: Any, expected: str) -> InputError:
    return InputError(f"--{name} is {as_text(value) or 'empty'}, expected {expected}")
