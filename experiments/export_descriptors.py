"""Descriptors to the feature files of TRIDENT or CLAM.

histojax export_descriptors --run=runs/mine --out=OUT
histojax export_descriptors --descriptors=D --out=OUT --format=clam

Writes an h5 file for each image and configuration: `features` (augmentations, channels), float32
and unchanged, and `coords`.

trident   OUT/whole_images/features_<configuration>/<image>.h5, and the mean over the rows,
          (channels,), in OUT/whole_images/slide_features_<configuration>
clam      OUT/<configuration>/h5_files/<image>.h5, and the features in pt_files/<image>.pt

A row describes a whole image, not a tile: `coords` are 0, and an attribute says what rows are.
"""

from absl import flags

from histojax.config import Option
from histojax.errors import InputError
from histojax.extraction import store
from histojax.features import exporting
from histojax.utils.files import require_writable

from . import models, runner
from .flag_types import define, define_path

FLAGS = flags.FLAGS

models.define_descriptors()
define_path("out", "Folder to write the files to.", required=True)
define("format", str, Option("Whose files to write.", choices=exporting.FORMATS), "trident")


def main() -> None:
    known = store.configurations(FLAGS.descriptors)
    if not known:
        raise InputError(
            f"{FLAGS.descriptors} has no descriptors: histojax extract or import_descriptors makes "
            "them"
        )
    if unknown := [name for name in FLAGS.configurations or () if name not in known]:
        raise InputError(
            f"{FLAGS.descriptors} has no configuration {', '.join(unknown)}: it has "
            f"{', '.join(known)}"
        )
    require_writable(FLAGS.out)
    chosen = tuple(FLAGS.configurations or known)
    for folder in exporting.export(FLAGS.descriptors, FLAGS.out, FLAGS.format, chosen):
        print(folder)


if __name__ == "__main__":
    runner.run(main, __doc__)
