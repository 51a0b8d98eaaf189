"""Damage to bytes and text: what disks, transfers, editors and attackers do to files.

Each mutation is a pure function of a random generator and the content.
"""

import random
import re
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes], bytes]

MOST_ADDED = 2**20  # Bytes that one mutation may add.
_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**16, 2**20, 2**24, 2**31 - 1, 2**31)
_EDGES += (2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
TOKENS = (
    "",
    " ",
    "0",
    "-1",
    "NaN",
    "inf",
    "-inf",
    "1e999",
    "1e-999",
    "0x10",
    "1" * 400,
    "9" * 5000,
)
TOKENS += ("\0", "\x1b[31m", "\u202e", "\ufeff", "é", "\U0001f52c", "²", "٣", "x" * 70_000, '"')
TOKENS += ("../../etc/passwd", "/", "C:\\x", "a/" * 200, "=1+1", "None", "true", "[", "a,b;c\td")


def _place(rng: random.Random, content: bytes) -> int:
    """Half of all places lie in the first 256 bytes, where headers are."""
    return rng.randrange(min(len(content), 256) if rng.random() < 0.5 else len(content))


def _span(rng: random.Random, content: bytes) -> tuple[int, int]:
    start = _place(rng, content)
    length = min(2 ** rng.randint(0, 12), len(content) - start)
    return start, start + max(1, rng.randint(length // 2, length))


def _noise(rng: random.Random, length: int) -> bytes:
    return rng.choice((rng.randbytes(length), b"\0" * length, b"\xff" * length))


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(2 ** rng.randint(0, 4)):
        changed[_place(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(rng: random.Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + _noise(rng, end - start) + content[end:]


def remove(rng: random.Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + content[end:]


def duplicate(rng: random.Random, content: bytes) -> bytes:
    start, end = _span(rng, content)
    return content[:end] + content[start:end] * rng.choice((1, 1, 2, 50)) + content[end:]


def insert(rng: random.Random, content: bytes) -> bytes:
    place = _place(rng, content)
    return content[:place] + _noise(rng, 2 ** rng.randint(0, 10)) + content[place:]


def truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def swap(rng: random.Random, content: bytes) -> bytes:
    (a, b), (c, d) = sorted((_span(rng, content), _span(rng, content)))
    c = max(b, c)
    d = max(c, d)
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def set_integer(rng: random.Random, content: bytes) -> bytes:
    """A number of 1 to 8 bytes, of either order, becomes one at an edge, or one more or less."""
    size = rng.choice((1, 2, 4, 8))
    if len(content) < size:
        return content
    place = min(_place(rng, content) // size * size, len(content) - size)
    order = rng.choice(("little", "big"))
    number = int.from_bytes(content[place : place + size], order)
    number = rng.choice((*_EDGES, number + 1, number - 1, -number, 2 * number)) % 256**size
    return content[:place] + number.to_bytes(size, order) + content[place + size :]


def set_digits(rng: random.Random, content: bytes) -> bytes:
    """A number that is written in digits becomes another."""
    numbers = [found.span() for found in re.finditer(rb"\d+", content[:MOST_ADDED])]
    if not numbers:
        return set_integer(rng, content)
    start, end = rng.choice(numbers)
    number = int(content[start:end][:4000])
    other = rng.choice((*_EDGES, number + 1, number - 1, -number, 10 * number, 10**30))
    return content[:start] + str(other).encode() + content[end:]


_OF_BYTES = (flip_bits, overwrite, remove, duplicate, insert, truncate, swap)
_OF_BYTES += (set_integer, set_integer, set_integer, set_digits)


def damage(rng: random.Random, content: bytes) -> bytes:
    """One of the mutations of bytes."""
    return rng.choice(_OF_BYTES)(rng, content) if content else rng.randbytes(rng.randint(0, 64))


def edit_text(rng: random.Random, content: bytes) -> bytes:
    """Cells, delimiters, quotes, line ends, rows and the encoding of a text."""
    text = content.decode(errors="replace")
    match rng.randrange(10):
        case 0:
            text = text.replace(rng.choice((",", ";", "\t")), rng.choice((",", ";", "\t", "|", "")))
        case 1:
            ends = ("\r", "\r\n", "\n", "\n\n", "\x0b", "\x85", "\u2028")
            text = re.sub("\n", lambda _: rng.choice(ends), text)
        case 2:
            lines = text.splitlines(keepends=True)
            rng.shuffle(lines)
            text = "".join(lines)
        case 3:
            lines = text.splitlines(keepends=True)
            text = "".join(lines + rng.sample(lines, min(len(lines), 2)))
        case 4:
            encoded = rng.choice(("utf-16", "utf-16-le", "utf-8-sig", "utf-32", "cp037"))
            return text.encode(encoded, errors="replace")
        case 5:
            place = rng.randrange(len(text) + 1)
            text = text[:place] + rng.choice(TOKENS) + text[place:]
        case _:
            cells = [found.span() for found in re.finditer(r"[^,;\t\n\r]+", text)]
            if cells:
                start, end = rng.choice(cells)
                text = text[:start] + rng.choice(TOKENS) + text[end:]
    return text.encode(errors="surrogatepass")
