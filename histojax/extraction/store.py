"""Descriptor files in the authors' layout, and the table of stain quality beside them.

<root>/<configuration>/<image name>.npy   float32 [A, D]; in subfolders if names have slashes
<root>/<configuration>/manifest.json      protocol, weights, versions: see `manifests`
<root>/stain_qc.csv                       how the stain normalisation of each image went
<root>/stain_qc-2of4.csv                  the same by one of several processes, until it is merged

The root may be a folder or a URI (an `etils.epath.Path`), and several processes may write below it
at once.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from histojax.config import in_order
from histojax.errors import InputError
from histojax.images.resampling import recorded_pixel_size
from histojax.utils import files
from histojax.utils.array_files import npz

STAIN_QC = "stain_qc.csv"
_STAIN_QC_PARTS = "stain_qc-*of*.csv"


@dataclasses.dataclass(frozen=True)
class StainQCRow:
    """A row of stain_qc.csv: how the stain normalisation of an image went at a scale.

    Attributes:
      image: its name, see `histojax.images.names`.
      scale: of the view, as text; or its pixel size, such as 0.5mpp.
      tissue_fraction: share of pixels that are tissue.
      stain_angle_degrees: between the stain vectors; None where there was too little tissue.
      max_hematoxylin, max_eosin: 99th percentiles of concentration.
      status: one of `config.STAIN_STATUS`.
      file_sha256: of the image file, with the pixel size that it was resampled from, if it was.
    """

    image: str
    scale: str
    tissue_fraction: float
    stain_angle_degrees: float | None
    max_hematoxylin: float
    max_eosin: float
    status: str
    file_sha256: str


# The rows of stain_qc.csv by image and scale.
StainQC = dict[tuple[str, str], StainQCRow]
_QC_COLUMNS = tuple(field.name for field in dataclasses.fields(StainQCRow))
_QC_DIGITS = {"tissue_fraction": 4, "stain_angle_degrees": 2, "max_hematoxylin": 4, "max_eosin": 4}


def file_of(root: Path, configuration: str, name: str) -> Path:
    """Where the descriptors of an image are."""
    return root / configuration / f"{name}.npy"


def open_array(path: Path) -> np.ndarray:
    """A descriptor file, checked for its form: float32 [A, D]; memory-mapped where it is local.

    Raises:
      InputError: it is no array of that form.
    """
    try:
        if files.is_local(path):
            with path.open("rb") as file:
                shape, fortran, dtype = npz.read_header(path.name, file, path.stat().st_size)
                start, order = file.tell(), "F" if fortran else "C"
            array = np.memmap(path, dtype, "r", start, shape, order)
        else:
            array = npz.read_array(path.read_bytes())
    except Exception as error:  # NumPy's reader raises whatever a damaged header throws up.
        raise InputError(
            f"{path} cannot be read as an array of numbers (.npy): remove it and extract, or "
            "import, again"
        ) from error
    if array.ndim != 2 or array.dtype != np.float32:
        raise InputError(
            f"{path} holds {array.dtype} {array.shape}, expected float32 (augmentations, channels)"
        )
    return array


def is_done(root: Path, configuration: str, name: str, shape: tuple[int, int]) -> bool:
    """Whether an image has its descriptor file; InputError if that is of another shape."""
    path = file_of(root, configuration, name)
    if not path.exists():
        return False
    recorded = open_array(path).shape
    if recorded != shape:
        raise InputError(
            f"{path} has shape {recorded}, expected {shape}: it is of another protocol; name "
            "another folder"
        )
    return True


def write(root: Path, configuration: str, name: str, descriptors: np.ndarray) -> None:
    """Writes descriptors of an image.

    Raises:
      InputError: a value is not finite.
      ValueError: they are not float32 [A, D].
    """
    if descriptors.ndim != 2 or descriptors.dtype != np.float32:
        form = f"{descriptors.dtype} {descriptors.shape}"
        raise ValueError(f"descriptors must be float32 (augmentations, channels), got {form}")
    require_finite(configuration, name, descriptors)
    files.write_array(file_of(root, configuration, name), descriptors)


def require_finite(configuration: str, name: str, descriptors: np.ndarray) -> None:
    """Raises InputError where a value of an image's descriptors is not finite."""
    if not np.isfinite(descriptors).all():
        raise InputError(
            f"{configuration} gave descriptors of {name} that are not finite: the weights are "
            "unusable, or a tap of an encoder of your own is negative and not Tap(..., signed=True)"
        )


def read(root: Path, configuration: str, names: Iterable[str]) -> np.ndarray:
    """Descriptors of images in their order: float32 [N, A, D].

    Raises:
      InputError: files are missing, of different shapes, or hold NaN or infinity.
    """
    names = list(names)
    paths = [file_of(root, configuration, name) for name in names]
    existing = set(image_names(root, configuration))
    if missing := [f"{name}.npy" for name in names if name not in existing]:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise InputError(
            f"{root / configuration} lacks the descriptors of {len(missing)} of {len(names)} "
            f"images ({listed}): extract, or import, those first"
        )
    shape = open_array(paths[0]).shape
    descriptors = np.empty((len(paths), *shape), np.float32)
    for i, path in enumerate(paths):
        array = open_array(path)
        if array.shape != shape:
            raise InputError(
                f"{path} has shape {array.shape}, but {paths[0]} has {shape}: extract, or import, "
                "again with one protocol"
            )
        descriptors[i] = array
        if not np.isfinite(descriptors[i]).all():
            raise InputError(
                f"{path} holds NaN or infinity: remove it and extract, or import, that image again"
            )
    return descriptors


