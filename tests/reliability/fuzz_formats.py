"""Damage to files by their format, past the checks that the format has of its own.

The CRC of a PNG's chunks and the digests of a zip's members are made right again, and JSON stays
JSON. `mutate` takes what suits the name of a file.
"""

import copy
import functools
import io
import json
import math
import random
import struct
import zipfile
import zlib
from typing import Any

from tests.reliability.fuzz_mutations import (
    MOST_ADDED,
    TOKENS,
    Mutation,
    damage,
    edit_text,
    flip_bits,
    set_integer,
)

_DEEPEST = 20  # Objects in objects of JSON, in which values are changed.
_VALUES = (None, True, False, 0, -1, 1, 2, 0.5, -0.0, math.nan, math.inf, -math.inf, 1e308, 2**31)
_VALUES += (2**63, 10**400, "", "x", "0", "\0", "../x", "é" * 300, [], {}, [None], [[]], {"": {}})


def edit_png(rng: random.Random, content: bytes) -> bytes:
    """Chunks of a PNG are damaged, swapped, doubled or removed; their CRCs are right."""
    chunks, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        chunks.append([kind, content[place + 8 : place + 8 + length]])
        place += 12 + length
    if not chunks:
        return damage(rng, content)
    at = rng.randrange(len(chunks))
    match rng.randrange(6):
        case 0:
            chunks.insert(rng.randrange(len(chunks)), chunks[at])
        case 1:
            del chunks[at]
        case 2:
            rng.shuffle(chunks)
        case _:
            chunks[at] = [chunks[at][0], damage(rng, chunks[at][1])]
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def edit_tiff(rng: random.Random, content: bytes) -> bytes:
    """Tag, type, count, value or pointer of an entry in a directory of a TIFF gets another."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    pointer, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    size, place, entries, seen = struct.calcsize(pointer), 8 if big else 4, [], set()
    while place + size <= len(content) and place not in seen:
        seen.add(place)
        (start,) = struct.unpack_from(order + pointer, content, place)
        if not 0 < start <= len(content) - struct.calcsize(count):
            break
        (number,) = struct.unpack_from(order + count, content, start)
        start += struct.calcsize(count)
        entries += range(start, min(start + number * entry, len(content) - entry), entry)
        place = start + number * entry
    if not entries:
        return damage(rng, content)
    at = rng.choice(entries)
    offset, length = rng.choice([(0, 2), (2, 2), (4, size), (4 + size, size), (4 + size, 2)])
    field = set_integer if rng.random() < 0.8 else flip_bits
    part = content[at + offset : at + offset + length]
    return content[: at + offset] + field(rng, part) + content[at + offset + length :]


def _paths(value: Any, path: tuple = ()) -> list[tuple]:
    """Where the values in JSON are, to some depth: the keys and indices that lead to each."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    nested = isinstance(value, dict | list) and len(path) < _DEEPEST
    inner = [(*path, key) for key, _ in items] if nested else []
    return inner + [
        below
        for at in inner
        if isinstance(value[at[-1]], dict | list)
        for below in _paths(value[at[-1]], at)
    ]


def edit_json(rng: random.Random, content: bytes) -> bytes:
    """A value of JSON is replaced, removed, renamed, or nested very deep; it stays JSON."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return damage(rng, content)
    if rng.random() < 0.05:
        depth = rng.choice((20, 400, 900, 2000, 200_000))
        return b'{"a":' * depth + content + b"}" * depth
    if not isinstance(value, dict | list) or not value or rng.random() < 0.03:
        return json.dumps(rng.choice(_VALUES)).encode()
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not (paths := _paths(value)):
            break
        *outer, last = rng.choice(paths)
        holder = functools.reduce(lambda inner, key: inner[key], outer, value)
        match rng.randrange(8):
            case 0:
                del holder[last]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(TOKENS[:20])] = holder.pop(last)
            case 2 if isinstance(holder[last], int | float):
                holder[last] = rng.choice((-holder[last], holder[last] + 1, str(holder[last])))
            case 3 if isinstance(holder[last], str):
                holder[last] = rng.choice(TOKENS)
            case _:
                holder[last] = copy.deepcopy(rng.choice(_VALUES))  # Later edits change it.
    return json.dumps(value).encode()


@functools.cache
def _bomb() -> tuple[bytes, int, int]:
    """Deflated zeros: about a megabyte that becomes one gigabyte; its CRC and size."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(MOST_ADDED)) + deflate.flush(zlib.Z_FULL_FLUSH)
    crc = functools.reduce(lambda crc, _: zlib.crc32(bytes(MOST_ADDED), crc), range(1024), 0)
    return block * 1024 + deflate.flush(), crc, 1024 * MOST_ADDED


def edit_zip(rng: random.Random, content: bytes) -> bytes:
    """A member is damaged within, renamed, doubled, removed, or a bomb; the digests are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            comment = opened.comment
            if sum(entry.file_size for entry in opened.infolist()) > 16 * MOST_ADDED:
                return damage(rng, content)
            entries = [(entry, opened.read(entry)) for entry in opened.infolist()]
    except Exception:
        return damage(rng, content)
    if not entries:
        return damage(rng, content)
    at = rng.randrange(len(entries))
    entry, member = entries[at]
    action = rng.randrange(20)
    match action:
        case 0:
            entry.filename = rng.choice(
                ("../x", "/x", "a\\..\\x", "x\0y", "", "é" * 200, "x" * 9999)
            )
        case 1:
            entries.append(entries[at])
        case 2:
            del entries[at]
        case 3:
            entry.external_attr = 0o120777 << 16  # A link.
        case 4:
            entry.compress_type = rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case 5:
            entry.extra = rng.randbytes(rng.randint(0, 64))
        case _:
            entries[at] = entry, mutate(rng, entry.filename, member)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.comment = comment
        for info, data in entries:
            made.writestr(info, data, info.compress_type)
    packed = out.getvalue()
    if action == 6:
        return _with_bomb(packed, entries[at][0])
    return packed if rng.random() < 0.8 else damage(rng, packed)


def _with_bomb(packed: bytes, entry: zipfile.ZipInfo) -> bytes:
    """The zip with one member that unpacks to a gigabyte; the others are left out."""
    data, crc, size = _bomb()
    name = entry.filename.encode()
    fields = struct.pack("<HHHHIII", 0, 8, 0, 33, crc, len(data), size)
    local = b"PK\3\4\x14\0" + fields + struct.pack("<HH", len(name), 0) + name
    central = b"PK\1\2\x14\0\x14\0" + fields + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0)
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central + name), len(local + data), 0)
    return local + data + central + name + b"PK\5\6" + end


_BY_SUFFIX: dict[str, Mutation] = {
    **dict.fromkeys((".csv", ".txt", ".tsv", ".jsonl", ".xml", ".ini"), edit_text),
    ".json": edit_json,
    ".png": edit_png,
    **dict.fromkeys((".tif", ".svs", ".ndpi", ".scn", ".bif"), edit_tiff),
    **dict.fromkeys((".zip", ".npz", ".xlsx", ".pt", ".histojax"), edit_zip),
}


def mutate(rng: random.Random, name: str, content: bytes) -> bytes:
    """One to four mutations that suit a file of this name; never the same content again."""
    suited = _BY_SUFFIX.get("." + name.rpartition(".")[2].lower(), damage)
    changed = content
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        mutation = suited if rng.random() < 0.7 else damage
        changed = mutation(rng, changed) if changed else damage(rng, changed)
    return changed if changed != content else content + b"\0"
