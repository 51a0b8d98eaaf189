"""The challenge's photos as they come, in zips or unpacked, checked before anything is made of them.

training(manual, height, width) -> 400 (photo, class)       unlabelled(manual, height, width) -> 100 photos, or none
patients(manual, photos) -> {name: patient}

Nothing is unpacked to disk: a photo in a zip is read whole into memory, so that its checksum is checked, and not before
what the zip says of its size is believable.
"""

import dataclasses
import io
import lzma
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from histojax.config import BACH_CLASSES
from histojax.datasets import bach, groups
from histojax.errors import InputError
from histojax.images import reader

TRAINING = "ICIAR2018_BACH_Challenge"
TEST = "ICIAR2018_BACH_Challenge_TestDataset"
PATIENTS = "ICIAR2018_BACH_dataset_micro_patient.xlsx"
PER_CLASS, TESTED = 100, 100
SOURCE = "download it again from Zenodo record 3632035"
SPARE = 2**20  # Bytes that a photo may have beside its pixels, and that a table may have.

UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
)


@dataclasses.dataclass(frozen=True)
class Photo:
    """A file in a folder or in a zip, of at most so many bytes; `histojax.images.reader` reads it as it reads a path.

    Attributes:
      place: where it is.
      most: bytes it may have, unpacked.
    """

    place: Path | zipfile.Path
    most: int

    @property
    def file_name(self) -> str:
        return self.place.name

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return self.place.stem

    def read_bytes(self) -> bytes:
        """What is in it.

        Raises:
          InputError: it has too many bytes, or is damaged.
        """
        try:
            size = (
                self.place.stat().st_size
                if isinstance(self.place, Path)
                else entry(self.place).file_size
            )
            if size > self.most:
                raise InputError(
                    f"{self.place} has {size} bytes, expected {self.most} at most: {SOURCE}"
                )
            return self.place.read_bytes()
        except UNREADABLE as error:
            raise InputError(f"{self.place} cannot be read ({error}): {SOURCE}") from error

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.read_bytes())

    def is_file(self) -> bool:
        return self.place.is_file()

    def __str__(self) -> str:
        return str(self.place)


def entry(place: zipfile.Path) -> zipfile.ZipInfo:
    """What the zip says of a file in it."""
    return place.root.getinfo(place.at)


def training(manual: Path, height: int, width: int) -> tuple[tuple[Photo, str], ...]:
    """The 400 labelled photos and the class of each, in BACH's order.

    Args:
      manual: the folder that ICIAR2018_BACH_Challenge.zip, or the folder in it, was put into.
      height, width: of each photo, in pixels.

    Raises:
      InputError: they are not there, their zip is damaged or not to be trusted, or count, names, classes, ground truth
        or sizes are not as expected.
    """
    folder = photos_folder(manual, TRAINING)
    if folder is None:
        raise InputError(
            f"{manual} holds neither {TRAINING}.zip nor a folder {TRAINING}: download the zip from Zenodo record "
            "3632035 and put it there"
        )
    others = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._"
    )
    if set(others) != set(BACH_CLASSES):
        raise InputError(
            f"{folder} holds the folders {', '.join(others) or 'none'}; expected {', '.join(BACH_CLASSES)}: {SOURCE}"
        )
    labelled = []
    for name, prefix in zip(BACH_CLASSES, bach.PREFIXES, strict=True):
        expected = [f"{prefix}{i:03d}.tif" for i in range(1, PER_CLASS + 1)]
        labelled += [
            (photo, name) for photo in photos_named(folder / name, expected, height, width)
        ]
    truth = Photo(folder / bach.GROUND_TRUTH, SPARE)
    if not truth.is_file():
        raise InputError(
            f"{folder} lacks {bach.GROUND_TRUTH}, which the labels are checked by: {SOURCE}"
        )
    bach.check_ground_truth(truth, {photo.file_name: name for photo, name in labelled})
    check_sizes([photo for photo, _ in labelled], height, width)
    return tuple(labelled)


def unlabelled(manual: Path, height: int, width: int) -> tuple[Photo, ...]:
    """The 100 unlabelled photos, test0 to test99; empty where they were not put into the folder.

    Raises:
      InputError: as for `training`.
    """
    folder = photos_folder(manual, TEST)
    if folder is None:
        return ()
    photos = photos_named(folder, [f"test{i}.tif" for i in range(TESTED)], height, width)
    check_sizes(photos, height, width)
    return tuple(photos)


def patients(manual: Path, photos: tuple[Photo, ...]) -> dict[str, str]:
    """The patient of each photo that the challenge's spreadsheet knows one of; none where it is not in the folder."""
    table = manual / PATIENTS
    return groups.read(table, tuple(photo.name for photo in photos)).group_of if table.is_file() else {}


def photos_folder(manual: Path, name: str) -> Path | zipfile.Path | None:
    """The folder Photos of the zip of that name, else of the folder of that name; None where neither is there."""
    archive, unpacked = manual / f"{name}.zip", manual / name
    if archive.is_file():
        root = opened(archive)
    elif unpacked.is_dir():
        root = unpacked
    else:
        return None
    for folder in (root / name / "Photos", root / "Photos"):
        if folder.is_dir():
            return folder
    raise InputError(
        f"{archive if archive.is_file() else unpacked} holds no {name}/Photos: {SOURCE}"
    )


def opened(archive: Path) -> zipfile.Path:
    """A zip as a folder.

    Raises:
      InputError: no zip or cut short, encrypted, or with names that lead out of the folder it is unpacked in.
    """
    try:
        held = zipfile.ZipFile(archive)
    except UNREADABLE as error:
        raise InputError(
            f"{archive} is no zip file, or is cut short ({error}): {SOURCE}"
        ) from error
    for info in held.infolist():
        parts = re.split(r"[/\\]", info.filename)
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise InputError(
                f"{archive} holds {info.filename!r}, a name that leads out of its folder: do not unpack it, {SOURCE}"
            )
        if info.flag_bits & 1:
            raise InputError(
                f"{archive} is encrypted ({info.filename}), as the challenge's is not: {SOURCE}"
            )
    return zipfile.Path(held)


def photos_named(
    folder: Path | zipfile.Path, expected: list[str], height: int, width: int
) -> list[Photo]:
    """The photos in a folder, which must have just these names; hidden files and those that are no images do not count.

    Raises:
      InputError: some are missing, or there are others.
    """
    found = {
        path.name: path
        for path in folder.iterdir()
        if reader.is_image_name(PurePosixPath(path.name))
    }
    missing = [name for name in expected if name not in found]
    others = sorted(set(found) - set(expected))
    if missing or others:
        raise InputError(
            f"{folder} holds {len(found)} images, expected the {len(expected)} from {expected[0]} to {expected[-1]}; "
            f"missing: {some(missing)}; not expected: {some(others)}. Remove those, or {SOURCE}"
        )
    return [Photo(found[name], 4 * height * width + SPARE) for name in expected]


def check_sizes(photos: list[Photo], height: int, width: int) -> None:
    """Raises InputError where photos are not of that size, by their headers."""
    sizes = {photo.file_name: reader.size(photo) for photo in photos}
    if wrong := [
        f"{name} ({w} x {h})" for name, (h, w) in sizes.items() if (h, w) != (height, width)
    ]:
        where = photos[0].place.parent.parent
        raise InputError(
            f"{len(wrong)} photos in {where} are not {width} x {height} pixels: {some(wrong)}; {SOURCE}"
        )


def some(names: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - 5} more" if names[5:] else ""
    return (", ".join(names[:5]) or "none") + more
