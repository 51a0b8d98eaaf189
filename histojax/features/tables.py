"""Features in CSV: a row per tile of one slide, or per slide, or per tile with the slide's name.

Columns of features are numbered behind one word (`0`, `f_0`, `feature1`, ...), in order and none
missing, or the table has no header. One more column may hold the slide's name, one a running
number, and coordinates are left out.
"""

import array
import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from histojax.errors import InputError
from histojax.utils import files

_LARGEST = 2**30  # Bytes of text: about 400 MB of features, which are held together.
_NAMES = "slide slideid slidename image imageid imagename filename file name wsi"
_UNTITLED = ("", "unnamed:0")  # A heading of what pandas wrote as its index.
_COORDS = "x y coordx coordy coordsx coordsy xcoord ycoord"


def read(path: Path) -> dict[str | None, np.ndarray]:
    """The features of each slide, float32 [n, D]; under None where the table does not name it.

    Raises:
      InputError: it is no table of numbers, or which columns are features cannot be told.
    """
    size = path.stat().st_size
    if size > _LARGEST:
        raise InputError(f"{path} has {size} bytes, expected at most {_LARGEST}: save it as .npy")
    try:
        with path.open("rb") as file:
            wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            file.seek(0)
            text = io.TextIOWrapper(file, "utf-16" if wide else "utf-8-sig", newline="")
            mark = files.delimiter_of(text.read(2**20))
            text.seek(0)
            return _read(path, (line for line in csv.reader(text, delimiter=mark) if line))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error


def _read(path: Path, lines: Iterator[list[str]]) -> dict[str | None, np.ndarray]:
    first = next(lines, None)
    if first is None:
        raise InputError(f"{path} is empty: expected features, a row for each tile or slide")
    header = _is_header(first)
    name, columns = _columns(path, first) if header else (None, list(range(len(first))))
    rows: dict[str | None, array.array] = {}
    for count, line in enumerate(lines if header else itertools.chain([first], lines), 1):
        if len(line) != len(first):
            raise InputError(f"{path}: row {count} has {len(line)} cells, expected {len(first)}")
        slide = None if name is None else line[name].strip()
        try:
            rows.setdefault(slide, array.array("f")).extend(float(line[i]) for i in columns)
        except ValueError as error:
            raise InputError(f"{path}: row {count}: {error}, expected numbers") from error
    slides = {
        slide: np.frombuffer(values, np.float32).reshape(-1, len(columns))
        for slide, values in rows.items()
    }
    untitled = name is not None and _plain(first[name]) in _UNTITLED
    if untitled and list(slides) == [str(i) for i in range(len(slides))]:  # The index of pandas.
        slides = {None: np.concatenate(list(slides.values()))} if slides else {}
    elif untitled and all(name.isdecimal() for name in slides):
        raise InputError(
            f"{path} has numbers in a column without a heading: are these names of slides, or an "
            "index of tiles? Call the column slide, or leave it out"
        )
    if "" in slides:
        raise InputError(f"{path} has rows without a slide's name in column {first[name]!r}")
    return slides or {None: np.empty((0, 0), np.float32)}


def _is_header(cells: list[str]) -> bool:
    """Whether cells are headings: not all numbers, or the numbers 0, 1, 2, ... of pandas."""
    named = cells[1:] if cells and not cells[0].strip() else cells
    try:
        numbers = [float(cell) for cell in named]
    except ValueError:
        return True
    return len(numbers) > 2 and numbers in ([*range(len(numbers))], [*range(1, len(numbers) + 1)])


def _columns(path: Path, header: list[str]) -> tuple[int | None, list[int]]:
    """The column of names, if there is one, and those of features.

    Raises:
      InputError: a column may be either, or features are not numbered through.
    """
    plain = [_plain(title) for title in header]
    names = [i for i, title in enumerate(plain) if title in _NAMES.split()]
    names = names or [i for i, title in enumerate(plain) if title in _UNTITLED]
    skipped = (*_COORDS.split(), *_UNTITLED)
    rest = [i for i, title in enumerate(plain) if i not in names and title not in skipped]
    parts = [re.fullmatch(r"(.*?)(\d{1,9})", header[i].strip()) for i in rest]
    if len(names) > 1:
        raise InputError(
            f"{path} has columns {', '.join(header[i] for i in names)}: which of them names the "
            "slides? Leave the others out"
        )
    words = {part[1] for part in parts if part}
    numbers = [int(part[2]) for part in parts if part]
    if not rest or None in parts or len(words) > 1 or np.any(np.diff(numbers) != 1):
        odd = [header[i] for i, part in zip(rest, parts, strict=True) if part is None] or header
        raise InputError(
            f"{path} has columns {', '.join(odd[:5])}: which of its columns are features cannot be "
            "told. Call them f0, f1, ... in order, that of the slide's name slide, and leave the "
            "others out"
        )
    return (names[0] if names else None), rest


def _plain(title: str) -> str:
    return re.sub(r"[\s_.-]", "", title.lower())
