"""Pictures of a map over its field, with legends.

Pictures show probabilities as colours over the grey image, so that a colour means its probability
and nothing else; glass, which is not scored, keeps the image's own colours. Regions at the
operating point are outlined, tissue that is far from the training images is hatched, and what means
that a map should not be used is said below it. No JAX here.
"""

import io
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from histojax.heatmap import notices, probability_map, regions
from histojax.heatmap.probability_map import ProbabilityMap
from histojax.utils import ties

# Of probabilities 0 to 1, uint8 [256, 3].
COLOURS = (np.asarray(matplotlib.colormaps["viridis"].colors) * 255).round().astype(np.uint8)
OPACITY = 0.45  # Of the colours over the image: the tissue stays visible.
POSITIVE, CLASSES = "positive", "classes"  # Names of pictures beside those of the classes.
# A font with most alphabets, and the micro sign.
_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_LEAST_SIDE = 600  # Of the longest side of a picture, px.
_LEAST_WIDTH = 440  # Of a picture with its legend, px.
_MARGIN = 12  # Of a legend, px.
_TEXT = 16  # Size of a legend's text, px.
_HATCHING = 14  # From one line to the next along an axis, px.
_INK = (28, 32, 36)
_PAPER = (255, 255, 255)
_WARNING = (122, 31, 10)


