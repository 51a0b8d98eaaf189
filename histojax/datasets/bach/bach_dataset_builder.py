"""BACH's photos as a TFDS data set: image, label, name, patient; splits train (400) and test (100, without labels).

build(manual, data_dir) -> its folder. Written as array_record, without TensorFlow. Pixels are the challenge's, as PNG,
since TFDS has no TIFF. The module's name is what `tfds build histojax/datasets/bach` looks for, and names the data set.
"""

import dataclasses
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from histojax.config import BACH_CLASSES
from histojax.datasets.bach import challenge
from histojax.datasets.bach.challenge import Photo
from histojax.errors import InputError
from histojax.images import reader

UNLABELLED = -1  # What TFDS takes for no label.

DESCRIPTION = """\
H&E-stained breast histology of the ICIAR 2018 BACH challenge, part A: 400 photos of 2048 x 1536 pixels at 0.42 um/px in
four classes, and 100 photos without labels. CC BY-NC-ND 4.0; https://zenodo.org/records/3632035.
"""
CITATION = """\
@article{bach2019,
  title = {BACH: Grand challenge on breast cancer histology images},
  author = {Aresta, Guilherme and others},
  journal = {Medical Image Analysis},
  volume = {56},
  pages = {122--139},
  year = {2019},
}"""


@dataclasses.dataclass(kw_only=True)
class PhotoSize(tfds.core.BuilderConfig):
    """What every photo must measure, in pixels."""

    width: int = 2048
    height: int = 1536


PUBLISHED = PhotoSize(name="photos", description="Part A, as it was published.")


class Builder(tfds.core.GeneratorBasedBuilder):
    """Takes the challenge's zips, or the folders in them, from the manual directory; the test set may be absent."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {challenge.TRAINING}.zip of Zenodo record 3632035 (and {challenge.TEST}.zip and {challenge.PATIENTS}, if "
        "you have them) into the manual directory as they are; or the folders in the zips."
    )
    BUILDER_CONFIGS = [PUBLISHED]

    def __init__(self, *, file_format: str | None = None, **arguments: Any):
        super().__init__(file_format=file_format or "array_record", **arguments)

    def _info(self) -> tfds.core.DatasetInfo:
        size = (self.builder_config.height, self.builder_config.width, 3)
        features = {
            "image": tfds.features.Image(shape=size, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=BACH_CLASSES),
            "name": tfds.features.Text(doc="File name without its ending."),
            "patient": tfds.features.Text(doc="Empty where it is not known."),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://iciar2018-challenge.grand-challenge.org",
            citation=CITATION,
            license="CC BY-NC-ND 4.0",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterable]:
        try:
            manual = Path(dl_manager.manual_dir)
        except AssertionError as error:  # Absent or empty.
            raise InputError(str(error)) from error
        size = (self.builder_config.height, self.builder_config.width)
        labelled = challenge.training(manual, *size)
        patients = challenge.patients(manual, tuple(photo for photo, _ in labelled))
        splits = {"train": examples(labelled, patients)}
        if tested := challenge.unlabelled(manual, *size):
            splits["test"] = examples([(photo, UNLABELLED) for photo in tested], {})
        else:
            logging.warning("no %s in %s: the data set has no split test", challenge.TEST, manual)
        return splits

    def _generate_examples(self) -> Iterator:
        raise NotImplementedError  # TFDS wants the method; `examples` does what it is for.


def build(
    manual: Path,
    data_dir: Path | None = None,
    width: int = PUBLISHED.width,
    height: int = PUBLISHED.height,
) -> Path:
    """Builds the data set, unless it is there; of photos of another size, as config photos_<width>x<height>.

    Args:
      manual: the folder of the challenge's zips, or of the folders in them.
      data_dir: the folder of TFDS's data sets; its own default if None.

    Returns:
      The folder of this config and version.

    Raises:
      InputError: as for `challenge.training`.
    """
    own = PhotoSize(
        name=f"photos_{width}x{height}", description="Stand-ins.", width=width, height=height
    )
    config = PUBLISHED if (width, height) == (PUBLISHED.width, PUBLISHED.height) else own
    builder = Builder(config=config, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    return Path(builder.data_path)


def examples(
    labelled: Iterable[tuple[Photo, str | int]], patients: dict[str, str]
) -> Iterator[tuple[str, dict]]:
    """Photos with their labels as TFDS takes them, each after its key."""
    for photo, label in labelled:
        patient = patients.get(photo.name, "")
        yield (
            photo.name,
            {"image": png(photo), "label": label, "name": photo.name, "patient": patient},
        )


def png(photo: Photo) -> bytes:
    """A photo with the same pixels as PNG."""
    encoded = io.BytesIO()
    # Scanned tissue hardly compresses: higher levels take several times as long for a few percent.
    Image.fromarray(reader.read(photo)).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
