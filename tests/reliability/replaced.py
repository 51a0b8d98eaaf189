"""A file that is replaced under a running command: noticed and named, or one of both versions.

A case is `COMMAND:NUMBER:FILE`: at about that event of the run, the file is replaced by another one
of its kind. What the command writes has to be what it would have written with the one file or with
the other, all of it, or it says which file has changed. So it has to be when it is run again.
"""

import fnmatch
import os
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests import samples
from tests.reliability import harness, shim, trials
from tests.reliability.kills import Bench

_POLL = 0.0005  # Seconds between looks at the number of events.
# Below the folder of inputs: what each command reads.
_IMAGE, _NEW, _FEW = "images/benign/benign0.png", "new/new0.png", "few/few0.png"
_DESCRIPTORS, _MODEL = "extract/descriptors/*/benign0.npy", "train/models/*/seed0-fold01.txt"
_SCORES, _BUNDLE = "train/models/*/seed0-fold01.npy", "bundle/bundle.histojax"
_FILES = {
    "extract": (_IMAGE,),
    "train": (_DESCRIPTORS,),
    "train_dask": (_DESCRIPTORS,),
    "probe": (_DESCRIPTORS,),
    "finetune": (_IMAGE,),
    "evaluate": (_MODEL, _SCORES),
    "bundle": (_MODEL, _SCORES, _DESCRIPTORS),
    "predict": (_BUNDLE, _NEW),
    "heatmap": (_BUNDLE, _FEW),
}


def cases(bench: Bench, name: str, rng: random.Random) -> Iterator[str]:
    """Random events, file by file, without end."""
    while name in _FILES:
        for pattern in _FILES[name]:
            yield f"{name}:{rng.randrange(len(bench.events[name]) + 1)}:{pattern}"


def try_case(bench: Bench, case: str) -> list[str]:
    """What is wrong after a case."""
    name, number, pattern = case.split(":")
    bench.prepare(name)
    path = min((bench.folder / "inputs").glob(pattern))
    kept, other = bench.folder / f"kept{path.suffix}", bench.folder / f"other{path.suffix}"
    shutil.copy2(path, kept)
    _make_other(bench, path, other)
    try:
        shutil.copy(other, path)
        bench.empty()
        alone = bench.run(bench.commands[name])
        with_other = trials.contents(bench)
        os.replace(shutil.copy2(kept, path.with_name("back")), path)
        bench.empty()
        bench.arm()  # Events are counted from 0 before anybody looks.
        over = threading.Event()
        how = (bench, int(number), path, other, over)
        replacing = threading.Thread(target=_replace_at, args=how)
        replacing.start()
        ended = bench.run(bench.commands[name])
        over.set()
        replacing.join()
        versions = [bench.expected[name]] + [with_other] * (alone.code == bench.commands[name].code)
        wrong = _judge(bench, name, ended, versions, path)
        again = bench.run(bench.commands[name])
        return wrong + [f"again: {line}" for line in _judge(bench, name, again, versions, path)]
    finally:
        shutil.copy2(kept, path)


def _judge(
    bench: Bench,
    name: str,
    ended: harness.Ended,
    versions: list[dict[str, bytes | None]],
    path: Path,
) -> list[str]:
    """What is wrong with a run under which a file was replaced."""
    names = (path.name, path.stem, path.parent.name)
    if ended.code != bench.commands[name].code:
        return trials.refusal(ended, *names)
    found = trials.contents(bench)
    from_each = [harness.differences(each, found) for each in versions]
    if not all(from_each) or any(each in ended.error for each in names):
        return []
    return [f"neither version: {min(from_each, key=len)}"]


def _replace_at(bench: Bench, number: int, path: Path, other: Path, over: threading.Event) -> None:
    """Replaces a file once the run has come to an event, or has ended."""
    incoming = path.with_name("incoming")
    shutil.copy(other, incoming)
    while shim.count(bench.server.control) < number and not over.wait(_POLL):
        pass
    os.replace(incoming, path)


def _make_other(bench: Bench, path: Path, other: Path) -> None:
    """Writes another file of the kind of one."""
    if path.suffix == ".png":
        Image.fromarray(samples.darker(50, 0.3)).save(other)
    elif path.suffix == ".npy":
        array = np.load(path)
        np.save(other, array[::-1].copy() if fnmatch.fnmatch(path.name, "seed*") else array * 1.01)
    elif path.suffix == ".txt":
        shutil.copy(path.with_name(path.name.replace("fold01", "fold02")), other)
    else:
        folder = bench.out
        bench.empty()
        bench.run(bench.commands["bundle"], more=("--sensitivity=0.8",))
        shutil.copy(folder / path.name, other)
