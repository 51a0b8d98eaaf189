"""Pictures of a map over its field, and an HTML page of them.

Pictures show probabilities as colours over the grey image, so that a colour means its probability
and nothing else; glass, which is not scored, keeps the image's own colours. No JAX here.
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

# Of probabilities 0 to 1, uint8 [256, 3].
_COLOURS = (np.asarray(matplotlib.colormaps["viridis"].colors) * 255).round().astype(np.uint8)
# A font with most alphabets, and the micro sign.
_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_OPACITY = 0.6  # Of the colours over the image.
_LEAST_SIDE = 600  # Of the longest side of a picture, px.
_LEAST_WIDTH = 440  # Of a picture with its legend, px.
_MARGIN = 12  # Of a legend, px.
_TEXT = 16  # Size of a legend's text, px.
_INK = (28, 32, 36)
_PAPER = (255, 255, 255)


def pictures(heatmap: ProbabilityMap) -> dict[str, np.ndarray]:
    """Pictures with legends by name, of each class (numbered from 1), the positive score, the best.

    Returns:
      uint8 [h, w, 3] each.
    """
    image = _enlarged(heatmap.thumbnail)
    rows, columns = (
        (np.arange(count) + 0.5) * side / count / heatmap.stride
        for count, side in zip(image.shape[:2], heatmap.size, strict=True)
    )
    probabilities = probability_map.interpolate(heatmap.smoothed, rows, columns)
    tissue = np.isfinite(probabilities[0])
    drawn = {}
    for k, name in enumerate(heatmap.classes):
        picture = _overlaid(image, _viridis(probabilities[k]), tissue)
        drawn[f"{k + 1}-{_file_name(name)}"] = _with_legend(picture, heatmap, name, [_colour_bar()])
    if heatmap.positive:
        score = probability_map.positive_score(probabilities, heatmap.positive)
        picture = _overlaid(image, _viridis(score), tissue)
        _draw_regions(picture, heatmap)
        title = f"positive-class score: {heatmap.positive_name}"
        bar = _colour_bar(heatmap.threshold)
        drawn["carcinoma"] = _with_legend(picture, heatmap, title, [bar])
    colours = probability_map.class_colours(heatmap)
    best = np.argmax(np.nan_to_num(probabilities), axis=0)
    picture = _overlaid(image, np.array(colours, np.uint8)[best], tissue)
    keys = [
        _colour_key(name, colour) for name, colour in zip(heatmap.classes, colours, strict=True)
    ]
    drawn["classes"] = _with_legend(picture, heatmap, "most probable class", keys)
    return drawn


def _viridis(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1, NaN as 0, as colours: uint8 [h, w, 3]."""
    return _COLOURS[(np.nan_to_num(values) * 255).round().astype(int)]


def _overlaid(image: np.ndarray, colours: np.ndarray, mask: np.ndarray) -> Image.Image:
    """Colours over the grey image where the mask holds, elsewhere the image itself: [h, w, 3]."""
    grey = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    mixed = _OPACITY * colours + (1 - _OPACITY) * grey
    return Image.fromarray(np.where(mask[..., None], mixed.round(), image).astype(np.uint8))


def _enlarged(image: np.ndarray) -> np.ndarray:
    """An image whose longest side is at least _LEAST_SIDE px: uint8 [h, w, 3]."""
    factor = max(1.0, _LEAST_SIDE / max(image.shape[:2]))
    size = tuple(round(side * factor) for side in image.shape[1::-1])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _draw_regions(picture: Image.Image, heatmap: ProbabilityMap) -> None:
    """Draws the borders of the regions, dark on light."""
    x_scale, y_scale = picture.width / heatmap.size[1], picture.height / heatmap.size[0]
    pen = ImageDraw.Draw(picture)
    rings = [
        [(x * x_scale, y * y_scale) for x, y in ring]
        for feature in probability_map.regions(heatmap)["features"]
        for ring in feature["geometry"]["coordinates"]
    ]
    for width, colour in ((4, _PAPER), (2, _INK)):
        for ring in rings:
            pen.line(ring, fill=colour, width=width, joint="curve")


