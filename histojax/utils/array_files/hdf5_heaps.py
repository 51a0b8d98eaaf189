"""A check of HDF5's global heaps, which hold texts of any length, before its library reads them.

The library goes round in circles in some damaged heaps, makes room for whatever size a heap or a
reference states, and hands out a long text as often as it is referred to. A heap is `GCOL`, a
version, its size, and objects: index (2 bytes), references (2), reserved (4), size (8), content
padded to 8 bytes. The object of index 0 is the free space, to the heap's end. The texts of an
attribute are references, which follow its name, type and shape.
"""

import collections
import math
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from histojax.utils.array_files.stored import Refused, require_few

_BEGINNING = b"GCOL\x01"
_HEADER, _OBJECT = struct.Struct("<8xQ"), struct.Struct("<HHIQ")
_REFERENCE = struct.Struct("<IQI")  # A text's length, its heap, its index there.
# Of an attribute: version, flags, bytes of its name, type and shape. Its name begins so far behind
# it, and each of the three is padded to a multiple, by version.
_ATTRIBUTE = struct.Struct("<BBHHH")
_NAME_AFTER, _PADDED_TO = {1: 8, 2: 8, 3: 9}, {1: 8, 2: 1, 3: 1}
_SHARED = 3  # Flags of a type or shape that is stored elsewhere.
_OF_ANY_LENGTH = 9  # Class of a type.
_SIDES_AFTER, _NO_VALUES = {1: 8, 2: 4}, 2  # Of a shape, by version; its kind without values.
_CHUNK = 2**22
_LARGEST_HEAP = 2**24
_UNREASONABLE = 2**40
# Of a text: a name; or the description of a whole model, which is there once.
_LONGEST_NAME, _LONGEST = 2**10, 2**20


def check(file: BinaryIO, attributes: Iterable[str]) -> None:
    """Raises Refused where a global heap, or a reference to one, is damaged, or a text is long.

    Args:
      file: the file.
      attributes: how the names of those begin whose texts will be read.
    """
    size = file.seek(0, 2)
    heaps = {}
    for place in _places(file, size, _BEGINNING):
        file.seek(place)
        (length,) = _HEADER.unpack(file.read(_HEADER.size).ljust(_HEADER.size, b"\0"))
        if length > _UNREASONABLE:
            continue  # Numbers that begin like a heap; the library could not make room for one.
        if not _HEADER.size <= length <= min(size - place, _LARGEST_HEAP):
            raise Refused("a heap of its texts is damaged")
        file.seek(place)
        heaps[place] = _sizes(file.read(length))
        require_few(len(heaps))
    uses = collections.Counter()  # Of long texts.
    for length, heap, index in _references(file, size, attributes):
        if length and heaps.get(heap, {}).get(index) != length:
            raise Refused("a reference to one of its texts is damaged")
        uses[heap, index] += length > _LONGEST_NAME
    if any(number > 1 for number in uses.values()):
        raise Refused(f"a text of more than {_LONGEST_NAME} bytes in it is used more than once")


def _references(
    file: BinaryIO, size: int, attributes: Iterable[str]
) -> Iterator[tuple[int, int, int]]:
    """The references of attributes, wherever they are in a file."""
    for name in attributes:
        for place in _places(file, size, name.encode()):
            for version in _NAME_AFTER:
                file.seek(max(place - _NAME_AFTER[version], 0))
                header = file.read(_ATTRIBUTE.size).ljust(_ATTRIBUTE.size, b"\0")
                written, flags, *lengths = _ATTRIBUTE.unpack(header)
                if written == version:
                    file.seek(place)
                    padded = [-(-n // _PADDED_TO[version]) * _PADDED_TO[version] for n in lengths]
                    parts = [file.read(length) for length in padded]
                    count = _count(*parts[1:], version > 1 and bool(flags & _SHARED))
                    content = file.read(count * _REFERENCE.size)
                    whole = len(content) // _REFERENCE.size * _REFERENCE.size
                    yield from _REFERENCE.iter_unpack(content[:whole])


def _count(kind: bytes, shape: bytes, shared: bool) -> int:
    """How many texts of any length an attribute has, by its type and shape; 0 of other types."""
    if len(kind) < 8 or len(shape) < 4 or shape[0] not in _SIDES_AFTER:
        return 0
    if shared:
        raise Refused("the type of an attribute is stored elsewhere")
    after = _SIDES_AFTER[shape[0]]
    if kind[0] % 16 != _OF_ANY_LENGTH or (shape[0] == 2 and shape[3] == _NO_VALUES):
        return 0
    sides = shape[after : after + 8 * shape[1]]
    count = math.prod(int.from_bytes(sides[i : i + 8], "little") for i in range(0, len(sides), 8))
    require_few(count)
    return count


def _places(file: BinaryIO, size: int, content: bytes) -> list[int]:
    """Where a file has these bytes."""
    places = []
    for start in range(0, size, _CHUNK):
        file.seek(start)
        chunk = file.read(_CHUNK + len(content) - 1)
        found = chunk.find(content)
        while found >= 0:
            places.append(start + found)
            found = chunk.find(content, found + 1)
        require_few(len(places))
    return places


def _sizes(heap: bytes) -> dict[int, int]:
    """The sizes of a heap's objects by index."""
    sizes = {}
    place = _HEADER.size
    while place + _OBJECT.size <= len(heap):
        index, _, _, size = _OBJECT.unpack_from(heap, place)
        if index == 0:
            if size != len(heap) - place:
                raise Refused("a heap of its texts is damaged")
            return sizes
        if size > _LONGEST:
            raise Refused(f"it has a text of {size} bytes, expected at most {_LONGEST}")
        sizes[index] = size
        place += _OBJECT.size + -(-size // 8) * 8
    if place > len(heap):
        raise Refused("a heap of its texts is damaged")
    return sizes