def layers(heatmap: ProbabilityMap, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Colours by name: of each class (numbered from 1), the positive score, the likeliest class.

    Args:
      heatmap: it.
      shape: height and width to draw at, px.

    Returns:
      uint8 [*shape, 4] each, opaque where there is a score and transparent elsewhere.
    """
    rows, columns = (
        (np.arange(count) + 0.5) * side / count / heatmap.stride
        for count, side in zip(shape, heatmap.size, strict=True)
    )
    probabilities = probability_map.interpolate(heatmap.smoothed, rows, columns)
    drawn = {
        f"{k + 1}-{_file_name(name)}": _viridis(probabilities[k])
        for k, name in enumerate(heatmap.classes)
    }
    if heatmap.positive:
        score = probability_map.positive_score(probabilities, heatmap.positive)
        drawn[POSITIVE] = _viridis(score)
    best = ties.argmax(np.nan_to_num(probabilities), axis=0)
    drawn[CLASSES] = np.array(regions.class_colours(heatmap), np.uint8)[best]
    alpha = np.where(np.isfinite(probabilities[0]), 255, 0).astype(np.uint8)[..., None]
    return {name: np.concatenate([colours, alpha], axis=-1) for name, colours in drawn.items()}


def pictures(heatmap: ProbabilityMap) -> dict[str, np.ndarray]:
    """Pictures with legends, uint8 [h, w, 3], by the names of `layers`."""
    image = _enlarged(heatmap.thumbnail)
    titles = [*heatmap.classes, f"score of {heatmap.positive_name}", "most probable class"]
    if not heatmap.positive:
        del titles[-2]
    drawn = {}
    for title, (name, layer) in zip(titles, layers(heatmap, image.shape[:2]).items(), strict=True):
        picture = _overlaid(image, layer)
        _hatch(picture, heatmap)
        parts = [_colour_bar()]
        if name == POSITIVE:
            _draw_outlines(picture, heatmap)
            parts = [_colour_bar(heatmap.threshold), _text(f"outlined: {heatmap.region_name}")]
        elif name == CLASSES:
            colours = regions.class_colours(heatmap)
            parts = list(map(_colour_key, heatmap.classes, colours))
        if heatmap.far_for_any_reason.any():
            parts.append(_hatching_key())
        drawn[name] = _with_legend(picture, heatmap, title, parts)
    return drawn


def png(heatmap: ProbabilityMap) -> bytes:
    """One picture of a map as PNG: of the positive score or, without one, of the classes."""
    encoded = io.BytesIO()
    picture = pictures(heatmap)[POSITIVE if heatmap.positive else CLASSES]
    Image.fromarray(picture).save(encoded, format="PNG")
    return encoded.getvalue()


def _viridis(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1, NaN as 0, as colours: uint8 [h, w, 3]."""
    return COLOURS[(np.nan_to_num(values) * 255).round().astype(int)]


def _overlaid(image: np.ndarray, layer: np.ndarray) -> Image.Image:
    """Colours over the grey image where the layer is opaque, elsewhere the image itself."""
    grey = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    mixed = OPACITY * layer[..., :3] + (1 - OPACITY) * grey
    return Image.fromarray(np.where(layer[..., 3:], mixed.round(), image).astype(np.uint8))


def _enlarged(image: np.ndarray) -> np.ndarray:
    """An image whose longest side is at least _LEAST_SIDE px: uint8 [h, w, 3]."""
    factor = max(1.0, _LEAST_SIDE / max(image.shape[:2]))
    size = tuple(round(side * factor) for side in image.shape[1::-1])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _draw_outlines(picture: Image.Image, heatmap: ProbabilityMap) -> None:
    """Draws the borders of the regions: dark within light, so they stand out from any tissue."""
    x_scale, y_scale = picture.width / heatmap.size[1], picture.height / heatmap.size[0]
    pen = ImageDraw.Draw(picture)
    rings = [
        [(x * x_scale, y * y_scale) for x, y in ring]
        for region in regions.polygons(heatmap, heatmap.region_name)
        for ring in region
    ]
    for width, colour in ((9, _PAPER), (4, _INK)):
        for ring in rings:
            pen.line(ring, fill=colour, width=width, joint="curve")


def _hatch(picture: Image.Image, heatmap: ProbabilityMap) -> None:
    """Hatches the positions that are far from the training images: dark lines beside light ones."""
    far = heatmap.far_for_any_reason
    if not far.any():
        return
    y, x = np.indices((picture.height, picture.width))
    stride = heatmap.stride
    rows = ((y + 0.5) * heatmap.size[0] / picture.height / stride).astype(int)
    columns = ((x + 0.5) * heatmap.size[1] / picture.width / stride).astype(int)
    hatched = far[rows.clip(max=far.shape[0] - 1), columns.clip(max=far.shape[1] - 1)]
    phase = (x + y) % _HATCHING
    for colour, of_line in ((_INK, phase < 2), (_PAPER, (phase >= 2) & (phase < 4))):
        mask = Image.fromarray((255 * (hatched & of_line)).astype(np.uint8))
        picture.paste(colour, mask=mask)


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
    """The colours of scores from 0 to 1, as over grey, with a mark at the operating point."""
    side = np.repeat(COLOURS[None, np.arange(0, 256, 2)], _TEXT, axis=0)
    bar = Image.fromarray((OPACITY * side + (1 - OPACITY) * 200).round().astype(np.uint8))
    parts = [_text("0"), bar, _text("1")]
    if threshold is not None:
        x = round(threshold * (bar.width - 1))
        ImageDraw.Draw(bar).line([(x, 0), (x, bar.height)], fill=_INK, width=2)
    return _in_a_row(parts)


def _colour_key(name: str, colour: tuple[int, int, int]) -> Image.Image:
    """A class and its colour, as over grey."""
    mixed = tuple(round(OPACITY * channel + (1 - OPACITY) * 200) for channel in colour)
    return _in_a_row([Image.new("RGB", (_TEXT, _TEXT), mixed), _text(name)])


def _hatching_key() -> Image.Image:
    """A hatched square, and what it means."""
    square = np.full((_TEXT, _TEXT, 3), 200, np.uint8)
    y, x = np.indices(square.shape[:2])
    square[(x + y) % (_TEXT // 2) < 2] = _INK
    return _in_a_row([Image.fromarray(square), _text(f"hatched: {regions.FAR}")])


def _warnings(heatmap: ProbabilityMap, width: int) -> Image.Image | None:
    """A dark band that says what means that the map should not be used; None where nothing does."""
    labels = [notice.label for notice in notices.of_map(heatmap) if notice.is_serious]
    lines = [line for label in labels for line in textwrap.wrap(label, int(1.6 * width / _TEXT))]
    if not lines:
        return None
    height = round(1.4 * _TEXT)
    band = Image.new("RGB", (width, height * len(lines) + _MARGIN), _WARNING)
    pen, font = ImageDraw.Draw(band), ImageFont.truetype(_FONT, _TEXT)
    for i, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN // 2 + i * height), line, fill=_PAPER, font=font)
    return band


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
    band = _warnings(heatmap, width)
    above = picture.height + (band.height if band else 0) + _MARGIN
    height = above + sum(row.height + _MARGIN // 2 for row in rows)
    whole = Image.new("RGB", (width, height), _PAPER)
    whole.paste(picture, (0, 0))
    if band:
        whole.paste(band, (0, picture.height))
    y = above
    for row in rows:
        whole.paste(row, (_MARGIN, y))
        y += row.height + _MARGIN // 2
    return np.asarray(whole)
