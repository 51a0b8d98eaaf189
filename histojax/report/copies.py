"""What accuracy becomes where copies no longer cross folds, in words, rows and numbers."""

import dataclasses
from typing import Any

from histojax.datasets import copies
from histojax.datasets.folds import Folds
from histojax.evaluation.copies import SPLITS, CopiesStudy, Share
from histojax.evaluation.statistics import FEW_GROUPS
from histojax.report import formats
from histojax.utils.words import quantity

_HEADS = "linear heads, fitted anew"


@dataclasses.dataclass(frozen=True)
class Row:
    """An accuracy: what is predicted by what, how many images, the value and its interval."""

    what: str
    images: int
    value: str
    interval: str


def first_line(study: CopiesStudy) -> str:
    """How many images are predicted by models that were trained on a copy of them."""
    models = study.models
    if models is None:
        return "Accuracy in the folds as they are, and with copies and overlaps in one fold"
    return (
        f"Of {quantity(models.all.images)} held out, {models.images} have a copy, or a field that "
        "overlaps, in training"
    )


def rows(study: CopiesStudy) -> list[Row]:
    """The figures that there are."""
    found = []
    if study.models is not None:
        models = study.models
        found = [
            _row("the models, all images", models.all),
            _row("the models, images without a copy in training", models.without),
            _row("the models, images with one", models.crossing),
        ]
    heads = study.heads
    found += [
        _row(f"{_HEADS}, folds as they are", heads.as_is),
        _row(f"{_HEADS}, copies in one fold", heads.grouped),
    ]
    found = [row for row in found if row is not None]
    if heads.change is not None:
        low, high = (100 * end for end in (heads.change.interval.low, heads.change.interval.high))
        found.append(
            Row(
                "change of these heads",
                heads.change.images,
                f"{100 * heads.change.value:+.1f} points",
                f"{low:+.1f} to {high:+.1f} points",
            )
        )
    return found


def notes(study: CopiesStudy) -> list[str]:
    """What the figures are, and what cannot be told, a sentence each."""
    said, models, heads = [], study.models, study.heads
    if models is not None:
        for share, words in ((models.without, "without"), (models.crossing, "with")):
            if share is None:
                said.append(
                    f"Of the images {words} a copy in training the accuracy cannot be told: they "
                    f"are fewer than {FEW_GROUPS} patients, sets of copies or single images."
                )
        if models.without and models.crossing:
            said.append("Images with and without a copy in training are different images.")
    if heads.why_not:
        said.append(f"Linear heads were not fitted anew: {heads.why_not}.")
    else:
        said.append(
            "Linear heads (ridge regression on the mean descriptors) are not the models; they "
            f"tell the change for one learner on the same images, as a mean of {SPLITS} splits "
            "that keep copies in one fold."
        )
    return said


def text_lines(study: CopiesStudy) -> list[str]:
    """All of it as text."""
    figures = [
        f"  {row.what} ({row.images}): {row.value} (95 % interval {row.interval})"
        for row in rows(study)
    ]
    return [f"{first_line(study)}. Accuracy:", *figures, *notes(study)]


def kept_together(folds: Folds) -> dict[str, int] | None:
    """Images that a split keeps together as copies, and their sets; None where it does not."""
    if folds.copies is None:
        return None
    return dict(zip(("images", "sets"), copies.quantities(folds.copies), strict=True))


def as_dict(study: CopiesStudy) -> dict[str, Any]:
    """Every number, for JSON."""
    return dataclasses.asdict(study)


def _row(what: str, share: Share | None) -> Row | None:
    if share is None:
        return None
    value = formats.number("accuracy", share.value)
    return Row(what, share.images, value, formats.interval("accuracy", share.interval))
