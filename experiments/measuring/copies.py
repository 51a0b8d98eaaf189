"""How many copies and overlapping fields the search finds, and how many pairs that are neither.

python -m experiments.measuring.copies ../shared/data --size=224
python -m experiments.measuring.copies ../shared/data --size=1000

Of fields of the UCSB set (class folders of images, and groups.csv: image,label,group) the script
makes a copy of every kind, and searches all of these at once: tiles of 224 px, or whole fields
enlarged to about 1,000 px. Half 0 of the groups is the one that thresholds were chosen on; half 1,
the default, is for figures to report. Fields of different groups are different; those of one group
may overlap, and are not counted as false. Overlaps are cut from fields and searched for by
themselves. Prints tables for docs/reliability.md, and times.
"""

import argparse
import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from histojax.images import reader
from histojax.inspection import alignment, near_duplicates
from histojax.inspection.near_duplicates import COPY, OVERLAP, Fingerprint, Pair
from histojax.inspection.similarity import Similarity, warp
from histojax.ops import stain

_TISSUE = 15.0  # Standard deviation of grey levels, below which a tile is mostly bare glass.
_SHARES = (0.3, 0.5, 0.7)  # Of the area of either field, that overlaps share.
_SCALE = {224: 1.0, 1000: 1.16}  # By which fields of 896 x 768 are enlarged.

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def turned(rgb: np.ndarray, degrees: float, zoom: float, fill: str) -> np.ndarray:
    """An image turned and zoomed about its centre; corners by reflection, white or black."""
    height, width = rgb.shape[:2]
    pad = min(height, width) - 1 if fill == "reflected" else 0
    padded = np.pad(rgb, ((pad, pad), (pad, pad), (0, 0)), "reflect")
    about = Similarity(zoom, degrees)
    centre = np.array([width, height]) / 2
    shift = centre - about.apply(centre + pad)
    moved = Similarity(zoom, degrees, shift=tuple(shift))
    pixels = warp(padded, moved, (height, width)).copy()
    if fill == "white":
        pixels[warp(np.full(rgb.shape[:2], 255, np.uint8), moved, (height, width)) < 255] = 255
    return pixels


def inner_square(rgb: np.ndarray, degrees: float) -> np.ndarray:
    """The largest square of a turned image that has no corners of it."""
    height, width = rgb.shape[:2]
    angle = math.radians(degrees % 90)
    side = int(min(height, width) / (math.sin(angle) + math.cos(angle))) - 2
    top, left = (height - side) // 2, (width - side) // 2
    return turned(rgb, degrees, 1, "black")[top : top + side, left : left + side]


