"""Images that show the same, whatever their files: on two sides of a split, they leak.

A copy may be turned by any angle, mirrored, cropped, scaled, recoloured, compressed, or all of
that. Candidates are images with local features in common (`candidates`); a pair is one whose
features agree on how one image lies on the other, and whose pictures correlate there (`alignment`).

Two fields of a slide that overlap show the same, too. They are told from copies by geometry: a
field is neither turned, nor mirrored, nor scaled against another, and each shows a part that the
other lacks. All else is called a copy. What cannot be told: two crops of one image are as two
fields that overlap, and so is an image that was shifted and filled up by its reflection.
"""

import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from histojax.images import slide
from histojax.inspection import alignment, local_features
from histojax.inspection.alignment import Alignment, Picture
from histojax.inspection.candidates import candidates
from histojax.inspection.local_features import LocalFeatures
from histojax.inspection.similarity import Similarity, scaling
from histojax.utils.progress import Progress

_WORKERS = 4
_LEAST_CORRELATION = 0.5
# An overlap is turned and scaled by at most so much, and shares at most so much of either image.
_STILL_DEGREES, _STILL_SCALE, _MOST_SHARED = 2.0, 1.03, 0.9

SAME_FILE, COPY, OVERLAP = "same_file", "copy", "overlap"


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What an image is compared by.

    Attributes:
      sha256: of the file.
      size: height and width of the image as it is shown, px.
      features: that are matched.
      picture: that is correlated.
    """

    sha256: str
    size: tuple[int, int]
    features: LocalFeatures
    picture: Picture


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
    grey = local_features.working_copy(rgb)
    features = local_features.extract(grey)
    return Fingerprint(sha256, size or rgb.shape[:2], features, alignment.picture(grey))


def fingerprints(paths: Sequence[Path]) -> tuple[Fingerprint, ...]:
    """The fingerprints of image files, decoded on a few threads.

    Raises:
      InputError: an image cannot be read.
    """

    def of_file(path: Path) -> Fingerprint:
        return fingerprint(slide.read_small(path), slide.digest(path))

    made = []
    with (
        ThreadPoolExecutor(_WORKERS) as pool,
        Progress("search for copies", len(paths), "images") as progress,
    ):
        for image in pool.map(of_file, paths):
            made.append(image)
            progress.add(1)
    return tuple(made)


def find_pairs(images: Sequence[Fingerprint]) -> tuple[Pair, ...]:
    """All pairs that are the same, or nearly, or overlap; the surest first.

    Of files that are the same, each is a pair with the first, which alone is compared with other
    images. Images without structure, such as bare glass, are compared as files alone.
    """
    pairs: dict[tuple[int, int], Pair] = {}
    first_of: dict[str, int] = {}
    for i, image in enumerate(images):
        first = first_of.setdefault(image.sha256, i)
        if first != i:
            pairs[first, i] = Pair(first, i, SAME_FILE, Similarity(), 0, 1.0, (1.0, 1.0))
    different = list(first_of.values())
    for one, other, mirror in candidates([images[i].features for i in different]):
        first, second = different[one], different[other]
        aligned = alignment.align(
            *((image.features, image.picture) for image in (images[first], images[second])), mirror
        )
        if not is_proven(aligned):
            continue
        known = pairs.get((first, second))
        if known is None or known.inliers < aligned.inliers:
            sizes = images[first].size, images[second].size
            pairs[first, second] = _pair(first, second, aligned, *sizes)

    def by_sureness(pair: Pair) -> tuple:
        return pair.kind != SAME_FILE, -pair.correlation, pair.first, pair.second

    return tuple(sorted(pairs.values(), key=by_sureness))


def is_proven(aligned: Alignment) -> bool:
    """Whether two images show the same, by how they are aligned."""
    return aligned.inliers >= alignment.LEAST_INLIERS and aligned.correlation >= _LEAST_CORRELATION


def _pair(
    first: int, second: int, aligned: Alignment, size: tuple[int, int], other_size: tuple[int, int]
) -> Pair:
    """A pair of images of these sizes, by how they are aligned."""
    to_pixels = scaling(local_features.unit(size))
    transform = to_pixels.after(aligned.transform).after(
        scaling(1 / local_features.unit(other_size))
    )
    is_still = (
        not transform.mirrored
        and abs(transform.degrees) <= _STILL_DEGREES
        and abs(math.log(transform.scale)) <= math.log(_STILL_SCALE)
    )
    kind = OVERLAP if is_still and max(aligned.shared) <= _MOST_SHARED else COPY
    return Pair(
        first, second, kind, transform, aligned.inliers, aligned.correlation, aligned.shared
    )


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
