"""BACH's photos as a TFDS data set: splits train (400) and test (100, without labels).

Each example has image, label, name and patient. Written as array_record, without TensorFlow. Pixels
are the challenge's, as PNG, since TFDS has no TIFF. The module's name is what
`tfds build histojax/datasets/bach` looks for, and names the data set.
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
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files
from histojax.utils.zips import Member

_UNLABELLED = -1  # TFDS's value for no label.

_DESCRIPTION = """\
H&E-stained breast histology of the ICIAR 2018 BACH challenge, part A: 400 photos of 2048 x 1536 \
pixels at 0.42 um/px in
four classes, and 100 photos without labels. CC BY-NC-ND 4.0; https://zenodo.org/records/3632035.
"""
_CITATION = """\
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
    """The size that every photo must have, in pixels."""

    width: int = 2048
    height: int = 1536


_PUBLISHED = PhotoSize(name="photos", description="Part A, as it was published.")


class Builder(tfds.core.GeneratorBasedBuilder):
    """Reads the challenge's zips, or the folders in them, from TFDS's manual directory.

    The test set and the patients may be absent.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {challenge.TRAINING}.zip of Zenodo record 3632035 (and {challenge.TEST}.zip and "
        f"{challenge.PATIENTS}, if you have them) into the manual directory as they are; or the "
        "folders in the zips."
    )
    BUILDER_CONFIGS = [_PUBLISHED]

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
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://iciar2018-challenge.grand-challenge.org",
            citation=_CITATION,
            license="CC BY-NC-ND 4.0",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterable]:
        try:
            folder = Path(dl_manager.manual_dir)
        except AssertionError as error:  # Absent or empty.
            raise InputError(str(error)) from error
        size = (self.builder_config.height, self.builder_config.width)
        labelled = challenge.training_photos(folder, size)
        patients = challenge.patients(folder, tuple(photo for photo, _ in labelled))
        splits = {"train": _examples(labelled, patients)}
        if photos := challenge.test_photos(folder, size):
            splits["test"] = _examples([(photo, _UNLABELLED) for photo in photos], {})
        else:
            logging.warning("no %s in %s: the data set has no split test", challenge.TEST, folder)
        return splits

    def _generate_examples(self) -> Iterator:
        raise NotImplementedError  # TFDS requires the method; `_examples` does its work.


def build(
    folder: str | Path,
    data_dir: str | Path | None = None,
    width: int = _PUBLISHED.width,
    height: int = _PUBLISHED.height,
) -> Path:
    """Builds the data set, unless it is there.

    Photos of another size than the published one become the config photos_<width>x<height>.

    Args:
      folder: where the challenge's zips, or the folders in them, were put.
      data_dir: the folder of TFDS's data sets; its own default if None.
      width, height: of every photo, in pixels.

    Returns:
      The folder of this config and version.

    Raises:
      InputError: as for `challenge.training_photos`.
    """
    config = _PUBLISHED
    if (width, height) != (_PUBLISHED.width, _PUBLISHED.height):
        name = f"photos_{width}x{height}"
        config = PhotoSize(name=name, description="Stand-ins.", width=width, height=height)
    builder = Builder(config=config, data_dir=data_dir)
    manual_dir = files.as_path(folder)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
    )
    return Path(builder.data_path)


def _examples(
    labelled: Iterable[tuple[Member, str | int]], patients: dict[str, str]
) -> Iterator[tuple[str, dict]]:
    """Keys and examples as TFDS takes them."""
    for photo, label in labelled:
        name = photo.name
        patient = patients.get(name, "")
        yield name, {"image": _to_png(photo), "label": label, "name": name, "patient": patient}


def _to_png(photo: Member) -> bytes:
    """A photo as PNG with the same pixels."""
    encoded = io.BytesIO()
    # Scanned tissue hardly compresses: higher levels take several times as long for a few percent.
    Image.fromarray(reader.read(photo)).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
