"""The roofline figure (Williams, Waterman, Patterson 2009): what each program does against what the machine allows.

Drawn with Pillow alone, so that it can be made on an accelerator machine, which has no plotting library.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1200, 760
LEFT, RIGHT, TOP, BOTTOM = 110, 380, 60, 80
COLOURS = ("#1b6ca8", "#c0392b", "#27864a", "#8e44ad", "#b9770e", "#34495e")
INK, FAINT = "#222222", "#dddddd"


class Roof(NamedTuple):
    """What the machine allows in one precision: operations/s and bytes/s."""

    name: str
    operations: float
    bytes: float


class Point(NamedTuple):
    """A program: operations a byte, operations/s, and the roof it stands under."""

    name: str
    intensity: float
    operations: float
    roof: str


def draw(roofs: Sequence[Roof], points: Sequence[Point], title: str) -> Image.Image:
    """Both axes logarithmic: operations per second over operations per byte."""
    xs = [point.intensity for point in points] + [roof.operations / roof.bytes for roof in roofs]
    ys = [point.operations for point in points] + [roof.operations for roof in roofs]
    low_x, high_x = (
        10 ** math.floor(math.log10(min(xs) / 2)),
        10 ** math.ceil(math.log10(max(xs) * 2)),
    )
    low_y, high_y = (
        10 ** math.floor(math.log10(min(ys) / 2)),
        10 ** math.ceil(math.log10(max(ys) * 1.1)),
    )

    def place(x: float, y: float) -> tuple[float, float]:
        along = math.log(x / low_x) / math.log(high_x / low_x)
        up = math.log(y / low_y) / math.log(high_y / low_y)
        return LEFT + along * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(20), ImageFont.load_default(15)
    pen.text((LEFT, 18), title, INK, font)
    for decade in decades(low_x, high_x):
        pen.line([place(decade, low_y), place(decade, high_y)], FAINT)
        pen.text(place(decade, low_y), f"{decade:g}", INK, small, anchor="ma")
    for decade in decades(low_y, high_y):
        pen.line([place(low_x, decade), place(high_x, decade)], FAINT)
        x, y = place(low_x, decade)
        pen.text((x - 8, y), f"{decade / 1e12:g}", INK, small, anchor="rm")
    pen.text((LEFT, HEIGHT - 38), "operations a byte (fewest bytes, layer by layer)", INK, small)
    pen.text((12, TOP - 24), "TFLOP/s", INK, small)

    colours = {roof.name: COLOURS[i % len(COLOURS)] for i, roof in enumerate(roofs)}
    for roof in roofs:
        ridge = roof.operations / roof.bytes
        start = max(low_x, low_y / roof.bytes)
        corners = [(start, start * roof.bytes), (ridge, roof.operations), (high_x, roof.operations)]
        pen.line(
            [place(*corner) for corner in corners if corner[0] >= start], colours[roof.name], 3
        )
    x = WIDTH - RIGHT + 24
    for i, point in enumerate(points):
        here, colour = place(point.intensity, point.operations), colours[point.roof]
        pen.ellipse([here[0] - 11, here[1] - 11, here[0] + 11, here[1] + 11], "white", colour, 2)
        pen.text(here, str(i + 1), colour, small, anchor="mm")
        pen.text((x, TOP + 22 * i), f"{i + 1}  {point.name}", colour, small)
    for i, roof in enumerate(roofs):
        text = f"{roof.name}: {roof.operations / 1e12:.3g} TFLOP/s, {roof.bytes / 1e9:.3g} GB/s"
        pen.text((x, HEIGHT - BOTTOM - 22 * (len(roofs) - i)), text, colours[roof.name], small)
    return image


def decades(low: float, high: float) -> list[float]:
    """The powers of ten from `low` to `high`, both included."""
    return [10.0**i for i in range(round(math.log10(low)), round(math.log10(high)) + 1)]