def _file_name(name: str) -> str:
    """A class name with underscores for all that could not be in a file name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _text(words: str) -> Image.Image:
    font = ImageFont.truetype(_FONT, _TEXT)
    left, _, right, _ = font.getbbox(words)
    line = Image.new("RGB", (max(1, int(np.ceil(right - left))), round(1.4 * _TEXT)), _PAPER)
    ImageDraw.Draw(line).text((-left, 0), words, fill=_INK, font=font)
    return line


def _in_a_row(parts: list[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures side by side."""
    width = sum(part.width for part in parts) + gap * (len(parts) - 1)
    row = Image.new("RGB", (width, max(part.height for part in parts)), _PAPER)
    x = 0
    for part in parts:
        row.paste(part, (x, (row.height - part.height) // 2))
        x += part.width + gap
    return row


def _colour_bar(threshold: float | None = None) -> Image.Image:
    """The colours of probabilities from 0 to 1, as over grey, and the operating point."""
    side = np.repeat(_COLOURS[None, np.arange(0, 256, 2)], _TEXT, axis=0)
    bar = Image.fromarray((_OPACITY * side + (1 - _OPACITY) * 200).round().astype(np.uint8))
    parts = [_text("0"), bar, _text("1")]
    if threshold is not None:
        x = round(threshold * (bar.width - 1))
        ImageDraw.Draw(bar).line([(x, 0), (x, bar.height)], fill=_INK, width=2)
        parts.append(_text(f"outlined: {threshold:.2f} and above"))
    return _in_a_row(parts)


def _colour_key(name: str, colour: tuple[int, int, int]) -> Image.Image:
    """A class and its colour, as over grey."""
    mixed = tuple(round(_OPACITY * channel + (1 - _OPACITY) * 200) for channel in colour)
    return _in_a_row([Image.new("RGB", (_TEXT, _TEXT), mixed), _text(name)])


def _scale_bar(microns_per_pixel: float, longest: float) -> Image.Image:
    """A bar of 1, 2 or 5 times a power of ten microns, at most `longest` px, with its length."""
    most = longest * microns_per_pixel
    power = 10 ** np.floor(np.log10(most))
    microns = max(factor * power for factor in (1, 2, 5) if factor * power <= most)
    bar = Image.new("RGB", (max(1, round(microns / microns_per_pixel)), 4), _INK)
    length = f"{microns / 1000:g} mm" if microns >= 1000 else f"{microns:g} um"
    return _in_a_row([bar, _text(length)])


def _with_legend(
    picture: Image.Image, heatmap: ProbabilityMap, title: str, parts: list[Image.Image]
) -> np.ndarray:
    """A picture with its legend below: title, colours, scale bar, in as many lines as needed."""
    width = max(picture.width, _LEAST_WIDTH)
    if heatmap.mpp:
        microns_per_pixel = heatmap.mpp * heatmap.size[1] / picture.width
        parts = [*parts, _scale_bar(microns_per_pixel, picture.width / 4)]
    lines = [[_text(title)]]
    for part in parts:
        used = sum(item.width + 2 * _MARGIN for item in lines[-1])
        if used + part.width > width - 2 * _MARGIN:
            lines.append([])
        lines[-1].append(part)
    rows = [_in_a_row(line, gap=2 * _MARGIN) for line in lines if line]
    height = picture.height + _MARGIN + sum(row.height + _MARGIN // 2 for row in rows)
    whole = Image.new("RGB", (width, height), _PAPER)
    whole.paste(picture, (0, 0))
    y = picture.height + _MARGIN
    for row in rows:
        whole.paste(row, (_MARGIN, y))
        y += row.height + _MARGIN // 2
    return np.asarray(whole)


def page(
    heatmap: ProbabilityMap, drawn: dict[str, np.ndarray], untrained: bool, made: datetime.datetime
) -> str:
    """The overview: one HTML page that carries its pictures.

    Args:
      heatmap: it.
      drawn: of `pictures`.
      untrained: whether the encoders' weights are random, which the page says first.
      made: when.
    """
    images = {name: thumbnail(picture, max(picture.shape)) for name, picture in drawn.items()}
    return templates.render(
        TEMPLATES,
        "heatmap.html",
        heatmap=heatmap,
        image=thumbnail(heatmap.thumbnail, max(heatmap.thumbnail.shape)),
        pictures=images,
        areas=probability_map.areas(heatmap),
        untrained=untrained,
        made=made.strftime("%Y-%m-%d %H:%M"),
    )
