"""Pictures of a map over its field, and a page of them. No jax.

Pictures show probabilities as colours over the grey image, so that a colour means its probability and nothing else;
glass, which is not scored, keeps the image's own colours.
"""

import datetime
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from histojax.heatmap import probability_map
from histojax.heatmap.probability_map import ProbabilityMap
from histojax.images.thumbnails import thumbnail
from histojax.report import TEMPLATES
from histojax.utils import templates

COLOURS = (
    (np.asarray(matplotlib.colormaps["viridis"].colors) * 255).round().astype(np.uint8)
)  # Of 0 to 1, [256, 3].
FONT = (
    Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
)  # Knows most alphabets, and microns.
SHARE = 0.6  # Of the colour in what is laid over the image.
SMALLEST, NARROWEST = (
    600,
    440,
)  # Longest side of a picture, and width with its legend, px, at least.
MARGIN, TEXT = 12, 16  # Of a legend, px.
INK, PAPER = (28, 32, 36), (255, 255, 255)


def pictures(shown: ProbabilityMap) -> dict[str, np.ndarray]:
    """What there is to see, with legends, by name: uint8 [h, w, 3] each. Classes are numbered from 1."""
    image = enlarged(shown.thumbnail)
    height, width = image.shape[:2]
    rows, columns = (
        (np.arange(small) + 0.5) * side / small / shown.stride
        for small, side in zip((height, width), shown.size, strict=True)
    )
    here = probability_map.interpolated(shown.smoothed, rows, columns)
    tissue = np.isfinite(here[0])
    found = {}
    scores = {f"{k + 1}-{plain(name)}": (name, here[k]) for k, name in enumerate(shown.classes)}
    if shown.positive:
        scores["carcinoma"] = (
            f"carcinoma score: {shown.positive_name}",
            probability_map.carcinoma(here, shown.positive),
        )
    for file, (title, values) in scores.items():
        colours = COLOURS[(np.nan_to_num(values) * 255).round().astype(int)]
        picture = Image.fromarray(over(image, colours, tissue))
        if file == "carcinoma":
            outline(picture, shown)
        mark = shown.threshold if file == "carcinoma" else None
        found[file] = legend(picture, shown, title, [colour_bar(mark)])
    best = np.argmax(np.nan_to_num(here), axis=0)
    palette = probability_map.colours(shown)
    found["classes"] = legend(
        Image.fromarray(over(image, np.array(palette, np.uint8)[best], tissue)),
        shown,
        "most probable class",
        [chip(name, colour) for name, colour in zip(shown.classes, palette, strict=True)],
    )
    return found


