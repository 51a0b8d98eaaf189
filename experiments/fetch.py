"""Published images from Zenodo to a folder: downloaded, checked, unpacked.

histojax fetch crc              Kather's colorectal tiles: 246 MB, 60 tiles of each of 8 classes
histojax fetch crc --tiles=625  all 5,000 of them
histojax fetch bach             BACH's 400 labelled photos, which are for non-commercial research
histojax fetch bach_test        and its 100 photos without labels

A download that breaks off goes on where it stopped, when the same command is run again. Each file's
MD5 is checked, and only the images wanted are unpacked. Without a network, put the file into
--downloads by other means; the message of the failed download says which, and from where. The last
lines are the data's licence, and the command that goes on with them.
"""

import shlex
from pathlib import Path

from absl import flags

from histojax.config import Option
from histojax.datasets import bach, kather, published
from histojax.datasets.bach import challenge
from histojax.errors import InputError
from histojax.utils.files import require_writable

from . import runner
from .flag_types import define

FLAGS = flags.FLAGS
POSITIONAL = ("name",)

# What `./run.sh crc` passes to histojax mine: what the files do not say, and the encoder that two
# cores have time for. The rest is chosen by the images.
CRC_FLAGS = (
    "--run=runs/crc",
    f"--mpp={kather.MPP}",
    "--positive_classes=01_TUMOR",
    "--encoders=ResNet",
    f"--data_licence={published.FILES['crc'].credit}",
)

define("name", str, Option("What to fetch.", choices=tuple(published.FILES)), required=True)
define("downloads", Path, Option("Folder for the files and what is unpacked."), "downloads")
flags.DEFINE_integer(
    "tiles",
    60,
    "Of crc: tiles of each class, chosen by their names, so that more include fewer.",
    lower_bound=10,
    upper_bound=kather.PER_CLASS,
)


def main() -> None:
    file = published.FILES[FLAGS.name]
    if FLAGS.name != "crc" and FLAGS["tiles"].present:
        raise InputError(f"--tiles goes with crc: {FLAGS.name} is taken whole")
    require_writable(FLAGS.downloads)
    data = _FETCHERS[FLAGS.name](file, FLAGS.downloads)
    print(f"data: {data}\nlicence: {file.licence}; cite {file.source}")
    if FLAGS.name == "crc":
        print(f"next: histojax mine {data} {shlex.join(CRC_FLAGS)}")


def _crc(file: published.PublishedFile, downloads: Path) -> Path:
    """The label table of Kather's tiles."""
    labels = downloads / "crc" / kather.LABELS
    if kather.tiles_per_class(labels) == FLAGS.tiles:
        return labels
    return kather.unpack(published.fetch(file, downloads), labels.parent, FLAGS.tiles)


def _bach(file: published.PublishedFile, downloads: Path) -> Path:
    """The folder of BACH's labelled photos; the zip may be removed once it is unpacked."""
    photos = downloads / challenge.TRAINING / "Photos"
    if (photos / bach.GROUND_TRUTH).exists():
        return photos
    published.fetch(file, downloads)
    return challenge.unpack(downloads)


def _bach_test(file: published.PublishedFile, downloads: Path) -> Path:
    """The folder of BACH's photos without labels."""
    published.fetch(file, downloads)
    return challenge.unpack_test(downloads)


_FETCHERS = {"crc": _crc, "bach": _bach, "bach_test": _bach_test}

if __name__ == "__main__":
    runner.run(main, __doc__, POSITIONAL)
