"""What decides a descriptor, and how configurations, an encoder and a view each, are called."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable

from histojax.config.options import LARGEST_SEED, option
from histojax.config.views import MPP_RANGE, View
from histojax.errors import InputError

# The paper's encoders; what other encoders there are, `histojax.encoders.ENCODERS` says.
ENCODERS = ("ResNet", "Inception", "VGG")
CROP_MODES = ("exact", "hybrid")
CROP_LAYOUTS = ("random", "grid")
PRECISIONS = ("float32", "tf32", "bfloat16")

# What ends the name of a configuration, by crop mode; shared was one until histojax 0.1.
_ENDINGS = {"exact": "", "hybrid": "-hybrid", "shared": "-shared"}


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
        "augmentations are interpolated. With 2, descriptors are several times further from exact "
        "ones.",
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