def cropped(rgb: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A crop whose sides are a share of the image's."""
    sides = [round(side * share) for side in rgb.shape[:2]]
    top, left = (
        int(rng.integers(side - kept + 1)) for side, kept in zip(rgb.shape[:2], sides, strict=True)
    )
    return rgb[top : top + sides[0], left : left + sides[1]]


def resized(rgb: np.ndarray, factor: float) -> np.ndarray:
    """An image of another size."""
    size = [round(side * factor) for side in rgb.shape[1::-1]]
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def compressed(rgb: np.ndarray) -> np.ndarray:
    """An image after JPEG of quality 50."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file).convert("RGB"))


def brightened(rgb: np.ndarray, factor: float) -> np.ndarray:
    """An image of another brightness."""
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(rgb)).enhance(factor))


def restained(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image with 0.7 to 1.3 times its hematoxylin and eosin, by the augmentation's matrices."""
    density = -np.log((rgb.astype(np.float32) + 1) / 256)
    amounts = density @ np.array(stain.DECONVOLUTION, np.float32)
    amounts[..., :2] *= rng.uniform(0.7, 1.3, 2)
    levels = 256 * np.exp(-amounts @ np.array(stain.STAINS, np.float32)) - 1
    return np.clip(levels, 0, 255).astype(np.uint8)


def combined(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrored or not, turned, zoomed, cropped, restained, brightened and compressed."""
    rgb = np.ascontiguousarray(rgb[:, ::-1]) if rng.random() < 0.5 else rgb
    fill = rng.choice(["reflected", "white", "black"])
    rgb = turned(rgb, rng.uniform(0, 360), rng.uniform(0.8, 1.25), fill)
    rgb = restained(cropped(rgb, rng.uniform(0.8, 1), rng), rng)
    return compressed(brightened(rgb, rng.uniform(0.8, 1.2)))


def _turn_by(fill: str) -> Change:
    return lambda rgb, rng: turned(rgb, rng.uniform(0, 360), 1, fill)


CHANGES: dict[str, Change] = {
    "turned by any angle, corners reflected": _turn_by("reflected"),
    "turned by any angle, corners white": _turn_by("white"),
    "turned by any angle, corners black": _turn_by("black"),
    "turned by any angle, inner square": lambda rgb, rng: inner_square(rgb, rng.uniform(0, 360)),
    "mirrored and turned by quarters": lambda rgb, rng: np.ascontiguousarray(
        np.rot90(rgb[:, ::-1], rng.integers(4))
    ),
    "crop of 70 % of the sides": lambda rgb, rng: cropped(rgb, 0.7, rng),
    "zoomed in, 1 to 1.25": lambda rgb, rng: turned(rgb, 0, rng.uniform(1, 1.25), "black"),
    "zoomed out, 0.8 to 1, border reflected or white": lambda rgb, rng: turned(
        rgb, 0, rng.uniform(0.8, 1), rng.choice(["reflected", "white"])
    ),
    "resized, 0.8 to 1.25": lambda rgb, rng: resized(rgb, rng.uniform(0.8, 1.25)),
    "JPEG quality 50": lambda rgb, rng: compressed(rgb),
    "brightness, 0.7 to 1.3": lambda rgb, rng: brightened(rgb, rng.uniform(0.7, 1.3)),
    "contrast, 0.7 to 1.3": lambda rgb, rng: np.asarray(
        ImageEnhance.Contrast(Image.fromarray(rgb)).enhance(rng.uniform(0.7, 1.3))
    ),
    "hematoxylin and eosin, 0.7 to 1.3": restained,
    "combined": combined,
}


def fields(folder: Path, half: int, size: int) -> tuple[list[np.ndarray], list[str]]:
    """Fields of every other group, or tiles with tissue of them, and the group of each."""
    with open(folder / "ucsb_breast" / "groups.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = set(sorted({row["group"] for row in rows})[half::2])
    found, groups = [], []
    for row in rows:
        if row["group"] not in kept:
            continue
        rgb = reader.read(next((folder / "ucsb_breast").rglob(row["image"])))
        of_field = [resized(rgb, _SCALE[size])]
        if size == 224:
            of_field = [
                rgb[top : top + 224, left : left + 224]
                for top in range(0, rgb.shape[0] - 223, 224)
                for left in range(0, rgb.shape[1] - 223, 224)
            ]
            of_field = [tile for tile in of_field if tile.mean(axis=-1).std() >= _TISSUE]
        found += of_field
        groups += [row["group"]] * len(of_field)
    return found, groups


def copies(images: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """A copy of each of N images of each kind, in the order of CHANGES: N at a time."""
    rng = np.random.default_rng(seed)
    return [change(rgb, rng) for change in CHANGES.values() for rgb in images]


def fingerprints(images: Sequence[np.ndarray]) -> list[Fingerprint]:
    """Of images that are no files."""
    return [near_duplicates.fingerprint(rgb, str(i)) for i, rgb in enumerate(images)]


def overlapping(rgb: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Two fields of one, which share that part of their areas: shifted by as much either way."""
    shift = 1 - math.sqrt(share)
    height, width = (int(side / (1 + shift)) for side in rgb.shape[:2])
    return rgb[:height, :width], rgb[-height:, -width:]


def found_by_kind(pairs: Sequence[Pair], number: int) -> dict[str, int]:
    """How many of so many fields were found as a pair with their copy of each kind."""
    known = {(pair.first, pair.second) for pair in pairs if pair.kind == COPY}
    return {
        kind: sum((i, (k + 1) * number + i) in known for i in range(number))
        for k, kind in enumerate(CHANGES)
    }


def print_wrong(pairs: Sequence[Pair], source: np.ndarray, groups: Sequence[str]) -> None:
    """Prints how many pairs are of one field, and how many of two groups.

    Args:
      pairs: that were found.
      source: the field of each image, int [N].
      groups: of the fields.
    """
    group = np.unique(groups, return_inverse=True)[1][source]
    of_groups = [pair for pair in pairs if group[pair.first] != group[pair.second]]
    same = [pair for pair in pairs if source[pair.first] == source[pair.second]]
    sizes = np.bincount(group)
    true = sum(math.comb(count, 2) for count in np.bincount(source).tolist())
    different = (len(source) ** 2 - int(np.square(sizes).sum())) // 2
    print(
        f"\n{len(same)} true pairs found, of {true}; "
        f"{len(of_groups)} of {different} pairs of different groups: "
        f"{1e5 * len(of_groups) / different:.2f} in 100,000, precision "
        f"{len(same) / max(1, len(same) + len(of_groups)):.4%}; of one group, other fields: "
        f"{len(pairs) - len(same) - len(of_groups)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, choices=tuple(_SCALE), default=224)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    parser.add_argument("--most", type=int, default=10_000, help="fields, spread over all")
    arguments = parser.parse_args()
    originals, groups = fields(arguments.data, arguments.half, arguments.size)
    places = np.linspace(0, len(originals) - 1, min(len(originals), arguments.most)).astype(int)
    originals, groups = [originals[i] for i in places], [groups[i] for i in places]
    number, images = len(originals), [*originals, *copies(originals, arguments.half)]
    begun = time.process_time()
    marks = fingerprints(images)
    made = time.process_time()
    pairs = near_duplicates.find_pairs(marks)
    done = time.process_time()
    print(f"{number} fields, {len(images)} images of about {arguments.size} px")
    print(f"fingerprints {made - begun:.0f} s of a core, search {done - made:.0f} s")
    print("\n| change | found |\n|---|---|")
    counts = found_by_kind(pairs, number)
    for kind, count in counts.items():
        print(f"| {kind} | {count / number:.1%} |")
    print(f"| all | {sum(counts.values()) / (number * len(CHANGES)):.1%} |")
    source = np.arange(len(images)) % number
    print_wrong(pairs, source, groups)
    print(f"among the fields themselves, of one group: {_among(pairs, number)}")
    print(f"missed, and proven when compared: {_proven_among_missed(pairs, marks, number)}")
    print("\n| share of the area | found | told as an overlap |\n|---|---|---|")
    for share in _SHARES:
        halves = [overlapping(rgb, share) for rgb in originals]
        shown = fingerprints([image for pair in halves for image in pair])
        kinds = {(p.first, p.second): p.kind for p in near_duplicates.find_pairs(shown)}
        of_pairs = [kinds.get((2 * i, 2 * i + 1)) for i in range(number)]
        shares = 1 - of_pairs.count(None) / number, of_pairs.count(OVERLAP) / number
        print(f"| {share:.0%} | {shares[0]:.1%} | {shares[1]:.1%} |")


def _among(pairs: Sequence[Pair], number: int) -> str:
    """The pairs of fields, which are no copies, by kind."""
    kinds = [pair.kind for pair in pairs if pair.second < number]
    return f"{kinds.count(OVERLAP)} overlap, {kinds.count(COPY)} copies"


def _proven_among_missed(pairs: Sequence[Pair], marks: Sequence[Fingerprint], number: int) -> str:
    """How many copies that were missed would have been proven, had they been candidates."""
    known = {(pair.first, pair.second) for pair in pairs}
    missed = [(i % number, i) for i in range(number, len(marks)) if (i % number, i) not in known]
    proven = sum(
        any(near_duplicates.is_proven(_aligned(marks, *places, mirror)) for mirror in (False, True))
        for places in missed
    )
    return f"{proven} of {len(missed)} copies"


def _aligned(
    marks: Sequence[Fingerprint], first: int, second: int, mirror: bool
) -> alignment.Alignment:
    """How two images are aligned, candidates or not."""
    one, other = marks[first], marks[second]
    return alignment.align((one.features, one.picture), (other.features, other.picture), mirror)


if __name__ == "__main__":
    main()
