"""The commands whose runs are killed, on small images and narrow networks; what may vary in files.

A command writes below `{out}` and reads `{inputs}`, in which folders named as other commands hold
what their unbroken runs wrote.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests import samples

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


_SMALL = ("--encoders=VGG", "--weights=random", "--views=0.5-32,0.5-40")
COMMANDS = {
    "extract": Command(
        "extract",
        (
            *("--data={inputs}/images", "--descriptors={out}/descriptors", *_SMALL),
            *("--augmentations=2", "--crops=1"),
        ),
        compiles=True,
    )
}


def write_inputs(folder: Path, each: int = 6) -> None:
    """Labelled images of two classes, and two new ones."""
    for label, dark in (("benign", 0.3), ("malignant", 0.7)):
        (folder / "images" / label).mkdir(parents=True)
        for i in range(each):
            image = Image.fromarray(samples.darker(i, dark))
            image.save(folder / "images" / label / f"{label}{i}.png")
    (folder / "new").mkdir()
    for i in range(2):
        Image.fromarray(samples.darker(100 + i, 0.3 + 0.4 * i)).save(folder / "new" / f"new{i}.png")


# What may differ from the unbroken run, by the end of a file's path: a function of its content that
# leaves the rest.
VARIES: dict[str, Callable[[bytes], bytes]] = {}


def normal(name: str, content: bytes) -> bytes:
    """What of a file has to be equal."""
    for ending, rest in VARIES.items():
        if name.endswith(ending):
            content = rest(content)
    return content
