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

from histojax.datasets.folds import Folds
from histojax.images import slide
from histojax.utils.words import quantity

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


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """What N images are compared by.

    Attributes:
      sha256: of each file.
      thumbnails: float32 [N, 32, 32], grey levels.
    """

    sha256: tuple[str, ...]
    thumbnails: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images that are the same, or nearly.

    Attributes:
      first, second: indices of the images.
      exact: whether the files are the same, byte by byte.
      distance: bits in which the hashes differ.
      correlation: of the thumbnails.
      turn: what to do with the second image to match the first.
    """

    first: int
    second: int
    exact: bool
    distance: int
    correlation: float
    turn: Turn


@dataclasses.dataclass(frozen=True)
class SplitPair:
    """A pair within a split.

    Attributes:
      pair: of images.
      leaks: whether one is in training while the other is in test.
      conflict: whether their classes differ.
    """

    pair: Pair
    leaks: bool
    conflict: bool


def fingerprint(paths: Sequence[Path]) -> Fingerprints:
    """The fingerprints of image files, decoded on a few threads.

    Raises:
      InputError: an image cannot be read.
    """

    def of_file(path: Path) -> tuple[str, np.ndarray]:
        return slide.digest(path), grey_thumbnail(slide.read_small(path))

    with ThreadPoolExecutor(_WORKERS) as pool:
        digests, thumbnails = zip(*pool.map(of_file, paths), strict=True)
    return Fingerprints(digests, np.stack(thumbnails))


def grey_thumbnail(rgb: np.ndarray) -> np.ndarray:
    """Grey averages of 32 x 32 equal parts: uint8 [H, W, 3] -> float32 [32, 32]."""
    grey = Image.fromarray(rgb).convert("L").convert("F")
    return np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def apply_turn(pictures: np.ndarray, turn: Turn) -> np.ndarray:
    """Pictures [..., S, S], mirrored or not and then turned."""
    flip, quarters = turn
    return np.rot90(pictures[..., ::-1] if flip else pictures, quarters, axes=(-2, -1))


def find_pairs(fingerprints: Fingerprints) -> tuple[Pair, ...]:
    """All pairs that are the same or nearly, the surest first.

    Images without structure, such as bare glass, are compared as files alone, for their thumbnails
    are nothing but noise.
    """
    pairs: dict[tuple[int, int], Pair] = {}
    same_file: dict[str, list[int]] = {}
    for i, digest in enumerate(fingerprints.sha256):
        for earlier in same_file.setdefault(digest, []):
            pairs[earlier, i] = Pair(earlier, i, True, 0, 1.0, TURNS[0])
        same_file[digest].append(i)
    thumbnails = fingerprints.thumbnails
    structured = np.flatnonzero(thumbnails.std(axis=(1, 2)) >= _LEAST_DEVIATION)
    for first, second, distance, turn in _candidates(_hashes(thumbnails[structured])):
        one, other = int(structured[first]), int(structured[second])
        if (one, other) in pairs:
            continue
        correlation = _correlation(thumbnails[one], apply_turn(thumbnails[other], TURNS[turn]))
        if correlation >= _LEAST_CORRELATION:
            pairs[one, other] = Pair(one, other, False, distance, correlation, TURNS[turn])
    surest = sorted(pairs.values(), key=lambda p: (not p.exact, -p.correlation, p.first, p.second))
    return tuple(surest)


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


def pairs_in_split(pairs: Iterable[Pair], folds: Folds) -> tuple[SplitPair, ...]:
    """What each pair of images does to their split; those that leak first."""

    def differ(values: np.ndarray, pair: Pair) -> bool:
        return bool(values[pair.first] != values[pair.second])

    in_split = [SplitPair(p, differ(folds.folds, p), differ(folds.labels, p)) for p in pairs]
    return tuple(sorted(in_split, key=lambda pair: not pair.leaks))


def summary_lines(pairs: Sequence[SplitPair], folds: Folds, most: int) -> list[str]:
    """The pairs of a split as text: how many there are, and the first `most` of them."""
    if not pairs:
        return ["No near-duplicate images"]
    number = counts(pairs)
    lines = [
        f"{quantity(number['pairs'], 'pair')} of near-duplicate images, {number['same_file']} of "
        f"them the same file: {number['in_two_folds']} in two folds (one is trained on while the "
        f"other is predicted), {number['of_two_classes']} of two classes"
    ]
    lines += [f"  {pair_line(pair, folds)}" for pair in pairs[:most]]
    if 0 < most < len(pairs):
        lines.append(f"  and {len(pairs) - most} more")
    return lines


def pair_line(in_split: SplitPair, folds: Folds) -> str:
    """A pair as text, with class and fold of both images."""

    def shown(i: int) -> str:
        fold = int(folds.folds[i]) + 1
        where = f"fold {fold}" if fold else "only trained on"
        return f"{folds.names[i]} ({folds.classes[folds.labels[i]]}, {where})"

    pair = in_split.pair
    likeness = f"{pair.distance} of 63 bits differ, correlation {pair.correlation:.2f}"
    marks = ["the same file" if pair.exact else likeness]
    marks += ["LEAK"] if in_split.leaks else []
    marks += ["LABEL CONFLICT"] if in_split.conflict else []
    return f"{shown(pair.first)} and {shown(pair.second)}: {', '.join(marks)}"


def counts(pairs: Sequence[SplitPair]) -> dict[str, int]:
    """How many pairs there are of each kind, for programs."""
    return {
        "pairs": len(pairs),
        "same_file": sum(in_split.pair.exact for in_split in pairs),
        "in_two_folds": sum(in_split.leaks for in_split in pairs),
        "of_two_classes": sum(in_split.conflict for in_split in pairs),
    }
