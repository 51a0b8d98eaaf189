"""Synthetic H&E breast tissue of BACH's four classes, for a demo without data.

A field is two concentration maps [H, W], hematoxylin and eosin, on which stroma, fat, ducts, cords
and nuclei are painted. Beer-Lambert absorption turns them into RGB. The classes differ in layout
(`LAYOUTS`), by ranges that overlap; stain vectors and strength vary by image whatever the class, so
that mean colour says little. Lengths are pixels of about 1.7 um.
"""

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.draw import polygon

from histojax.config import BACH_CLASSES as CLASSES
from histojax.datasets.bach import PREFIXES
from histojax.errors import InputError
from histojax.utils import files

_COLUMNS = ("image", "label")

# Natural optical density: rows R, G, B; columns hematoxylin, eosin.
_STAINS = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
_WHITE = 240.0
_FIELD_AREA = 384 * 512  # Pixels that the counts in LAYOUTS are for.
_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)

_Range = tuple[float, float]


# How the tissue of Normal, Benign, InSitu and Invasive is laid out: (low, high) of uniform draws.
_RANGES = {
    # Ducts per field; the radius of one, px; the irregularity of its outline, in radii.
    "ducts": ((2, 7), (5, 13), (3, 8), (0, 3)),
    "radius": ((18, 38), (22, 55), (32, 68), (20, 50)),
    "irregularity": ((0.04, 0.12), (0.08, 0.25), (0.04, 0.16), (0.1, 0.3)),
    # The chance that a duct is filled with cells, around holes or a necrosis, instead of being
    # open; an open duct's lumen, in radii, and the rows of nuclei around it.
    "filled": ((0, 0.1), (0, 0.3), (0.6, 1), (0.2, 0.7)),
    "lumen": ((0.35, 0.6), (0.35, 0.75), (0.2, 0.6), (0.2, 0.5)),
    "layers": ((1, 2), (1, 3), (2, 4), (1, 3)),
    # The radius of a nucleus, px; the spread of size and shape; its hematoxylin.
    "nucleus": ((3.2, 4.4), (3.2, 4.8), (3.6, 5.6), (3.6, 5.8)),
    "pleomorphism": ((0.08, 0.2), (0.1, 0.28), (0.15, 0.4), (0.2, 0.45)),
    "stain": ((1.0, 1.5), (1.0, 1.6), (1.1, 1.8), (1.1, 1.9)),
    # Per field: fat cells, cords of tumour, loose epithelial nuclei, spindle nuclei of the stroma.
    "fat": ((0, 14), (0, 6), (0, 6), (0, 6)),
    "cords": ((0, 1), (0, 3), (0, 3), (14, 40)),
    "loose": ((0, 30), (10, 70), (10, 80), (60, 220)),
    "spindles": ((50, 120), (80, 180), (60, 150), (60, 150)),
}
Layout = collections.namedtuple("Layout", _RANGES)
LAYOUTS = dict(zip(CLASSES, map(Layout, *_RANGES.values()), strict=True))


@dataclasses.dataclass
class Field:
    """The two maps that are painted, float64 [H, W] each, and the generator of all draws."""

    rng: np.random.Generator
    hematoxylin: np.ndarray
    eosin: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.hematoxylin.shape

    def draw_count(self, low_high: _Range) -> int:
        """A count for the field's area."""
        return round(self.rng.uniform(*low_high) * self.hematoxylin.size / _FIELD_AREA)

    def draw_position(self) -> np.ndarray:
        """A position, float [2], row and column."""
        return self.rng.uniform((0, 0), self.shape)

    def is_empty(self, position: np.ndarray) -> bool:
        """Whether a position is in fat or an open lumen, where there are no loose cells."""
        return self.eosin[tuple(position.astype(int))] < 0.06


def _outline(
    rng: np.random.Generator, radius: float, irregularity: float, squash: float = 1
) -> np.ndarray:
    """A closed wavy curve around the origin: float [48, 2], row and column."""
    waves = sum(
        rng.normal() / k * np.cos(k * _ANGLES + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5)
    )
    distance = radius * (1 + irregularity * waves)
    curve = np.stack([distance * np.sin(_ANGLES) * squash, distance * np.cos(_ANGLES)], axis=1)
    turn = rng.uniform(0, np.pi)
    return curve @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def _fill(field: Field, curve: np.ndarray, hematoxylin: float, eosin: float) -> None:
    """Paints the inside of a curve."""
    inside = polygon(curve[:, 0], curve[:, 1], field.shape)
    field.hematoxylin[inside], field.eosin[inside] = hematoxylin, eosin


