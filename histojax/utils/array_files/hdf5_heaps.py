"""A check of HDF5's global heaps, which hold texts of any length, before its library reads them.

The library goes round in circles in some damaged heaps, makes room for whatever size a heap or a
reference states, and hands out a long text as often as it is referred to. A heap is `GCOL`, a
version, its size, and objects: index (2 bytes), references (2), reserved (4), size (8), content
padded to 8 bytes. The object of index 0 is the free space, to the heap's end.
"""

import collections
import re
import struct
from typing import BinaryIO

from histojax.utils.array_files.stored import Refused, require_few

_BEGINNING = b"GCOL\x01"
_HEADER, _OBJECT = struct.Struct("<8xQ"), struct.Struct("<HHIQ")
_REFERENCE = struct.Struct("<IQI")  # A text's length, its heap, its index there.
# A type of texts of any length, of 16 bytes: it stands before references that are not aligned.
_TYPE_OF_TEXTS, _TYPE_WITHIN = re.compile(rb"[\x19\x29\x39\x49]...\x10\0\0\0", re.DOTALL), 1024
_CHUNK = 2**22
_LARGEST_HEAP = 2**24
_UNREASONABLE = 2**40
# Of a text: a name; or the description of a whole model, which is there once.
_LONGEST_NAME, _LONGEST = 2**10, 2**20


def check(file: BinaryIO) -> None:
    """Raises Refused where a global heap, or a reference to one, is damaged, or a text is long."""
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
    for heap, sizes in heaps.items():
        for place in _places(file, size, heap.to_bytes(8, "little")):
            file.seek(max(place - 4, 0))
            reference = file.read(_REFERENCE.size)
            if len(reference) == _REFERENCE.size:
                length, _, index = _REFERENCE.unpack(reference)
                if length == 0 and place % 8 == 0:
                    continue  # Sides of a shape, such as 2048: a reference's heap is at 4 beyond 8.
                if sizes.get(index, length) != length and _may_be_a_reference(file, place):
                    raise Refused("a reference to one of its texts is damaged")
                # Numbers may look like a reference to a heap, but seldom to what is in it.
                uses[heap, index] += index in sizes and length > _LONGEST_NAME
    if any(number > 1 for number in uses.values()):
        raise Refused(f"a text of more than {_LONGEST_NAME} bytes in it is used more than once")


def _may_be_a_reference(file: BinaryIO, place: int) -> bool:
    """Whether a heap's address at a place may be one of a reference, and no other numbers.

    h5py and Keras align theirs; any that the library takes for one comes after its type.
    """
    file.seek(max(place - _TYPE_WITHIN, 0))
    before = file.read(min(place, _TYPE_WITHIN))
    return place % 8 == 4 or _TYPE_OF_TEXTS.search(before) is not None


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
