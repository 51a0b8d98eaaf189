"""Synthetic H&E breast tissue of BACH's four classes, for a demo without data: rendered, not learnt.

A field is two concentration maps [H, W], hematoxylin and eosin, that stroma, fat, ducts, cords and nuclei are painted
on. Beer-Lambert absorption turns them into RGB. The classes differ in layout (`LAYOUTS`), by ranges that overlap; stain
vectors and strength vary by image whatever the class, so that mean colour tells little. Lengths are px of about 1.7 um.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.draw import polygon

from histojax.config import BACH_CLASSES as CLASSES
from histojax.errors import InputError
from histojax.utils.files import atomic_write, read_csv, write_csv

COLUMNS = ("image", "label")  # Of the truth.
PREFIXES = dict(zip(CLASSES, ("n", "b", "is", "iv"), strict=True))

# Natural optical density: rows R, G, B; columns hematoxylin, eosin.
STAINS = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
WHITE = 240.0
FIELD = 384 * 512  # Counts in LAYOUTS are for a field of this many pixels.
ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a class's tissue is laid out; each field is the (low, high) of a uniform draw.

    Attributes:
      ducts, fat, cords, loose, spindles: counts an image; loose nuclei are epithelial, spindles are of the stroma.
      radius: of a duct, px.
      irregularity: of a duct's outline, as a share of its radius.
      lumen: radius of an open duct's lumen, as a share of the duct's.
      filled: the chance that a duct is filled with cells, and has holes or a necrosis instead of a lumen.
      layers: rows of nuclei around a lumen.
      nucleus: nuclear radius, px.
      pleomorphism: spread of nuclear size and shape.
      stain: hematoxylin of a nucleus.
    """

    ducts: Range
    radius: Range
    irregularity: Range
    lumen: Range
    filled: Range
    layers: Range
    nucleus: Range
    pleomorphism: Range
    stain: Range
    fat: Range
    cords: Range
    loose: Range
    spindles: Range


LAYOUTS = {
    "Normal": Layout(
        ducts=(2, 7),
        radius=(18, 38),
        irregularity=(0.04, 0.12),
        lumen=(0.35, 0.6),
        filled=(0, 0.1),
        layers=(1, 2),
        nucleus=(3.2, 4.4),
        pleomorphism=(0.08, 0.2),
        stain=(1.0, 1.5),
        fat=(0, 14),
        cords=(0, 1),
        loose=(0, 30),
        spindles=(50, 120),
    ),
    "Benign": Layout(
        ducts=(5, 13),
        radius=(22, 55),
        irregularity=(0.08, 0.25),
        lumen=(0.35, 0.75),
        filled=(0, 0.3),
        layers=(1, 3),
        nucleus=(3.2, 4.8),
        pleomorphism=(0.1, 0.28),
        stain=(1.0, 1.6),
        fat=(0, 6),
        cords=(0, 3),
        loose=(10, 70),
        spindles=(80, 180),
    ),
    "InSitu": Layout(
        ducts=(3, 8),
        radius=(32, 68),
        irregularity=(0.04, 0.16),
        lumen=(0.2, 0.6),
        filled=(0.6, 1),
        layers=(2, 4),
        nucleus=(3.6, 5.6),
        pleomorphism=(0.15, 0.4),
        stain=(1.1, 1.8),
        fat=(0, 6),
        cords=(0, 3),
        loose=(10, 80),
        spindles=(60, 150),
    ),
    "Invasive": Layout(
        ducts=(0, 3),
        radius=(20, 50),
        irregularity=(0.1, 0.3),
        lumen=(0.2, 0.5),
        filled=(0.2, 0.7),
        layers=(1, 3),
        nucleus=(3.6, 5.8),
        pleomorphism=(0.2, 0.45),
        stain=(1.1, 1.9),
        fat=(0, 6),
        cords=(14, 40),
        loose=(60, 220),
        spindles=(60, 150),
    ),
}


@dataclasses.dataclass
class Field:
    """The maps under the brush: float64 [H, W] each."""

    rng: np.random.Generator
    hematoxylin: np.ndarray
    eosin: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.hematoxylin.shape

    def count(self, low_high: Range) -> int:
        """A count drawn for the field's area."""
        return round(self.rng.uniform(*low_high) * self.hematoxylin.size / FIELD)

    def place(self) -> np.ndarray:
        """A random position, float [2]."""
        return self.rng.uniform((0, 0), self.shape)

    def is_empty(self, at: np.ndarray) -> bool:
        """Whether a position lies in fat or an open lumen, where no loose cell is."""
        return self.eosin[tuple(at.astype(int))] < 0.06


