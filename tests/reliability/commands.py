"""The commands whose runs are killed, on small images and narrow networks; what may vary in files.

A command writes below `{out}` and reads `{inputs}`, in which folders named as other commands hold
what their unbroken runs wrote.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
from PIL import Image

from tests import made_features, samples

_GROUP, _BOTH = ("group",), ("group", "alone")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of histojax.

    Attributes:
      script: its name; or `module:function`, which is called with the arguments.
      arguments: of the command line.
      needs: the commands that run before.
      scopes: what a kill takes: the processes of the run together, or also one of them alone.
      code: the exit code of an unbroken run.
      warms_up: whether a first run takes longer: it compiles programs, or waits for a cluster.
    """

    script: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    scopes: tuple[str, ...] = _GROUP
    code: int = 0
    warms_up: bool = False


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
        warms_up=True,
    ),
    "extract_hybrid": Command(
        "extract",
        (
            *(_DATA, "--descriptors={out}/descriptors", "--encoders=VGG", "--weights=random"),
            *("--views=0.5-32", "--augmentations=4", "--crops=2", "--crop_mode=hybrid"),
        ),
        warms_up=True,
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
        warms_up=True,
    ),
    "probe": Command(
        "probe",
        (
            *(*_DESCRIBED, "--models={out}/models", "--folds=2", "--seeds=1"),
            *("--epochs=3", "--validation_parts=2"),
        ),
        needs=("extract",),
        warms_up=True,
    ),
    "finetune": Command(
        "finetune",
        (
            *(_DATA, "--models={out}/models", "--encoders=VGG", "--weights=random"),
            *("--views=0.5-32", "--augmentations=1", "--crops=1", "--folds=2", "--seeds=1"),
            *("--epochs=2", "--validation_parts=2", "--batch_crops=4", "--crops_per_epoch=1"),
        ),
        warms_up=True,
    ),
    "evaluate": Command("evaluate", (_TRAINED, "--report={out}/report"), needs=("train",)),
    "bundle": Command(
        "bundle",
        (_TRAINED, *_DESCRIBED, "--out={out}/bundle.histojax"),
        needs=("train",),
        warms_up=True,
    ),
    "predict": Command(
        "predict",
        (_BUNDLE, "--images={inputs}/new", "--out={out}/predictions"),
        needs=("bundle",),
        warms_up=True,
    ),
    "predict_descriptors": Command(
        "predict",
        (
            *(_TRAINED, "--trained_on={inputs}/extract/descriptors"),
            *("--descriptors={inputs}/extract/descriptors", "--out={out}/predictions"),
        ),
        needs=("train",),
    ),
    "heatmap": Command(
        "heatmap",
        (_BUNDLE, "--images={inputs}/few", "--out={out}/maps", "--augmentations=1", "--stride=24"),
        needs=("bundle",),
        warms_up=True,
    ),
    "mine": Command(
        "mine",
        (
            *("{inputs}/images", "{inputs}/few", "--run={out}/run", *_VIEWS, "--augmentations=2"),
            *("--crops=1", *_TREES, "--workers=2", "--noheatmaps"),
        ),
        warms_up=True,
    ),
    "import_descriptors": Command(
        "import_descriptors",
        ("{inputs}/features", "--descriptors={out}/descriptors", "--draws=2", "--tiles=3"),
    ),
}


def write_inputs(folder: Path, each: int = 4) -> None:
    """Labelled images of two classes, new ones, a few small ones, and features of three slides.

    The images are of several sizes: what a run that goes on pads them to must not matter.
    """
    for label, dark in (("benign", 0.3), ("malignant", 0.7)):
        for i in range(each):
            _save(folder / "images" / label / f"{label}{i}.png", samples.darker(i, dark), i)
    for i in range(each):
        _save(folder / "new" / f"new{i}.png", samples.darker(100 + i, 0.3 + 0.1 * i), i)
    for i in range(2):
        _save(folder / "few" / f"few{i}.png", samples.darker(200 + i, 0.4)[:88, : 88 + 8 * i])
    for slide, tiles in made_features.TILES.items():
        made_features.stamp(folder / "features", slide, tiles)


def _save(path: Path, rgb: np.ndarray, number: int = 0) -> None:
    """Saves an image, cut smaller or tiled larger by its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    factor, cut = 1 + number % 2, 9 * number
    Image.fromarray(np.tile(rgb, (factor, factor, 1))[cut:, : -cut or None]).save(path)


# Files that are not compared, by the end of their path, and why.
IGNORED = {
    "models/times.csv": "how long each run trained, and when; one that is killed adds no row"
}
# What may differ in other files, by the end of their path, and why.
VARIES = {
    ".html": (
        rb"histojax \xc2\xb7 [\d-]+ [\d:]+"
        rb'|\s*(<div class="scroll" role="region" aria-label="Times".*?</div>)?\s*(?=</section>)',
        "when a page was made; what models/times.csv holds",
    ),
    "report/metrics.json": (rb'"times": \[.*?\],', "what models/times.csv holds"),
}


def compared(found: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """The files of a folder, as `harness.contents` gives them, without what may differ."""
    kept = {name: content for name, content in found.items() if not name.endswith(tuple(IGNORED))}
    for name, content in kept.items():
        for ending, (pattern, _) in VARIES.items():
            if name.endswith(ending):
                kept[name] = re.sub(pattern, b"", content, flags=re.DOTALL)
    return kept
