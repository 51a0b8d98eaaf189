"""Images that are one and the same, or nearly, by their looks: on both sides of a split, they leak.

Each image becomes a grey thumbnail of 32 x 32 averages. The signs of its 63 lowest DCT frequencies are its hash (after
Zauner, 2010, with signs in place of comparisons with the median: they stay as they are when brightness or contrast
change). Histology has no up, so an image is compared with all eight turns and flips of another. Pairs of hashes that
differ in few bits are candidates; the correlation of the thumbnails, at the turn that fits best, confirms them.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from histojax.datasets.folds import Folds
from histojax.images import reader

SIDE = 32  # Of the thumbnail, px.
FREQUENCIES = 8  # Along each side; all but the constant one count.
# Measured on 58 breast fields of 896 x 768 and 15 tiles of others (docs/performance.md): of 2,628 pairs of different
# images none is nearer than 15 bits, and of those within 18 none correlates above 0.57. JPEG, rescaling and turning
# change at most 2 bits, brightness 9, a crop of 95 % about the centre 14, with correlations of 0.65 and more.
NEAR = 14  # Most bits of 63 in which the hashes of a candidate differ.
ALIKE = 0.6  # Least correlation of thumbnails that confirms a candidate.
FLAT = 2.0  # Least standard deviation of a thumbnail, grey levels: below it there is nothing to compare.
WORKERS = 4
BLOCK = 256  # Images compared with all others at a time.

TURNS = tuple((flip, quarters) for flip in (False, True) for quarters in range(4))


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """N images by their looks.

    Attributes:
      sha256: of each file.
      thumbnails: float32 [N, SIDE, SIDE], grey levels.
    """

    sha256: tuple[str, ...]
    thumbnails: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images that are the same, or nearly.

    Attributes:
      first, second: places of the images.
      exact: whether the files are the same, byte by byte.
      distance: bits in which the hashes differ.
      correlation: of the thumbnails.
      turn: what to do with the second to match the first: (mirrored left to right, then quarter turns to the left).
    """

    first: int
    second: int
    exact: bool
    distance: int
    correlation: float
    turn: tuple[bool, int]


@dataclasses.dataclass(frozen=True)
class SplitPair:
    """A pair within a split.

    Attributes:
      pair: the images.
      leaks: whether one is in training while the other is in test.
      conflict: whether their classes differ.
    """

    pair: Pair
    leaks: bool
    conflict: bool


def fingerprint(paths: Sequence[Path]) -> Fingerprints:
    """The prints of image files, decoded on a few threads.

    Raises:
      InputError: an image that cannot be read.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(of_file, paths))
    return Fingerprints(
        tuple(digest for digest, _ in found), np.stack([small for _, small in found])
    )


def of_file(path: Path) -> tuple[str, np.ndarray]:
    """SHA-256 of the file, and the image's thumbnail."""
    small = thumbnail(reader.read(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), small


def thumbnail(rgb: np.ndarray) -> np.ndarray:
    """Grey averages of 32 x 32 equal parts: uint8 [H, W, 3] -> float32 [SIDE, SIDE]."""
    small = (
        Image.fromarray(rgb).convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)
    )
    return np.asarray(small)


def apply_turn(pictures: np.ndarray, turn: tuple[bool, int]) -> np.ndarray:
    """Pictures [..., S, S], mirrored or not and then turned."""
    flip, quarters = turn
    return np.rot90(pictures[..., ::-1] if flip else pictures, quarters, axes=(-2, -1))


def hashes(thumbnails: np.ndarray) -> np.ndarray:
    """The hash of each thumbnail in each of the eight turns: float32 [N, SIDE, SIDE] -> uint64 [8, N]."""
    bits = 1 << np.arange(FREQUENCIES**2, dtype=np.uint64)
    bits[0] = 0  # The constant frequency is brightness alone.
    found = []
    for turn in TURNS:
        low = dctn(apply_turn(thumbnails, turn), axes=(-2, -1))[:, :FREQUENCIES, :FREQUENCIES]
        found.append(((low > 0).reshape(-1, FREQUENCIES**2) * bits).sum(axis=1, dtype=np.uint64))
    return np.stack(found)