def outline(
    rng: np.random.Generator, radius: float, irregularity: float, squash: float = 1
) -> np.ndarray:
    """A closed wavy curve around the origin: float [48, 2], row and column."""
    waves = sum(
        rng.normal() / k * np.cos(k * ANGLES + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5)
    )
    distance = radius * (1 + irregularity * waves)
    curve = np.stack([distance * np.sin(ANGLES) * squash, distance * np.cos(ANGLES)], axis=1)
    turn = rng.uniform(0, np.pi)
    return curve @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def fill(field: Field, curve: np.ndarray, hematoxylin: float, eosin: float) -> None:
    """Paints the inside of a curve."""
    inside = polygon(curve[:, 0], curve[:, 1], field.shape)
    field.hematoxylin[inside], field.eosin[inside] = hematoxylin, eosin


def paint_nucleus(field: Field, at: np.ndarray, layout: Layout, squash: Range = (0.7, 1)) -> None:
    """One nucleus, its size and darkness drawn from the layout."""
    rng = field.rng
    spread = rng.uniform(*layout.pleomorphism)
    radius = rng.uniform(*layout.nucleus) * np.exp(spread * rng.normal())
    curve = at + outline(rng, radius, 0.3 * spread, rng.uniform(*squash))
    fill(field, curve, rng.uniform(*layout.stain), rng.uniform(0.1, 0.3))


def paint_cells(
    field: Field, places: list[np.ndarray], layout: Layout, cytoplasm: float = 2.2
) -> None:
    """Nuclei in their eosinophilic cytoplasm, which is painted first so that no neighbour's covers a nucleus."""
    rng = field.rng
    for at in places:
        fill(
            field,
            at + outline(rng, cytoplasm * np.mean(layout.nucleus), 0.15),
            0.15,
            rng.uniform(0.45, 0.7),
        )
    for at in places:
        paint_nucleus(field, at, layout)


