"""The colours of pages, figures and site: one set, and readable however one sees colours."""

import itertools
import re

import numpy as np
import pytest
from skimage import color

from histojax.heatmap import overlay, regions
from histojax.report import TEMPLATES, figures
from tests.running import ROOT

STYLE = (TEMPLATES / "style.css").read_text("utf-8")
SITE = ROOT / "docs" / "stylesheets" / "histojax.css"
LEAST_OF_TEXT, LEAST_OF_GRAPHICS = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11.
# The least difference (CIEDE2000) of two of Okabe and Ito's colours by these simulations is 12.2.
LEAST_DIFFERENCE = 12
CURVES = ("blue", "orange", "green", "purple")

# What is left of linear RGB without one kind of cones; Machado et al. 2009, severity 1.
CONES = {
    "all": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def schemes() -> dict[str, dict[str, np.ndarray]]:
    """RGB from 0 to 1 of the style's variables, by name, in the light, in the dark and on paper."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert len(blocks) == 3
    first, *others = map(variables, blocks)
    return {"light": first, "dark": first | others[0], "print": first | others[1]}


def variables(text: str) -> dict[str, np.ndarray]:
    """RGB from 0 to 1 by name; three digits, six digits, or three numbers up to 255."""
    found = {}
    for name, value in re.findall(r"--([\w-]+): (#\w+|\d+ \d+ \d+);", text):
        if value[0] == "#":
            digits = value[1:] if len(value) == 7 else "".join(2 * digit for digit in value[1:])
            found[name] = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        else:
            found[name] = np.array(value.split(), float) / 255
    return found


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(first: np.ndarray, second: np.ndarray) -> float:
    """WCAG's contrast of two colours, from 1 to 21."""
    low, high = sorted(float(linear(rgb) @ [0.2126, 0.7152, 0.0722]) for rgb in (first, second))
    return (high + 0.05) / (low + 0.05)


def least_difference(colours: list[np.ndarray], kind: str) -> float:
    """The least CIEDE2000 of two of the colours as one without a kind of cones sees them."""
    seen = np.clip(linear(np.array(colours)) @ np.array(CONES[kind]).T, 0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    pairs = itertools.combinations(color.rgb2lab(encoded[None])[0], 2)
    return min(float(color.deltaE_ciede2000(a, b)) for a, b in pairs)


def test_the_contrast_and_the_difference_are_the_published_ones():
    black, white, red = np.zeros(3), np.ones(3), np.array([1.0, 0, 0])
    assert contrast(black, white) == pytest.approx(21)
    assert contrast(red, white) == pytest.approx(4.0, abs=0.01)
    okabe_ito = ("--a: #0072b2; --b: #d55e00; --c: #009e73; --d: #cc79a7;",)
    colours = list(variables(*okabe_ito).values())
    assert min(least_difference(colours, kind) for kind in CONES) == pytest.approx(12.2, abs=0.1)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_stands_out_from_what_is_behind_it(scheme):
    of = schemes()[scheme]
    pairs = itertools.product(("ink", "muted", "accent", "orange"), ("paper", "card"))
    assert {pair for pair in pairs if contrast(*map(of.get, pair)) < LEAST_OF_TEXT} == set()
    assert contrast(of["warn"], of["warn-paper"]) >= LEAST_OF_TEXT
    assert contrast(of["ink"], of["line"]) >= LEAST_OF_TEXT  # The section in view, in the contents.
    for cell, most in (("right", 0.5), ("wrong", 0.5)):  # Of the confusion matrix, at its darkest.
        behind = most * of[cell] + (1 - most) * of["paper"]
        assert contrast(of["ink"], behind) >= LEAST_OF_TEXT


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_curves_stand_out_and_are_told_apart_however_one_sees_colours(scheme):
    of = schemes()[scheme]
    for name, behind in itertools.product(CURVES, ("paper", "card")):
        assert contrast(of[name], of[behind]) >= LEAST_OF_GRAPHICS
    colours = [of[name] for name in CURVES]
    assert min(least_difference(colours, kind) for kind in CONES) >= LEAST_DIFFERENCE


def test_figures_have_the_colours_of_a_light_page():
    of = schemes()["light"]
    drawn = variables("".join(f"{v}: {c};" for c, v in figures.CSS_VARIABLES.items()))
    named = {name: colour.tolist() for name, colour in drawn.items() if name != "line"}
    assert named == {name: of[name].tolist() for name in named}
    assert set(CURVES) < set(named)


def test_probabilities_of_a_map_grow_lighter_however_one_sees_colours():
    colours = overlay.COLOURS[::15] / 255
    for cones in CONES.values():
        luminance = np.clip(linear(colours) @ np.array(cones).T, 0, 1) @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(luminance) > 0).all()


def test_classes_of_a_map_are_told_apart_however_one_sees_colours():
    bach = [np.array(colour) / 255 for colour in (*regions.COOL[:2], *regions.WARM[:2])]
    assert min(least_difference(bach, kind) for kind in CONES) >= LEAST_DIFFERENCE


def test_one_file_has_the_style_of_all_pages():
    for template in TEMPLATES.glob("*.html"):
        text = template.read_text("utf-8")
        rules = re.findall(r"\{% block style %\}(.*?)\{% endblock %\}", text, re.DOTALL)
        selectors = [line.split("{")[0].strip() for rule in rules for line in rule.splitlines()]
        assert set(selectors) <= {"", ":root"}, template.name


def test_the_site_has_the_same_colours():
    text = SITE.read_text("utf-8")
    for scheme, name in (("light", "default"), ("dark", "slate")):
        block = re.search(rf'\[data-md-color-scheme="{name}"\] \{{(.*?)\}}', text, re.DOTALL)[1]
        found = {key: colour.tolist() for key, colour in variables(block).items()}
        of = schemes()[scheme]
        expected = {
            "md-default-bg-color": "paper",
            "md-default-fg-color": "ink",
            "md-default-fg-color--light": "muted",
            "md-typeset-a-color": "accent",
            "md-code-bg-color": "card",
        }
        assert {key: found[key] for key in expected} == {
            key: of[value].tolist() for key, value in expected.items()
        }
