"""BACH's zips to a TFDS data set, checked, without TensorFlow.

histojax build_bach --manual_dir=FOLDER                       below ~/tensorflow_datasets
histojax build_bach --manual_dir=FOLDER --data_dir=OUT        below OUT

FOLDER holds ICIAR2018_BACH_Challenge.zip of Zenodo record 3632035 and, if you have them,
ICIAR2018_BACH_Challenge_TestDataset.zip and the patient spreadsheet; or the folders in the zips.
Where TensorFlow is installed, `tfds build histojax/datasets/bach --manual_dir=FOLDER` does the
same; without it, `tfds` does not start.

Writes checked photos, labels, names and patients. Count, names, labels against the ground truth,
and sizes are checked before anything is written; nothing is unpacked. The photos are written as
array_record: --tfds=bach then takes the place of --data, and of --images with --tfds_split=test;
TFDS reads it by tfds.data_source("bach"). --width and --height are for stand-ins with smaller
photos.

Time: about 0.3 s a photo.
"""

from absl import flags

from . import runner
from .flag_types import define_path

FLAGS = flags.FLAGS

define_path("manual_dir", "Folder of the zips, or of the folders in them.", required=True)
define_path(
    "data_dir", "Folder of TFDS's data sets. Default: $TFDS_DATA_DIR, or ~/tensorflow_datasets."
)
flags.DEFINE_integer("width", 2048, "Width of every photo, in pixels.", lower_bound=1)
flags.DEFINE_integer("height", 1536, "Height of every photo, in pixels.", lower_bound=1)


def main() -> None:
    # Not above: TFDS takes a while to import, which --help need not.
    from histojax.datasets.bach import bach_dataset_builder

    build = bach_dataset_builder.build
    print(build(FLAGS.manual_dir, FLAGS.data_dir, FLAGS.width, FLAGS.height))


if __name__ == "__main__":
    runner.run(main, __doc__)
