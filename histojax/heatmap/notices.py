"""What speaks against believing a map, or is missing from it, in sentences."""

from typing import NamedTuple

import numpy as np

from histojax.heatmap import regions
from histojax.heatmap.probability_map import ProbabilityMap

_SAME_SCORE = 1e-6  # Scores of positions that differ by less are the same.
_SAME_COLOUR = 2  # Grey levels that the pixels of a field of one colour may differ by.


class Notice(NamedTuple):
    """A sentence about a map.

    Attributes:
      kind: in a few words, for counting images.
      label: in a few words, for pictures.
      text: the sentence.
      is_serious: whether it means that the map should not be used.
    """

    kind: str
    label: str
    text: str
    is_serious: bool


def of_map(heatmap: ProbabilityMap) -> list[Notice]:
    """All that a reader has to know before they look at a map, the most serious first."""
    found = [
        _answer(heatmap),
        _training(heatmap),
        _content(heatmap),
        _typicality(heatmap),
        _pixel_size(heatmap),
    ]
    return sorted(filter(None, found), key=lambda notice: not notice.is_serious)


def _answer(heatmap: ProbabilityMap) -> Notice | None:
    """What histojax predict says of the field, where that is not an ordinary answer."""
    if heatmap.prediction is None:
        text = (
            "Whether histojax predict would abstain from this field is not known: "
            f"{heatmap.unpredicted.rstrip('.')}."
        )
        return Notice("not predicted", "not known whether predict abstains", text, False)
    if not heatmap.abstain:
        return None
    label = f"histojax predict abstains from this field: {'; '.join(heatmap.abstain)}"
    text = f"{label}. The map shows what the models compute, not an answer to rely on."
    return Notice("abstained from by histojax predict", label, text, True)


def _training(heatmap: ProbabilityMap) -> Notice | None:
    """Whether the models were trained on the field."""
    if heatmap.prediction is None or not heatmap.prediction.trained_on:
        return None
    text = (
        "The models were trained on this very file: what they say of it tells nothing of new "
        "images."
    )
    return Notice("trained on", "the models were trained on this very file", text, True)


def _content(heatmap: ProbabilityMap) -> Notice | None:
    """Whether there is anything in the field, and in the map."""
    scores = heatmap.grid[:, heatmap.scored]
    pixels = heatmap.thumbnail.reshape(-1, 3)
    if not scores.size:
        text = (
            "There is no tissue in this field: no position has enough of it, so nothing is scored."
        )
        return Notice("no tissue", "no tissue, nothing is scored", text, True)
    if np.ptp(pixels, axis=0).max() <= _SAME_COLOUR:
        colour = ", ".join(str(round(channel)) for channel in pixels.mean(axis=0))
        text = (
            f"The field is of one colour (RGB {colour}): there is nothing to see in it, and the "
            "scores mean nothing."
        )
        return Notice("one colour", "a field of one colour: scores mean nothing", text, True)
    if scores.shape[1] > 1 and np.ptp(scores, axis=1).max() < _SAME_SCORE:
        values = ", ".join(
            f"{name} {value:.2f}" for name, value in zip(heatmap.classes, scores[:, 0], strict=True)
        )
        text = (
            f"All {scores.shape[1]} positions have the same scores ({values}): the models do not "
            "tell one place from another, as where their trees did not grow. The map shows nothing."
        )
        return Notice("the same score everywhere", "the same score everywhere", text, True)
    return None


def _typicality(heatmap: ProbabilityMap) -> Notice | None:
    """How much of the tissue is far from the training images."""
    if not heatmap.scored.any():
        return None
    if heatmap.far is None:
        text = (
            "Which places are unlike the training images is not known: "
            f"{heatmap.uncompared.rstrip('.')}."
        )
        return Notice("typicality unknown", "typicality unknown", text, False)
    share = regions.far_share(heatmap)
    if not share:
        return None
    text = (
        f"{share:.1%} of the tissue is unlike any place of the training images and hatched: what "
        "the models compute there is extrapolation."
    )
    return Notice("partly far from training", f"{share:.0%} far from training", text, share > 0.5)


def _pixel_size(heatmap: ProbabilityMap) -> Notice | None:
    """Whether the field's pixel size, and that of the training images, are known."""
    if heatmap.mpp and any(map(heatmap.made_with.get, ("target_mpp", "views_mpp"))):
        return None
    if heatmap.mpp:
        kind = "resolution of the training images unknown"
        text = (
            f"The field has {heatmap.mpp:g} µm per pixel. The models were trained without "
            "--target_mpp, so whether their training images had the same is not known."
        )
        return Notice(kind, kind, text, False)
    text = (
        "The file does not state its pixel size, so areas are shares and pixels only. With "
        "--mpp=MICRONS_PER_PIXEL they are given in mm² too."
    )
    return Notice(
        "pixel size unknown (--mpp gives areas in mm²)", "pixel size unknown", text, False
    )