def over(image: np.ndarray, colours: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Colours laid over an image, grey there: uint8 [h, w, 3] each, bool [h, w] -> uint8 [h, w, 3]."""
    grey = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    mixed = SHARE * colours + (1 - SHARE) * grey
    return np.where(where[..., None], mixed.round(), image).astype(np.uint8)


def enlarged(image: np.ndarray) -> np.ndarray:
    """An image with a longest side of SMALLEST px at least: uint8 [h, w, 3]."""
    factor = max(1.0, SMALLEST / max(image.shape[:2]))
    size = tuple(round(side * factor) for side in image.shape[1::-1])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def outline(picture: Image.Image, shown: ProbabilityMap) -> None:
    """Draws the borders of the regions at the operating point, dark on light."""
    across, down = picture.width / shown.size[1], picture.height / shown.size[0]
    pen = ImageDraw.Draw(picture)
    rings = [
        ring
        for feature in probability_map.regions_of(shown)["features"]
        for ring in feature["geometry"]["coordinates"]
    ]
    for width, colour in ((4, PAPER), (2, INK)):
        for ring in rings:
            pen.line(
                [(x * across, y * down) for x, y in ring], fill=colour, width=width, joint="curve"
            )


def plain(name: str) -> str:
    """A class name as it can stand in a file's."""
    return "".join(each if each.isalnum() else "_" for each in name)


def text(words: str, colour: tuple[int, int, int] = INK) -> Image.Image:
    """Words on paper."""
    font = ImageFont.truetype(FONT, TEXT)
    left, _, right, _ = font.getbbox(words)
    line = Image.new("RGB", (max(1, int(np.ceil(right - left))), round(1.4 * TEXT)), PAPER)
    ImageDraw.Draw(line).text((-left, 0), words, fill=colour, font=font)
    return line


def beside(parts: list[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures in a row, on paper."""
    row = Image.new(
        "RGB",
        (sum(p.width for p in parts) + gap * (len(parts) - 1), max(p.height for p in parts)),
        PAPER,
    )
    x = 0
    for part in parts:
        row.paste(part, (x, (row.height - part.height) // 2))
        x += part.width + gap
    return row


def colour_bar(mark: float | None) -> Image.Image:
    """The colours of probabilities from 0 to 1, as they look over grey, and where the operating point is."""
    side = np.repeat(COLOURS[None, np.arange(0, 256, 2)], TEXT, axis=0)
    bar = Image.fromarray((SHARE * side + (1 - SHARE) * 200).round().astype(np.uint8))
    words = [text("0"), bar, text("1")]
    if mark is not None:
        x = round(mark * (bar.width - 1))
        ImageDraw.Draw(bar).line([(x, 0), (x, bar.height)], fill=INK, width=2)
        words.append(text(f"outlined: {mark:.2f} and above"))
    return beside(words)


def chip(name: str, colour: tuple[int, int, int]) -> Image.Image:
    """A class and its colour."""
    mixed = tuple(round(SHARE * each + (1 - SHARE) * 200) for each in colour)
    return beside([Image.new("RGB", (TEXT, TEXT), mixed), text(name)])


def scale_bar(microns_per_pixel: float, longest: float) -> Image.Image:
    """A bar of 1, 2 or 5 times a power of ten microns, `longest` px at most, and its length in words."""
    most = longest * microns_per_pixel
    power = 10 ** np.floor(np.log10(most))
    microns = max(each * power for each in (1, 2, 5) if each * power <= most)
    bar = Image.new("RGB", (max(1, round(microns / microns_per_pixel)), 4), INK)
    return beside([bar, text(f"{microns / 1000:g} mm" if microns >= 1000 else f"{microns:g} um")])


def legend(
    picture: Image.Image, shown: ProbabilityMap, title: str, parts: list[Image.Image]
) -> np.ndarray:
    """A picture with what it shows below it: title, colours, scale bar, in as many lines as they need."""
    width = max(picture.width, NARROWEST)
    if shown.mpp:
        parts = [*parts, scale_bar(shown.mpp * shown.size[1] / picture.width, picture.width / 4)]
    lines: list[list[Image.Image]] = [[text(title)]]
    for part in parts:
        if sum(p.width + 2 * MARGIN for p in lines[-1]) + part.width > width - 2 * MARGIN:
            lines.append([])
        lines[-1].append(part)
    rows = [beside(line, gap=2 * MARGIN) for line in lines if line]
    whole = Image.new(
        "RGB",
        (width, picture.height + MARGIN + sum(row.height + MARGIN // 2 for row in rows)),
        PAPER,
    )
    whole.paste(picture, (0, 0))
    y = picture.height + MARGIN
    for row in rows:
        whole.paste(row, (MARGIN, y))
        y += row.height + MARGIN // 2
    return np.asarray(whole)


def page(
    shown: ProbabilityMap, drawn: dict[str, np.ndarray], untrained: bool, made: datetime.datetime
) -> str:
    """The overview: one HTML page that carries its pictures.

    Args:
      drawn: of `pictures`.
      untrained: whether the encoders' weights are random, which is said first of all.
      made: when.
    """
    return templates.render(
        TEMPLATES,
        "heatmap.html",
        shown=shown,
        image=thumbnail(shown.thumbnail, max(shown.thumbnail.shape)),
        pictures={name: thumbnail(picture, max(picture.shape)) for name, picture in drawn.items()},
        areas=probability_map.areas(shown),
        untrained=untrained,
        made=made.strftime("%Y-%m-%d %H:%M"),
    )
