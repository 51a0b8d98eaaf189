"""The HTML page of a map: layers that can be faded, areas, and what speaks against believing it.

The page carries all it shows. The colours of a map lie over the field as an image of their own, the
outlines and the hatching over both as SVG, so that a reader can fade out each to see the tissue.
"""

import base64
import datetime
import io
from typing import Any

import numpy as np
from PIL import Image

from histojax.heatmap import notices, overlay, probability_map, regions
from histojax.heatmap.probability_map import ProbabilityMap
from histojax.images.thumbnails import thumbnail
from histojax.report import TEMPLATES
from histojax.utils import templates


def render(heatmap: ProbabilityMap, untrained: bool, made: datetime.datetime) -> str:
    """The page, as HTML.

    Args:
      heatmap: it.
      untrained: whether the encoders' weights are random, which the page says first.
      made: when.
    """
    said = notices.of_map(heatmap)
    outlined = regions.polygons(heatmap, heatmap.region_name) if heatmap.positive else []
    return templates.render(
        TEMPLATES,
        "heatmap.html",
        heatmap=heatmap,
        field=thumbnail(heatmap.thumbnail, max(heatmap.thumbnail.shape)),
        maps=_maps(heatmap),
        opacity=round(100 * overlay.OPACITY),
        viridis=", ".join(_css_colour(colour) for colour in overlay.COLOURS[::17]),
        outlines=_svg_path(outlined),
        hatched=_svg_path(regions.polygons(heatmap, regions.FAR)),
        areas=regions.areas(heatmap),
        serious=[notice.text for notice in said if notice.is_serious],
        notices=[notice.text for notice in said if not notice.is_serious],
        made_with={name: _shown(value) for name, value in heatmap.made_with.items()},
        untrained=untrained,
        made=made.strftime("%Y-%m-%d %H:%M"),
    )


def _maps(heatmap: ProbabilityMap) -> list[dict[str, Any]]:
    """The maps in the order of the page: title, the layer as a data URI, and the legend."""
    squares = [
        min(round(probability_map.SUBDIVISION * side / heatmap.stride), pixels)
        for side, pixels in zip(heatmap.size, heatmap.thumbnail.shape[:2], strict=True)
    ]
    drawn = overlay.layers(heatmap, tuple(max(1, side) for side in squares))
    colours = map(_css_colour, regions.class_colours(heatmap))
    classes = list(zip(heatmap.classes, colours, strict=True))
    maps = []
    if heatmap.positive:
        maps.append({"title": f"Score of {heatmap.positive_name}", "name": overlay.POSITIVE})
    maps.append({"title": "Most probable class", "name": overlay.CLASSES, "classes": classes})
    if not (heatmap.positive and len(heatmap.classes) == 2):  # There the score says it all.
        by_class = [name for name in drawn if name not in (overlay.POSITIVE, overlay.CLASSES)]
        for name, title in zip(by_class, heatmap.classes, strict=True):
            maps.append({"title": f"Probability of {title}", "name": name})
    return [{"classes": None, **one, "layer": _data_uri(drawn[one["name"]])} for one in maps]


def _shown(value: Any) -> str:
    """A setting as text: numbers to six digits, a dash for what is not set."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value in (None, "") else str(value)


def _svg_path(polygons: list[list[list[list[float]]]]) -> str:
    """Polygons as the data of an SVG path, in px of the file."""
    rings = [ring for polygon in polygons for ring in polygon]
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in ring) + "Z" for ring in rings)


def _css_colour(colour: np.ndarray | tuple[int, int, int]) -> str:
    return "rgb({} {} {})".format(*colour)


def _data_uri(layer: np.ndarray) -> str:
    """An image with transparency as a data URI: uint8 [h, w, 4]."""
    encoded = io.BytesIO()
    Image.fromarray(layer).save(encoded, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
