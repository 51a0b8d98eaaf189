"""Features in HDF5 as TRIDENT, CLAM and STAMP write them, and what their attributes say.

TRIDENT   features [N, D], or [D] of a slide; coords [N, 2] with attributes of the tiles
CLAM      features [N, D]; coords [N, 2] without attributes
STAMP     feats [N, D]; attributes of the file
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import IO, Any

import h5py
import numpy as np

from histojax.utils.array_files import hdf5, hdf5_heaps
from histojax.utils.array_files.stored import Refused, require_bytes, require_few, shape_of

_NAMES = ("features", "feats")  # Of the array of features among others.
_COORDS = "coords"
_LARGEST_CHUNK = 2**27  # Bytes of a compressed piece of HDF5, which the library unpacks whole.
_MOST_COMPRESSED = 1100  # No built-in compression of HDF5 shrinks more.
# Filters that are built into h5py: gzip, shuffle, Fletcher's checksum, LZF. Others are programs.
_FILTERS = (1, 2, 3, 32000)
_ENCODER, _KIND = "extractor", "feat_type"  # STAMP's attributes.
_SLIDE_FEATURES = ("slide", "patient")  # STAMP's words for what describes no tile.


@dataclasses.dataclass(frozen=True)
class FeatureArray:
    """An array in an open file; `blocks` reads n rows [n, D] at a time, of the file's dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[int], Iterator[np.ndarray]]
    facts: dict[str, Any]


def choose(names: list[str]) -> str:
    """Which array holds the features; Refused where that cannot be told."""
    others = [name for name in names if name != _COORDS]
    known = [name for name in _NAMES if name in names]
    if len(known) == 1 or (not known and len(others) == 1):
        return (known or others)[0]
    if others:
        listed = ", ".join(others[:5])
        raise Refused(f"it holds {listed}: which of them are the features? Name one 'features'")
    raise Refused("it holds coordinates of tiles and no features" if names else "it is empty")


def form_of(shape: tuple[int, ...]) -> tuple[int, int, str | None]:
    """N, D and level of an array: [N, D] or [1, N, D] of tiles, [D] of a slide.

    Raises:
      Refused: it is none of these.
    """
    if shape == (0,):
        return 0, 0, None
    if len(shape) == 1:
        return 1, shape[0], "slide"
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2 or (shape[0] and not shape[1]):
        raise Refused(f"its features have shape {shape}, expected (tiles, channels) or (channels,)")
    return shape[0], shape[1] if shape[0] else 0, "tile" if shape[0] > 1 else None


def open_array(opened: h5py.File, file: IO[bytes], size: int) -> FeatureArray:
    """The features in an open file of `size` bytes.

    Raises:
      Refused: there are none, or their values are elsewhere or more than the file can hold.
    """
    names = list(opened)
    require_few(len(names))
    name = choose(names)
    dataset = hdf5.get(opened, name, h5py.Dataset)
    if dataset.shape is None:
        raise Refused(f"{name} has no values")
    shape = shape_of(name, dataset.shape)
    _require_held(name, dataset, size)
    facts: dict[str, Any] = {}
    if name == "feats":
        hdf5_heaps.check(file, (_ENCODER, _KIND))
        facts = _facts_of_stamp(opened, size)
    elif _COORDS in names:
        coords = hdf5.get(opened, _COORDS, h5py.Dataset)
        rows, _, level = form_of(shape)
        places = (coords.shape or ())[-2:-1]
        if level != "slide" and places and places != (rows,):
            raise Refused(f"it has features of {rows} tiles, and coordinates of {places[0]}")
        facts = _facts_of_tiles(coords) | ({"level": "tile"} if rows and level != "slide" else {})

    def blocks(count: int) -> Iterator[np.ndarray]:
        if len(shape) == 1:
            yield dataset[()].reshape(form_of(shape)[:2])
            return
        for start in range(0, shape[-2], count):
            yield dataset[(0,) * (len(shape) - 2) + (slice(start, start + count),)]

    return FeatureArray(shape, dataset.dtype, blocks, facts)


def _require_held(name: str, dataset: h5py.Dataset, size: int) -> None:
    """Raises Refused where values are elsewhere, need a plug-in, or are more than the file has."""
    hdf5.require_values_here(name, dataset)
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size() if claimed else 0
    require_bytes(name, stored, size)
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if not filters:
        return require_bytes(name, claimed, stored)
    if foreign := [number for number in filters if number not in _FILTERS]:
        raise Refused(
            f"{name} is compressed by a plug-in of HDF5 (number {foreign[0]}): save it with gzip "
            "or uncompressed"
        )
    piece = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if piece > _LARGEST_CHUNK:
        raise Refused(
            f"{name} is compressed in pieces of {piece} bytes, expected at most {_LARGEST_CHUNK}"
        )
    return require_bytes(name, claimed, stored * _MOST_COMPRESSED)


def _facts_of_tiles(coords: h5py.Dataset) -> dict[str, Any]:
    """TRIDENT's attributes of coordinates; CLAM has none."""
    magnification = _number(coords, "target_magnification")
    patch, overlap = _number(coords, "patch_size"), _number(coords, "overlap")
    if magnification is None and patch is None:
        return {"format": "CLAM"}
    stated = {
        "magnification": magnification,
        "patch_px": None if patch is None else int(patch),
        "overlap_px": None if overlap is None else int(overlap),
    }
    return {"format": "TRIDENT"} | {k: v for k, v in stated.items() if v is not None}


def _facts_of_stamp(opened: h5py.File, size: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"format": "STAMP"}
    if extractor := hdf5.read_text(opened, _ENCODER, size):
        facts["encoder"] = extractor
    if kind := hdf5.read_text(opened, _KIND, size):
        facts["level"] = "slide" if kind in _SLIDE_FEATURES else "tile"
    pixels, microns = _number(opened, "tile_size_px"), _number(opened, "tile_size_um")
    if pixels:
        facts["patch_px"] = int(pixels)
    if pixels and microns:
        facts["mpp"] = round(microns / pixels, 4)
    return facts


def _number(owner: h5py.Group | h5py.Dataset, name: str) -> float | None:
    """A number in an attribute; None where there is none."""
    if name not in owner.attrs:
        return None
    stored = owner.attrs.get_id(name)
    numeric = isinstance(stored.get_type(), h5py.h5t.TypeFloatID | h5py.h5t.TypeIntegerID)
    if not numeric or math.prod(stored.shape) != 1:
        return None
    number = float(np.ravel(owner.attrs[name])[0])
    return number if math.isfinite(number) else None