def candidates(hashed: np.ndarray, near: int = NEAR) -> Iterable[tuple[int, int, int, int]]:
    """Pairs of images, first < second, whose hashes differ in few bits: (first, second, distance, place in TURNS).

    Args:
      hashed: uint64 [8, N].
      near: the most bits.
    """
    count = hashed.shape[1]
    for start in range(0, count, BLOCK):
        rows = hashed[0, start : start + BLOCK]
        apart = np.stack(
            [np.bitwise_count(rows[:, None] ^ turn[None, start:]) for turn in hashed]
        )  # [8, B, rest]
        least, best = apart.min(axis=0), apart.argmin(axis=0)
        for first, second in np.argwhere(np.triu(least <= near, k=1)).tolist():
            yield start + first, start + second, int(least[first, second]), int(best[first, second])


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two pictures, 0 where one is constant."""
    one, other = first - first.mean(), second - second.mean()
    norm = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / norm) if norm > 0 else 0.0


def find_pairs(prints: Fingerprints) -> tuple[Pair, ...]:
    """All pairs that are the same or nearly, the surest first.

    Images without structure, such as bare glass, are compared as files alone: their thumbnails are all noise.
    """
    pairs = {}
    by_file: dict[str, list[int]] = {}
    for place, digest in enumerate(prints.sha256):
        for earlier in by_file.setdefault(digest, []):
            pairs[earlier, place] = Pair(earlier, place, True, 0, 1.0, TURNS[0])
        by_file[digest].append(place)
    textured = np.flatnonzero(prints.thumbnails.std(axis=(1, 2)) >= FLAT)
    for first, second, distance, turn in candidates(hashes(prints.thumbnails[textured])):
        places = int(textured[first]), int(textured[second])
        one, other = (
            prints.thumbnails[places[0]],
            apply_turn(prints.thumbnails[places[1]], TURNS[turn]),
        )
        if places not in pairs and (alike := correlation(one, other)) >= ALIKE:
            pairs[places] = Pair(*places, False, distance, alike, TURNS[turn])
    return tuple(
        sorted(
            pairs.values(),
            key=lambda pair: (not pair.exact, -pair.correlation, pair.first, pair.second),
        )
    )


def pairs_in_split(pairs: Iterable[Pair], folds: Folds) -> tuple[SplitPair, ...]:
    """The pairs told apart by what they do to a split, those that leak first; places are those of `folds`."""
    found = []
    for pair in pairs:
        both = [pair.first, pair.second]
        found.append(
            SplitPair(
                pair, *(len(set(of[both].tolist())) > 1 for of in (folds.folds, folds.labels))
            )
        )
    return tuple(sorted(found, key=lambda each: not each.leaks))


def summary_lines(found: Sequence[SplitPair], folds: Folds, most: int) -> list[str]:
    """What was found, as text, with the surest pairs."""
    leaking, conflicts = (
        sum(getattr(each, name) for each in found) for name in ("leaks", "conflict")
    )
    exact = sum(each.pair.exact for each in found)
    told = (
        f"{len(found)} pairs of near-duplicate images, {exact} of them the same file: {leaking} in two folds (one is "
        f"trained on while the other is judged), {conflicts} of two classes"
        if found
        else "No near-duplicate images"
    )
    listed = [f"  {pair_line(each, folds)}" for each in found[:most]]
    return [told, *listed] + ([f"  and {len(found) - most} more"] if 0 < most < len(found) else [])


def pair_line(found: SplitPair, folds: Folds) -> str:
    """A pair in words."""
    pair, (one, other) = (
        found.pair,
        (described(place, folds) for place in (found.pair.first, found.pair.second)),
    )
    how = (
        "the same file"
        if pair.exact
        else f"{pair.distance} of 63 bits differ, correlation {pair.correlation:.2f}"
    )
    said = [
        text for text, holds in (("LEAK", found.leaks), ("LABEL CONFLICT", found.conflict)) if holds
    ]
    return f"{one} and {other}: {', '.join([how, *said])}"


def described(place: int, folds: Folds) -> str:
    """An image with its class and fold."""
    fold = int(folds.folds[place]) + 1
    where = f"fold {fold}" if fold else "only trained on"
    return f"{folds.names[place]} ({folds.classes[folds.labels[place]]}, {where})"


def counts(found: Sequence[SplitPair]) -> dict[str, int]:
    """The counts, for programs."""
    return {
        "pairs": len(found),
        "same_file": sum(each.pair.exact for each in found),
        "in_two_folds": sum(each.leaks for each in found),
        "of_two_classes": sum(each.conflict for each in found),
    }
