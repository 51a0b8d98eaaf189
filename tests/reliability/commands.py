"""The commands whose runs are killed, on small images and narrow networks; what may vary in files.

A command writes below `{out}` and reads `{inputs}`, in which folders named as other commands hold
what their unbroken runs wrote.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests import made_features, samples

_GROUP, _BOTH = ("group",), ("group", "alone")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of histojax.

    Attributes:
      script: its name.
      arguments: of the command line.
      needs: the commands that run before.
      scopes: what a kill takes: the processes of the run together, or also one of them alone.
      code: the exit code of an unbroken run.
      compiles: whether it compiles programs, which a second run finds in the cache.
    """

    script: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    scopes: tuple[str, ...] = _GROUP
    code: int = 0
    compiles: bool = False


_VIEWS = ("--encoders=VGG", "--weights=random", "--views=0.5-32,0.5-40")
_DATA = "--data={inputs}/images"
_DESCRIBED = (_DATA, "--descriptors={inputs}/extract/descriptors")
_TREES = ("--protocol=paper", "--folds=2", "--seeds=1", "--rounds=4")
_TRAINED = "--models={inputs}/train/models"
_BUNDLE = "--bundle={inputs}/bundle/bundle.histojax"

COMMANDS = {
    "extract": Command(
        "extract",
        (_DATA, "--descriptors={out}/descriptors", *_VIEWS, "--augmentations=2", "--crops=1"),
        compiles=True,
    ),
    "train": Command(
        "train",
        (*_DESCRIBED, "--models={out}/models", *_TREES, "--workers=2"),
        needs=("extract",),
        scopes=_BOTH,
    ),
    "train_dask": Command(
        "train",
        (*_DESCRIBED, "--models={out}/models", *_TREES, "--dask_scheduler={dask}"),
        needs=("extract",),
        scopes=("alone",),  # The worker's own process, since its group is the cluster.
    ),
    "probe": Command(
        "probe",
        (
            *(*_DESCRIBED, "--models={out}/models", "--folds=2", "--seeds=1"),
            *("--epochs=3", "--validation_parts=2"),
        ),
        needs=("extract",),
        compiles=True,
    ),
    "finetune": Command(
        "finetune",
        (
            *(_DATA, "--models={out}/models", "--encoders=VGG", "--weights=random"),
            *("--views=0.5-32", "--augmentations=1", "--crops=1", "--folds=2", "--seeds=1"),
            *("--epochs=2", "--validation_parts=2", "--batch_crops=4", "--crops_per_epoch=1"),
        ),
        compiles=True,
    ),
    "evaluate": Command(
        "evaluate",
        (*(_TRAINED, "--report={out}/report", _DATA), "--descriptors={inputs}/extract/descriptors"),
        needs=("train",),
    ),
    "bundle": Command(
        "bundle",
        (_TRAINED, *_DESCRIBED, "--out={out}/bundle.histojax"),
        needs=("train",),
        compiles=True,
    ),
    "predict": Command(
        "predict",
        (_BUNDLE, "--images={inputs}/new", "--out={out}/predictions"),
        needs=("bundle",),
        compiles=True,
    ),
    "heatmap": Command(
        "heatmap",
        (_BUNDLE, "--images={inputs}/new", "--out={out}/maps", "--augmentations=1", "--stride=16"),
        needs=("bundle",),
        compiles=True,
    ),
    "import_descriptors": Command(
        "import_descriptors",
        ("{inputs}/features", "--descriptors={out}/descriptors", "--draws=2", "--tiles=3"),
    ),
}


def write_inputs(folder: Path, each: int = 4) -> None:
    """Labelled images of two classes, two new ones, and features of three slides."""
    for label, dark in (("benign", 0.3), ("malignant", 0.7)):
        (folder / "images" / label).mkdir(parents=True)
        for i in range(each):
            image = Image.fromarray(samples.darker(i, dark))
            image.save(folder / "images" / label / f"{label}{i}.png")
    (folder / "new").mkdir()
    for i in range(2):
        Image.fromarray(samples.darker(100 + i, 0.3 + 0.4 * i)).save(folder / "new" / f"new{i}.png")
    for slide, tiles in made_features.TILES.items():
        made_features.stamp(folder / "features", slide, tiles)


# What may differ from the unbroken run, by the end of a file's path: a function of its content that
# leaves the rest.
VARIES: dict[str, Callable[[bytes], bytes]] = {}


def normal(name: str, content: bytes) -> bytes:
    """What of a file has to be equal."""
    for ending, rest in VARIES.items():
        if name.endswith(ending):
            content = rest(content)
    return content