def paint_stroma(field: Field, layout: Layout) -> None:
    """Wavy collagen: noise drawn out along a direction that bends, with spindle nuclei."""
    rng, (height, width) = field.rng, field.shape
    side = int(1.5 * max(height, width))
    fibres = ndimage.gaussian_filter(rng.normal(size=(side, side)), (1.3, rng.uniform(10, 18)))
    coarse = ndimage.gaussian_filter(rng.normal(size=(-(-side // 8),) * 2), 45 / 8)
    bend = ndimage.zoom(coarse, 8, order=1)[
        :side, :side
    ]  # As smooth as at full size, in a tenth of the time.
    rows, columns = np.indices((side, side))
    fibres = ndimage.map_coordinates(
        fibres, [rows + 14 * bend / bend.std(), columns], order=1, mode="wrap"
    )
    fibres = ndimage.rotate(fibres, rng.uniform(0, 180), reshape=False, order=1, mode="wrap")
    top, left = (side - height) // 2, (side - width) // 2
    fibres = fibres[top : top + height, left : left + width] / fibres.std()
    field.eosin += np.clip(rng.uniform(0.35, 0.55) + 0.16 * fibres, 0.05, None)
    for _ in range(field.count(layout.spindles)):
        paint_nucleus(field, field.place(), layout, squash=(0.25, 0.45))


def paint_fat(field: Field, layout: Layout) -> None:
    """Empty round cells with a thin wall, close together."""
    centre = field.place()
    for _ in range(field.count(layout.fat)):
        at = centre + field.rng.normal(0, 55, 2)
        curve = outline(field.rng, field.rng.uniform(16, 30), 0.06)
        fill(field, at + 1.07 * curve, 0.1, 0.45)
        fill(field, at + curve, 0, 0.02)


def paint_duct(field: Field, layout: Layout) -> None:
    """A duct: rows of nuclei around a lumen, or filled with cells around holes or a necrosis."""
    rng, at = field.rng, field.place()
    radius = rng.uniform(*layout.radius)
    curve = outline(rng, radius, rng.uniform(*layout.irregularity))
    fill(
        field, at + 1.12 * curve, 0.05, 0.75
    )  # The basement membrane and the cuff of collagen around it.
    fill(field, at + curve, 0.18, 0.5)
    step = (
        2.1 * np.mean(layout.nucleus) / radius
    )  # A nucleus and its room, as a share of the radius.
    if rng.uniform() < rng.uniform(*layout.filled):
        inner, hollow = rng.choice([0.0, 0.0, 0.35]), (0.1, 0.8)
    else:
        inner = rng.uniform(*layout.lumen)
        inner = max(inner, 1 - step * round(rng.uniform(*layout.layers)))
        hollow = (0, 0.03)
    fill(field, at + inner * curve, *hollow)
    for share in np.arange(1 - step / 2, inner, -step):
        ring = share * curve
        length = np.linalg.norm(np.diff(ring, axis=0, append=ring[:1]), axis=1).sum()
        for place in rng.uniform(0, 1) + np.linspace(
            0, 1, max(1, int(length / (step * radius))), endpoint=False
        ):
            paint_nucleus(
                field, at + ring[int(place * len(ring)) % len(ring)] + rng.normal(0, 0.8, 2), layout
            )
    if hollow[1] > 0.5 and inner == 0:
        for _ in range(rng.integers(0, 6)):  # Cribriform holes.
            hole = outline(rng, rng.uniform(0.1, 0.2) * radius, 0.1)
            fill(field, at + rng.uniform(-0.55, 0.55, 2) * radius + hole, 0, 0.05)


def paint_cord(field: Field, layout: Layout) -> None:
    """A cord or nest of tumour cells that wanders through the stroma."""
    rng, at = field.rng, field.place()
    heading, wander = rng.uniform(0, 2 * np.pi), rng.choice([0.3, 1.6])
    headings = heading + np.cumsum(rng.normal(0, wander, rng.integers(4, 16)))
    steps = 2.2 * np.mean(layout.nucleus) * np.stack([np.sin(headings), np.cos(headings)], axis=1)
    paint_cells(field, list(at + np.cumsum(steps, axis=0)), layout)


def to_rgb(field: Field) -> np.ndarray:
    """Beer-Lambert: concentrations to uint8 [H, W, 3], with the image's own stains, chromatin, blur and noise."""
    rng = field.rng
    chromatin = 1 + 0.18 * ndimage.gaussian_filter(rng.normal(size=field.shape), 0.9) / 0.31
    strength = rng.uniform(0.65, 1.45) * rng.uniform(0.85, 1.15, 2)
    stains = STAINS + rng.normal(0, 0.035, STAINS.shape)
    stains /= np.linalg.norm(stains, axis=0)
    amounts = (
        np.stack([field.hematoxylin * np.clip(chromatin, 0.4, 1.6), field.eosin], axis=-1)
        * strength
    )
    amounts = ndimage.gaussian_filter(amounts, (0.8, 0.8, 0))
    rgb = WHITE * np.exp(-amounts @ stains.T) + rng.normal(0, 2.0, (*field.shape, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8)


def render(label: str, seed: int, height: int = 384, width: int = 512) -> np.ndarray:
    """A field of tissue of a class: uint8 RGB [H, W, 3], the same for the same arguments.

    Raises:
      ValueError: an unknown class.
    """
    if label not in LAYOUTS:
        raise ValueError(f"no class {label!r}; there are {', '.join(LAYOUTS)}")
    layout = LAYOUTS[label]
    rng = np.random.default_rng([CLASSES.index(label), seed])
    field = Field(rng, np.zeros((height, width)), np.zeros((height, width)))
    paint_stroma(field, layout)
    paint_fat(field, layout)
    for _ in range(field.count(layout.ducts)):
        paint_duct(field, layout)
    for _ in range(field.count(layout.cords)):
        paint_cord(field, layout)
    loose = [field.place() for _ in range(field.count(layout.loose))]
    paint_cells(field, [at for at in loose if not field.is_empty(at)], layout, cytoplasm=1.6)
    return to_rgb(field)


def plan(root: Path, per_class: int, unlabelled: int, seed: int) -> Iterator[tuple[Path, str, int]]:
    """The files of a data set with their class and seed."""
    for label in CLASSES:
        for i in range(1, per_class + 1):
            yield root / "train" / label / f"{PREFIXES[label]}{i:03d}.png", label, 1000 * seed + i
    drawn = np.random.default_rng(seed).choice(CLASSES, unlabelled)
    for i, label in enumerate(drawn.tolist()):
        yield root / "unlabelled" / f"test{i}.png", label, 1000 * seed + 500 + i


def write_folder(
    root: Path, per_class: int, unlabelled: int, seed: int = 0, height: int = 384, width: int = 512
) -> None:
    """Writes train/<class>/*.png, unlabelled/*.png and unlabelled_truth.csv; files that exist are kept.

    Args:
      root: the folder.
      per_class: labelled images of each class, below 500.
      unlabelled: images whose classes are drawn at random, below 500.
      seed, height, width: of the images.

    Raises:
      InputError: the folder's truth is of another seed, and the images kept would belie ours.
    """
    files = list(plan(root, per_class, unlabelled, seed))
    drawn = {path.name: label for path, label, _ in files if path.parent.name == "unlabelled"}
    truth = root / "unlabelled_truth.csv"
    known = (
        {row["image"]: row["label"] for row in read_csv(truth, COLUMNS)} if truth.exists() else {}
    )
    if any(known.get(name, label) != label for name, label in drawn.items()):
        raise InputError(
            f"{truth} is not that of seed {seed}: name an empty folder, or the seed it was written with"
        )
    if drawn.keys() - known.keys() or not truth.exists():
        write_csv(truth, (known | drawn).items(), COLUMNS)
    for path, label, number in files:
        if not path.exists():
            with atomic_write(path) as temporary:
                Image.fromarray(render(label, number, height, width)).save(temporary, format="PNG")
