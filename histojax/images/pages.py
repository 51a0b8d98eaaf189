"""Which page of a file of several is the image: the largest, where no other could be meant."""

import math
from collections.abc import Sequence

# Pixels that any other page may have, as a share of the image's: copies in half the size (a
# pyramid's levels), thumbnails and labels have fewer.
_MOST = 0.5
MOST_PAGES = 1000  # Of a file: no slide has as many, and to follow them all takes very long.
MARKED = 1 | 4  # Bits of TIFF's NewSubfileType: a smaller copy of another page, a mask.


def choose(sizes: Sequence[tuple[int, int]], marked: Sequence[bool]) -> int | None:
    """The index of the image among pages; None where several could be it.

    Args:
      sizes: height and width of each page.
      marked: whether a page says of itself that it is a smaller copy or a mask.
    """
    candidates = [i for i, is_marked in enumerate(marked) if not is_marked] or range(len(sizes))
    pixels = {i: math.prod(sizes[i]) for i in candidates}
    largest = max(pixels, key=pixels.__getitem__)
    limit = _MOST * pixels.pop(largest)
    return None if any(others > limit for others in pixels.values()) else largest


def refusal(sizes: Sequence[tuple[int, int]]) -> str:
    """Why no page is chosen, as the rest of a sentence that starts with the file."""
    shown = ", ".join(f"{width} x {height}" for height, width in sizes[:5])
    more = ", ..." if len(sizes) > 5 else ""
    return (
        f"has {len(sizes)} pages ({shown}{more} px), and more than one could be the image: save "
        "the page you mean as a file of its own"
    )


def too_many() -> str:
    """The same of a file with more pages than are looked at."""
    return f"has more than {MOST_PAGES} pages: save the page you mean as a file of its own"


def notice(sizes: Sequence[tuple[int, int]], chosen: int) -> str:
    """Which page is taken, as the rest of a sentence that starts with the file."""
    height, width = sizes[chosen]
    return f"has {len(sizes)} pages: page {chosen + 1}, of {width} x {height} px, is the image"