def _paint_nucleus(field: Field, at: np.ndarray, layout: Layout, squash: _Range = (0.7, 1)) -> None:
    """One nucleus, its size and darkness drawn from the layout."""
    rng = field.rng
    spread = rng.uniform(*layout.pleomorphism)
    radius = rng.uniform(*layout.nucleus) * np.exp(spread * rng.normal())
    curve = at + _outline(rng, radius, 0.3 * spread, rng.uniform(*squash))
    _fill(field, curve, rng.uniform(*layout.stain), rng.uniform(0.1, 0.3))


def _paint_cells(
    field: Field, positions: list[np.ndarray], layout: Layout, cytoplasm: float = 2.2
) -> None:
    """Nuclei in eosinophilic cytoplasm, all of which is painted before any nucleus."""
    rng = field.rng
    for at in positions:
        curve = at + _outline(rng, cytoplasm * np.mean(layout.nucleus), 0.15)
        _fill(field, curve, 0.15, rng.uniform(0.45, 0.7))
    for at in positions:
        _paint_nucleus(field, at, layout)


def _paint_stroma(field: Field, layout: Layout) -> None:
    """Wavy collagen: noise drawn out along a direction that bends, with spindle nuclei."""
    rng, (height, width) = field.rng, field.shape
    side = int(1.5 * max(height, width))
    fibres = ndimage.gaussian_filter(rng.normal(size=(side, side)), (1.3, rng.uniform(10, 18)))
    coarse = ndimage.gaussian_filter(rng.normal(size=(-(-side // 8),) * 2), 45 / 8)
    # As smooth as at full size, in a tenth of the time.
    bend = ndimage.zoom(coarse, 8, order=1)[:side, :side]
    rows, columns = np.indices((side, side))
    fibres = ndimage.map_coordinates(
        fibres, [rows + 14 * bend / bend.std(), columns], order=1, mode="wrap"
    )
    fibres = ndimage.rotate(fibres, rng.uniform(0, 180), reshape=False, order=1, mode="wrap")
    top, left = (side - height) // 2, (side - width) // 2
    fibres = fibres[top : top + height, left : left + width] / fibres.std()
    field.eosin += np.clip(rng.uniform(0.35, 0.55) + 0.16 * fibres, 0.05, None)
    for _ in range(field.draw_count(layout.spindles)):
        _paint_nucleus(field, field.draw_position(), layout, squash=(0.25, 0.45))


def _paint_fat(field: Field, layout: Layout) -> None:
    """Empty round cells with a thin wall, close together."""
    centre = field.draw_position()
    for _ in range(field.draw_count(layout.fat)):
        at = centre + field.rng.normal(0, 55, 2)
        curve = _outline(field.rng, field.rng.uniform(16, 30), 0.06)
        _fill(field, at + 1.07 * curve, 0.1, 0.45)
        _fill(field, at + curve, 0, 0.02)


def _paint_duct(field: Field, layout: Layout) -> None:
    """A duct: rows of nuclei around a lumen, or filled with cells around holes or a necrosis."""
    rng, at = field.rng, field.draw_position()
    radius = rng.uniform(*layout.radius)
    curve = _outline(rng, radius, rng.uniform(*layout.irregularity))
    # The basement membrane and the cuff of collagen around it.
    _fill(field, at + 1.12 * curve, 0.05, 0.75)
    _fill(field, at + curve, 0.18, 0.5)
    # A nucleus and its room, as a share of the radius.
    step = 2.1 * np.mean(layout.nucleus) / radius
    if rng.uniform() < rng.uniform(*layout.filled):
        inner, hollow = rng.choice([0.0, 0.0, 0.35]), (0.1, 0.8)
    else:
        inner = rng.uniform(*layout.lumen)
        inner = max(inner, 1 - step * round(rng.uniform(*layout.layers)))
        hollow = (0, 0.03)
    _fill(field, at + inner * curve, *hollow)
    for share in np.arange(1 - step / 2, inner, -step):
        ring = share * curve
        length = np.linalg.norm(np.diff(ring, axis=0, append=ring[:1]), axis=1).sum()
        count = max(1, int(length / (step * radius)))
        for turn in rng.uniform(0, 1) + np.linspace(0, 1, count, endpoint=False):
            on_ring = ring[int(turn * len(ring)) % len(ring)]
            _paint_nucleus(field, at + on_ring + rng.normal(0, 0.8, 2), layout)
    if hollow[1] > 0.5 and inner == 0:
        for _ in range(rng.integers(0, 6)):  # Cribriform holes.
            hole = _outline(rng, rng.uniform(0.1, 0.2) * radius, 0.1)
            _fill(field, at + rng.uniform(-0.55, 0.55, 2) * radius + hole, 0, 0.05)


def _paint_cord(field: Field, layout: Layout) -> None:
    """A cord or nest of tumour cells that wanders through the stroma."""
    rng, at = field.rng, field.draw_position()
    heading, wander = rng.uniform(0, 2 * np.pi), rng.choice([0.3, 1.6])
    headings = heading + np.cumsum(rng.normal(0, wander, rng.integers(4, 16)))
    steps = 2.2 * np.mean(layout.nucleus) * np.stack([np.sin(headings), np.cos(headings)], axis=1)
    _paint_cells(field, list(at + np.cumsum(steps, axis=0)), layout)


def to_rgb(field: Field) -> np.ndarray:
    """The field as uint8 [H, W, 3], by Beer-Lambert, with stains, blur and noise of its own."""
    rng = field.rng
    chromatin = 1 + 0.18 * ndimage.gaussian_filter(rng.normal(size=field.shape), 0.9) / 0.31
    strength = rng.uniform(0.65, 1.45) * rng.uniform(0.85, 1.15, 2)
    stains = _STAINS + rng.normal(0, 0.035, _STAINS.shape)
    stains /= np.linalg.norm(stains, axis=0)
    hematoxylin = field.hematoxylin * np.clip(chromatin, 0.4, 1.6)
    amounts = np.stack([hematoxylin, field.eosin], axis=-1) * strength
    amounts = ndimage.gaussian_filter(amounts, (0.8, 0.8, 0))
    rgb = _WHITE * np.exp(-amounts @ stains.T) + rng.normal(0, 2.0, (*field.shape, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8)


def render(label: str, seed: int, height: int = 384, width: int = 512) -> np.ndarray:
    """A field of tissue of a class: uint8 RGB [H, W, 3], the same for the same arguments.

    Raises:
      ValueError: an unknown class.
    """
    if label not in LAYOUTS:
        raise ValueError(f"no class {label!r}; there are {', '.join(LAYOUTS)}")
    rng = np.random.default_rng([CLASSES.index(label), seed])
    return to_rgb(paint_field(rng, label, height, width))


def paint_field(rng: np.random.Generator, label: str, height: int, width: int) -> Field:
    """Tissue of a class, before it is stained."""
    layout = LAYOUTS[label]
    field = Field(rng, np.zeros((height, width)), np.zeros((height, width)))
    _paint_stroma(field, layout)
    _paint_fat(field, layout)
    for _ in range(field.draw_count(layout.ducts)):
        _paint_duct(field, layout)
    for _ in range(field.draw_count(layout.cords)):
        _paint_cord(field, layout)
    loose = [field.draw_position() for _ in range(field.draw_count(layout.loose))]
    _paint_cells(field, [at for at in loose if not field.is_empty(at)], layout, cytoplasm=1.6)
    return field


def _plan(
    root: Path, per_class: int, unlabelled: int, seed: int
) -> Iterator[tuple[Path, str, int]]:
    """The files of a data set with their class and seed."""
    for label, prefix in zip(CLASSES, PREFIXES, strict=True):
        for i in range(1, per_class + 1):
            yield root / "train" / label / f"{prefix}{i:03d}.png", label, 1000 * seed + i
    labels = np.random.default_rng(seed).choice(CLASSES, unlabelled)
    for i, label in enumerate(labels.tolist()):
        yield root / "unlabelled" / f"test{i}.png", label, 1000 * seed + 500 + i


def write_folder(
    root: str | Path,
    per_class: int,
    unlabelled: int,
    seed: int = 0,
    height: int = 384,
    width: int = 512,
) -> None:
    """Writes train/<class>/*.png, unlabelled/*.png and unlabelled_truth.csv; keeps existing files.

    Args:
      root: the folder.
      per_class: labelled images of each class, below 500.
      unlabelled: images whose classes are drawn at random, below 500.
      seed: of all images.
      height: of each image, in pixels.
      width: of each image, in pixels.

    Raises:
      InputError: the folder's truth is of another seed, so that kept images would not agree with
        new ones.
    """
    root = files.as_path(root)
    images = list(_plan(root, per_class, unlabelled, seed))
    truth = {path.name: label for path, label, _ in images if path.parent.name == "unlabelled"}
    table = root / "unlabelled_truth.csv"
    known = {}
    if table.exists():
        known = {row["image"]: row["label"] for row in files.read_csv(table, _COLUMNS)}
    if any(known.get(name, label) != label for name, label in truth.items()):
        raise InputError(
            f"{table} is not that of seed {seed}: name an empty folder, or the seed it was written "
            "with"
        )
    if truth.keys() - known.keys() or not table.exists():
        files.write_csv(table, (known | truth).items(), _COLUMNS)
    for path, label, number in images:
        if not path.exists():
            with files.atomic_write(path) as temporary:
                Image.fromarray(render(label, number, height, width)).save(temporary, format="PNG")
