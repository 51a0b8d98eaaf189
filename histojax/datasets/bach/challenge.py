"""The BACH challenge's photos as downloaded, in zips or unpacked, checked before they are used.

training_photos(folder, size) -> 400 (photo, class)      test_photos(folder, size) -> 100, or none
patients(folder, photos) -> {photo name: patient}        unpack(folder, size), unpack_test

`size` is (height, width) in pixels. A photo in a zip is read whole into memory, so that its
checksum is verified, and only if the size the zip states is plausible; only `unpack` and
`unpack_test` write any.
"""

import zipfile
from pathlib import Path, PurePosixPath

from histojax.config import BACH_CLASSES
from histojax.datasets import bach, groups
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files, zips
from histojax.utils.zips import Member

TRAINING = "ICIAR2018_BACH_Challenge"
TEST = "ICIAR2018_BACH_Challenge_TestDataset"
PATIENTS = "ICIAR2018_BACH_dataset_micro_patient.xlsx"
SIZE = (1536, 2048)  # Height and width of every photo, px.
_TEST_COUNT = 100
_REMEDY = "download it again from Zenodo record 3632035"
_SPARE_BYTES = 2**20  # What a photo may have beyond its pixels, and a table in all.

_Folder = Path | zipfile.Path
_Size = tuple[int, int]


def training_photos(folder: Path, size: _Size) -> tuple[tuple[Member, str], ...]:
    """The 400 labelled photos and the class of each, in BACH's order.

    Args:
      folder: where ICIAR2018_BACH_Challenge.zip, or the folder in it, was put.
      size: (height, width) of each photo, in pixels.

    Raises:
      InputError: they are not there, their zip is damaged or unsafe, or count, names, classes,
        ground truth or sizes are not as expected.
    """
    photos_folder = _find_photos(folder, TRAINING)
    if photos_folder is None:
        raise InputError(
            f"{folder} holds neither {TRAINING}.zip nor a folder {TRAINING}: download the zip from "
            "Zenodo record 3632035 and put it there"
        )
    names = sorted(
        path.name for path in photos_folder.iterdir() if path.is_dir() and path.name[0] not in "._"
    )
    if set(names) != set(BACH_CLASSES):
        raise InputError(
            f"{photos_folder} holds the folders {', '.join(names) or 'none'}; expected "
            f"{', '.join(BACH_CLASSES)}: {_REMEDY}"
        )
    labelled = []
    for label, prefix in zip(BACH_CLASSES, bach.PREFIXES, strict=True):
        expected = [f"{prefix}{i:03d}.tif" for i in range(1, bach.PER_CLASS + 1)]
        photos = _list_photos(photos_folder / label, expected, size)
        labelled += [(photo, label) for photo in photos]
    truth = Member(photos_folder / bach.GROUND_TRUTH, _SPARE_BYTES, _REMEDY)
    if not truth.is_file():
        raise InputError(
            f"{photos_folder} lacks {bach.GROUND_TRUTH}, which the labels are checked against: "
            f"{_REMEDY}"
        )
    bach.check_ground_truth(truth, {photo.file_name: label for photo, label in labelled})
    _require_size([photo for photo, _ in labelled], size)
    return tuple(labelled)


def test_photos(folder: Path, size: _Size) -> tuple[Member, ...]:
    """The 100 unlabelled photos, test0 to test99; empty where they are not in the folder.

    Raises:
      InputError: as for `training_photos`.
    """
    photos_folder = _find_photos(folder, TEST)
    if photos_folder is None:
        return ()
    photos = _list_photos(photos_folder, [f"test{i}.tif" for i in range(_TEST_COUNT)], size)
    _require_size(photos, size)
    return tuple(photos)


def unpack(folder: Path, size: _Size = SIZE) -> Path:
    """Unpacks the labelled photos and their ground truth from the zip; not the slides beside them.

    Returns:
      The folder Photos, as if the zip were unzipped. Photos that are there already are kept, and
      the ground truth is written last.

    Raises:
      InputError: as for `training_photos`.
    """
    photos = folder / TRAINING / "Photos"
    labelled = training_photos(folder, size)
    zips.unpack({photos / label / photo.file_name: photo for photo, label in labelled})
    rows = [(photo.file_name, label) for photo, label in labelled]
    files.write_csv(photos / bach.GROUND_TRUTH, rows)
    return photos


def unpack_test(folder: Path, size: _Size = SIZE) -> Path:
    """Unpacks the unlabelled photos from their zip, as `unpack` does; returns their folder."""
    photos = folder / TEST / "Photos"
    zips.unpack({photos / photo.file_name: photo for photo in test_photos(folder, size)})
    return photos


def patients(folder: Path, photos: tuple[Member, ...]) -> dict[str, str]:
    """The known patient of each photo by the challenge's spreadsheet; empty without that."""
    table = folder / PATIENTS
    if not table.is_file():
        return {}
    return groups.read(table, tuple(photo.name for photo in photos)).group_of


def _find_photos(folder: Path, name: str) -> _Folder | None:
    """The folder Photos in the zip or folder of that name, zip first; None if neither is there."""
    archive = folder / f"{name}.zip"
    unpacked = folder / name
    if archive.is_file():
        source, root = archive, zips.open_zip(archive, _REMEDY)
    elif unpacked.is_dir():
        source, root = unpacked, unpacked
    else:
        return None
    for photos in (root / name / "Photos", root / "Photos"):
        if photos.is_dir():
            return photos
    raise InputError(f"{source} holds no {name}/Photos: {_REMEDY}")


def _list_photos(folder: _Folder, expected: list[str], size: _Size) -> list[Member]:
    """The photos in a folder, which must have exactly these names; other files are ignored.

    Raises:
      InputError: photos are missing, or there are others.
    """
    paths = {
        path.name: path
        for path in folder.iterdir()
        if reader.is_image_name(PurePosixPath(path.name))
    }
    missing = [name for name in expected if name not in paths]
    unexpected = sorted(set(paths) - set(expected))
    if missing or unexpected:
        raise InputError(
            f"{folder} holds {len(paths)} images, expected the {len(expected)} from {expected[0]} "
            f"to {expected[-1]}; missing: {_first_of(missing)}; not expected: "
            f"{_first_of(unexpected)}. Remove those, or {_REMEDY}"
        )
    height, width = size
    most = 4 * height * width + _SPARE_BYTES
    return [Member(paths[name], most, _REMEDY) for name in expected]


def _require_size(photos: list[Member], size: _Size) -> None:
    """Raises InputError where photos, by their headers, are not of that size."""
    height, width = size
    sizes = {photo.file_name: reader.size(photo) for photo in photos}
    if wrong := [f"{name} ({w} x {h})" for name, (h, w) in sizes.items() if (h, w) != size]:
        raise InputError(
            f"{len(wrong)} photos in {photos[0].path.parent.parent} are not {width} x {height} "
            f"pixels: {_first_of(wrong)}; {_REMEDY}"
        )


def _first_of(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if names[5:] else ""
    return (", ".join(names[:5]) or "none") + more
