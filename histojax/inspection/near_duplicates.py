"""Images that are the same, or nearly, whatever their files: on two sides of a split, they leak.

Each image becomes a grey thumbnail of 32 x 32 averages. The signs of its 63 lowest DCT frequencies
are its hash (after Zauner, 2010, with signs in place of comparisons with the median: they do not
change with brightness or contrast). Histology has no up, so an image is compared with all eight
turns and flips of another. Pairs of hashes that differ in few bits are candidates; the correlation
of the thumbnails, at the turn that fits best, confirms them.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from histojax.images import slide
from histojax.inspection.similarity import Similarity

_SIDE = 32  # Of the thumbnail, px.
_FREQUENCIES = 8  # Along each side; all but the constant one count.
# Measured on 58 breast fields of 896 x 768 and 15 tiles of others (docs/performance.md): of 2,628
# pairs of different images none is nearer than 15 bits, and of those within 18 none correlates
# above 0.57. JPEG, rescaling and turning change at most 2 bits, brightness 9, a crop of 95 % about
# the centre 14, with correlations of 0.65 and more.
_MOST_BITS = 14  # Of 63, in which the hashes of a candidate differ.
_LEAST_CORRELATION = 0.6  # Of thumbnails, that confirms a candidate.
# Least standard deviation of a thumbnail, grey levels: below it there is nothing to compare.
_LEAST_DEVIATION = 2.0
_WORKERS = 4
_BLOCK = 256  # Images compared with all others at a time.

# Mirrored left to right or not, and then quarter turns to the left.
Turn = tuple[bool, int]
TURNS: tuple[Turn, ...] = tuple((flip, turns) for flip in (False, True) for turns in range(4))


SAME_FILE, COPY, OVERLAP = "same_file", "copy", "overlap"


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What an image is compared by.

    Attributes:
      sha256: of the file.
      size: height and width of the image as it is shown, px.
      thumbnail: float32 [32, 32], grey levels.
    """

    sha256: str
    size: tuple[int, int]
    thumbnail: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images that are the same, or nearly, or share a part.

    Attributes:
      first, second: indices of the images.
      kind: SAME_FILE, byte by byte; COPY, where one is derived from the other; or OVERLAP, fields
        of one slide that share a part.
      transform: takes points of the second image onto the first, px of both as they are shown.
      inliers: local features that agree with the transform.
      correlation: of what both show, once aligned, from -1 to 1.
      shared: the shares of the first image, and of the second, that lie within the other.
    """

    first: int
    second: int
    kind: str
    transform: Similarity
    inliers: int
    correlation: float
    shared: tuple[float, float]


def fingerprint(rgb: np.ndarray, sha256: str, size: tuple[int, int] | None = None) -> Fingerprint:
    """The fingerprint of an image.

    Args:
      rgb: uint8 [H, W, 3], the image or a smaller copy of it.
      sha256: of the file.
      size: height and width of the image; None for those of `rgb`.
    """
    return Fingerprint(sha256, size or rgb.shape[:2], grey_thumbnail(rgb))


def fingerprints(paths: Sequence[Path]) -> tuple[Fingerprint, ...]:
    """The fingerprints of image files, decoded on a few threads.

    Raises:
      InputError: an image cannot be read.
    """

    def of_file(path: Path) -> Fingerprint:
        return fingerprint(slide.read_small(path), slide.digest(path))

    with ThreadPoolExecutor(_WORKERS) as pool:
        return tuple(pool.map(of_file, paths))


def grey_thumbnail(rgb: np.ndarray) -> np.ndarray:
    """Grey averages of 32 x 32 equal parts: uint8 [H, W, 3] -> float32 [32, 32]."""
    grey = Image.fromarray(rgb).convert("L").convert("F")
    return np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def apply_turn(pictures: np.ndarray, turn: Turn) -> np.ndarray:
    """Pictures [..., S, S], mirrored or not and then turned."""
    flip, quarters = turn
    return np.rot90(pictures[..., ::-1] if flip else pictures, quarters, axes=(-2, -1))


def find_pairs(images: Sequence[Fingerprint]) -> tuple[Pair, ...]:
    """All pairs that are the same or nearly, the surest first.

    Images without structure, such as bare glass, are compared as files alone, for their thumbnails
    are nothing but noise.
    """
    if not images:
        return ()
    pairs: dict[tuple[int, int], Pair] = {}
    same_file: dict[str, list[int]] = {}
    for i, image in enumerate(images):
        for earlier in same_file.setdefault(image.sha256, []):
            pairs[earlier, i] = Pair(earlier, i, SAME_FILE, Similarity(), 0, 1.0, (1.0, 1.0))
        same_file[image.sha256].append(i)
    thumbnails = np.stack([image.thumbnail for image in images])
    structured = np.flatnonzero(thumbnails.std(axis=(1, 2)) >= _LEAST_DEVIATION)
    for first, second, _, turn in _candidates(_hashes(thumbnails[structured])):
        one, other = int(structured[first]), int(structured[second])
        if (one, other) in pairs:
            continue
        correlation = _correlation(thumbnails[one], apply_turn(thumbnails[other], TURNS[turn]))
        if correlation >= _LEAST_CORRELATION:
            transform = _of_turn(TURNS[turn], images[one].size, images[other].size)
            pairs[one, other] = Pair(one, other, COPY, transform, 0, correlation, (1.0, 1.0))

    def by_sureness(pair: Pair) -> tuple:
        return pair.kind != SAME_FILE, -pair.correlation, pair.first, pair.second

    return tuple(sorted(pairs.values(), key=by_sureness))


def _of_turn(turn: Turn, first: tuple[int, int], second: tuple[int, int]) -> Similarity:
    """The similarity that lays a turned image on another, centre on centre: sizes [H, W]."""
    mirrored, quarters = turn
    scale = (first[0] * first[1] / (second[0] * second[1])) ** 0.5
    about = Similarity(scale, (90 * quarters + 180) % 360 - 180, mirrored)
    x, y = np.array(first[::-1]) / 2 - about.apply(np.array(second[::-1]) / 2)
    return dataclasses.replace(about, shift=(float(x), float(y)))


def likeness(pair: Pair) -> str:
    """How the images of a pair are alike, in words."""
    if pair.kind == SAME_FILE:
        return "the same file"
    correlation = f"correlation {pair.correlation:.2f}"
    if pair.kind == OVERLAP:
        return f"overlapping fields, {max(pair.shared):.0%} of one shared, {correlation}"
    changes = ["mirrored"] if pair.transform.mirrored else []
    if abs(pair.transform.degrees) >= 1:
        changes.append(f"turned by {abs(pair.transform.degrees):.0f}°")
    if abs(pair.transform.scale - 1) >= 0.02:
        changes.append(f"{1 / pair.transform.scale:.2f} times as large")
    return ", ".join(["a copy", *changes, correlation])


def _hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Hashes of thumbnails in each of the eight turns: float32 [N, 32, 32] -> uint64 [8, N]."""
    bits = 1 << np.arange(_FREQUENCIES**2, dtype=np.uint64)
    bits[0] = 0  # The constant frequency is brightness alone.
    hashes = []
    for turn in TURNS:
        low = dctn(apply_turn(thumbnails, turn), axes=(-2, -1))[:, :_FREQUENCIES, :_FREQUENCIES]
        hashes.append(((low > 0).reshape(-1, _FREQUENCIES**2) * bits).sum(axis=1, dtype=np.uint64))
    return np.stack(hashes)


def _candidates(
    hashes: np.ndarray, most_bits: int = _MOST_BITS
) -> Iterable[tuple[int, int, int, int]]:
    """Pairs of images whose hashes differ in few bits.

    Args:
      hashes: uint64 [8, N].
      most_bits: in which they differ.

    Yields:
      First and second index, first < second, the bits in which they differ, and the place in TURNS.
    """
    for start in range(0, hashes.shape[1], _BLOCK):
        rows = hashes[0, start : start + _BLOCK, None]
        # [8, block, rest]
        bits = np.stack([np.bitwise_count(rows ^ turn[None, start:]) for turn in hashes])
        least, best = bits.min(axis=0), bits.argmin(axis=0)
        for first, second in np.argwhere(np.triu(least <= most_bits, k=1)).tolist():
            yield start + first, start + second, int(least[first, second]), int(best[first, second])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two pictures, 0 where one is constant."""
    one, other = first - first.mean(), second - second.mean()
    norm = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / norm) if norm > 0 else 0.0