def configurations(root: Path) -> tuple[str, ...]:
    """The configurations that have descriptors below the root."""
    if not root.is_dir():
        return ()
    return in_order(
        {folder.name for folder in files.list_folder(root)[0] if any(_descriptor_files(folder))}
    )


def image_names(root: Path, configuration: str) -> tuple[str, ...]:
    """The images that have descriptors of a configuration, by name."""
    folder = root / configuration
    paths = _descriptor_files(folder) if folder.is_dir() else ()
    below = ["/".join(path.relative_to(folder).parts) for path in paths]
    return tuple(sorted(name.removesuffix(".npy") for name in below))


def width(root: Path, configuration: str) -> int:
    """Channels of a configuration's descriptors; InputError where there are none, or damaged."""
    names = image_names(root, configuration)
    if not names:
        raise InputError(f"{root / configuration} holds no descriptors")
    return open_array(file_of(root, configuration, names[0])).shape[1]


def _descriptor_files(folder: Path) -> Iterator[Path]:
    """The descriptor files of a configuration, in no order."""
    if files.is_local(folder):
        return folder.rglob("*.npy")
    return (path for path in files.files_below(folder) if path.name.endswith(".npy"))


def read_stain_qc(root: Path) -> StainQC:
    """The rows of stain_qc.csv and of its parts, which override it; empty without any file.

    Raises:
      InputError: one of the files is damaged.
    """
    return _merged(root, _read_parts(root))


def pixel_sizes(root: Path) -> dict[str, float]:
    """Microns per pixel that images were described at, by name; none where it did not matter.

    Raises:
      InputError: as `read_stain_qc`.
    """
    rows = read_stain_qc(root).values()
    sizes = {row.image: recorded_pixel_size(row.file_sha256) for row in rows}
    return {name: size for name, size in sizes.items() if size}


def write_stain_qc(root: Path, rows: StainQC, process: int = 0, processes: int = 1) -> None:
    """Replaces stain_qc.csv or, of several processes, the part of one.

    Args:
      root: the folder of descriptors.
      rows: all rows of the file; for a part, those of this process alone.
      process, processes: which process this is, from 0 on, and how many write at once.
    """
    name = STAIN_QC if processes == 1 else f"stain_qc-{process + 1}of{processes}.csv"
    files.write_csv(root / name, (_cells(rows[key]) for key in sorted(rows)), _QC_COLUMNS)


def merge_stain_qc(root: Path) -> None:
    """Writes the rows of all parts into stain_qc.csv and removes the parts, if there are any.

    A process calls it when it has written its own last part and every image of the run is finished.
    The rows of an image are written before its descriptors, so parts no longer change then. Several
    processes may call it at once: each reads all rows, whatever another has removed already, and
    writes the same bytes. A part that changes meanwhile stays for the next call. Only a part that
    is replaced in the instant before its removal loses its newest row; its process writes that row
    again with its next image, and without it the image is extracted again.

    Raises:
      InputError: one of the files is damaged; nothing is removed.
    """
    parts = _read_parts(root)
    if not parts:
        return
    write_stain_qc(root, _merged(root, parts))
    for path, rows in parts.items():
        if _read_rows(path) == rows:
            path.unlink(missing_ok=True)


def _read_parts(root: Path) -> dict[Path, StainQC]:
    """The rows of every part."""
    return {path: _read_rows(path) for path in sorted(root.glob(_STAIN_QC_PARTS))}


def _merged(root: Path, parts: dict[Path, StainQC]) -> StainQC:
    """The rows of stain_qc.csv, overridden by those of parts that were read before it.

    In this order no row is missed: a part that has been removed since is in stain_qc.csv by now.
    """
    rows = _read_rows(root / STAIN_QC)
    for part in parts.values():
        rows |= part
    return rows


def _read_rows(path: Path, again: int = 2) -> StainQC:
    """The rows of stain_qc.csv or of a part; none if it does not exist, or not any more.

    Raises:
      InputError: it is damaged, also when read `again`, since an object of a bucket that is
        replaced while it is read may be cut off.
    """
    try:
        rows = [_parse(path, cells) for cells in files.read_csv(path, _QC_COLUMNS)]
    except InputError as error:
        if not path.exists():
            return {}
        if again:
            return _read_rows(path, again - 1)
        raise InputError(f"{error}. Remove it: the images are then extracted again") from error
    return {(row.image, row.scale): row for row in rows}


def _cells(row: StainQCRow) -> list[str]:
    """The cells of a row; empty where nothing was measured."""
    values = dataclasses.asdict(row)
    for name, digits in _QC_DIGITS.items():
        values[name] = "" if values[name] is None else f"{values[name]:.{digits}f}"
    return list(values.values())


def _parse(path: Path, cells: Mapping[str, str]) -> StainQCRow:
    """The row of these cells; InputError where one of them is no number."""
    values: dict[str, Any] = {name: cells[name] for name in _QC_COLUMNS}
    try:
        for name in _QC_DIGITS:
            values[name] = float(values[name]) if values[name] else None
        recorded_pixel_size(values["file_sha256"])
    except ValueError as error:
        raise InputError(
            f"{path} is damaged in the row of {cells['image']} at scale {cells['scale']}: {error}"
        ) from error
    return StainQCRow(**values)
