"""BACH's zips to a TFDS data set, without TensorFlow: checked photos, labels, names and patients as array_record.

histojax build_bach --manual_dir=FOLDER                       below ~/tensorflow_datasets
histojax build_bach --manual_dir=FOLDER --data_dir=OUT        below OUT

FOLDER holds ICIAR2018_BACH_Challenge.zip of Zenodo record 3632035 and, if you have them,
ICIAR2018_BACH_Challenge_TestDataset.zip and the patient spreadsheet; or the folders in the zips. Where TensorFlow is
installed, `tfds build histojax/datasets/bach --manual_dir=FOLDER` does the same; without it, `tfds` does not start.

Count, names, labels against the ground truth, and sizes are checked before anything is written; nothing is unpacked.
Then `--tfds=bach` takes the place of --data, and of --images with --tfds_split=test; TFDS reads it by
tfds.data_source("bach"). --width and --height are for stand-ins with smaller photos.

Time: about 0.3 s a photo.
"""

from experiments import flags

flags.define_path("manual_dir", "Folder of the zips, or of the folders in them.")
flags.define_path(
    "data_dir",
    "Folder of TFDS's data sets ($TFDS_DATA_DIR or ~/tensorflow_datasets).",
    required=False,
)
flags.define_size(2048, 1536)


def main() -> None:
    from histojax.datasets.bach import (
        bach_dataset_builder,  # Here alone: TFDS takes a while to import, and --help not.
    )

    size = (flags.FLAGS.width, flags.FLAGS.height)
    print(bach_dataset_builder.build(flags.path("manual_dir"), flags.path("data_dir"), *size))


if __name__ == "__main__":
    flags.run(main, __doc__)
