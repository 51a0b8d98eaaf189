"""What the numbers allow one to say, in sentences: the first paragraph of a report.

Whether the models are shown to be better than chance, and by how many patients if not; what makes
figures doubtful (unknown groups, leakage, near-duplicates, copies of two classes, a class that goes
with the site, untrained encoders, models that learned nothing); whether the sensitivity asked for
was reached; and what calibration did.
"""

import dataclasses
import math

import numpy as np

from histojax.datasets import copies
from histojax.datasets.leakage import LeakageAudit
from histojax.evaluation import bootstrap, metrics, sample_size
from histojax.evaluation.chance import ChanceTest
from histojax.evaluation.metrics import METRICS
from histojax.evaluation.operating_point import NESTED
from histojax.evaluation.statistics import FEW_GROUPS, Estimate, Statistics
from histojax.learners.growth import Growth
from histojax.utils import ties

# What a finding is about, in the order in which they are told.
GROWTH, UNTRAINED, EVIDENCE, CHANCE, NEEDED = "growth", "untrained", "evidence", "chance", "needed"
GROUPS, LEAKAGE, DUPLICATES, LABELS, SITE = "groups", "leakage", "duplicates", "labels", "site"
SENSITIVITY, CALIBRATION = "sensitivity", "calibration"

_SHOWS_NOTHING = "this does not show that the models work"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sentence or two, and what they are about: one of the names above."""

    about: str
    text: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What numbers allow one to say.

    Attributes:
      works: whether the models are shown to be better than chance.
      findings: in the order in which they are told.
    """

    works: bool
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether the models work, and nothing makes the figures doubtful."""
        doubts = {GROWTH, UNTRAINED, GROUPS, LEAKAGE, DUPLICATES, LABELS, SITE}
        return self.works and not doubts & {finding.about for finding in self.findings}

    @property
    def lines(self) -> list[str]:
        """A line for each finding."""
        return [finding.text for finding in self.findings]


@dataclasses.dataclass(frozen=True)
class _Evidence:
    """The metric that is held against chance.

    Attributes:
      estimate: of the metric.
      label: what it is called in a sentence.
      chance: its value without any knowledge of the images.
      chance_words: that, in words.
    """

    estimate: Estimate
    label: str
    chance: float
    chance_words: str

    @property
    def value(self) -> str:
        return _number(self.estimate.name, self.estimate.value)

    @property
    def is_above_chance(self) -> bool:
        """Whether the whole interval is."""
        return bool(self.estimate.interval.low > self.chance)  # False for NaN.


def judge(
    statistics: Statistics,
    growth: Growth | None = None,
    audit: LeakageAudit | None = None,
    untrained: bool = False,
    duplicates: int = 0,
    site: str = "",
    conflicts: int = 0,
) -> Verdict:
    """The verdict on predictions.

    Args:
      statistics: of the predictions.
      growth: of the models that made them, where they are known.
      audit: of the split they were made by, where it is known.
      untrained: whether the encoders' weights are random.
      duplicates: pairs of copies and overlaps in two folds, where they were searched for.
      site: what is said of a class that goes with the site or batch; empty where none does.
      conflicts: pairs of copies of one image that have two classes.
    """
    evidence, chance = _evidence(statistics), statistics.chance
    works = bool(evidence.is_above_chance and chance is not None and not chance.is_chance)
    told = {
        GROWTH: growth.text if growth else "",
        UNTRAINED: (
            "The encoders are untrained (random weights): this is a trial of the pipeline, not a "
            "result."
            if untrained
            else ""
        ),
        EVIDENCE: _evidence_text(statistics, evidence, works),
        CHANCE: "" if works or chance is None else chance_text(chance),
        NEEDED: _needed_text(statistics, evidence),
        GROUPS: _groups_text(statistics),
        LEAKAGE: audit.verdict if audit and audit.leaks else "",
        DUPLICATES: _duplicates_text(duplicates),
        LABELS: _conflicts_text(conflicts),
        SITE: site,
        SENSITIVITY: _sensitivity_text(statistics),
        CALIBRATION: statistics.temperature.text if statistics.temperature else "",
    }
    if growth is not None and growth.constant == growth.models:
        told |= {EVIDENCE: f"The {evidence.label} is {evidence.value}: {_SHOWS_NOTHING}."}
        told |= dict.fromkeys((CHANCE, NEEDED, SENSITIVITY, CALIBRATION), "")
    return Verdict(works, tuple(Finding(about, text) for about, text in told.items() if text))


def _evidence(statistics: Statistics) -> _Evidence:
    """The area under the ROC curve of two classes, or their balanced accuracy without scores; of
    more classes, the accuracy against the share of the most frequent one.
    """
    estimates, predictions = statistics.estimates, statistics.predictions
    if len(predictions.classes) > 2:
        counts = np.bincount(predictions.truth)
        share = counts.max() / counts.sum()
        most = "the same class"
        if (counts == counts.max()).sum() == 1:
            most = predictions.classes[int(counts.argmax())]
        words = f"always answering {most} gives {_number('accuracy', share)}"
        return _Evidence(estimates["accuracy", ""], "accuracy", share, words)
    # Of two classes both areas are one number, whose interval rests on the rarer class.
    for key in (("positive_auc", ""), ("auc", predictions.classes[1])):
        if key in estimates:
            return _Evidence(estimates[key], "ROC AUC", 0.5, "0.5 is chance")
    accuracy = estimates["balanced_accuracy", ""]
    return _Evidence(accuracy, "balanced accuracy", 0.5, "50 % is chance")


def _evidence_text(statistics: Statistics, evidence: _Evidence, works: bool) -> str:
    interval, predictions = evidence.estimate.interval, statistics.predictions
    start = f"With {_count(statistics)}"
    if math.isnan(evidence.estimate.value):
        return f"{start} the {evidence.label} is not defined: {_SHOWS_NOTHING}."
    if math.isnan(interval.low):
        return (
            f"{start} there is no interval of the {evidence.label} ({evidence.value}): "
            f"{_SHOWS_NOTHING}."
        )
    low, high = (_number(evidence.estimate.name, end) for end in (interval.low, interval.high))
    low, end = low.removesuffix(" %"), _SHOWS_NOTHING
    if works:
        end = f"the models do better than chance (permutation test, p = {statistics.chance.p:.2g})"
        groups = predictions.resampling_groups
        if groups and len({*groups}) < FEW_GROUPS:
            end += f", though {len({*groups})} groups make a rough interval"
    return (
        f"{start} the {evidence.label} lies between {low} and {high} (95 % interval; "
        f"{evidence.chance_words}): {end}."
    )


def _count(statistics: Statistics) -> str:
    predictions = statistics.predictions
    images = _plural(len(predictions.names), "image")
    if predictions.resampling_groups is None:
        return images
    known = len(copies.known(predictions.groups))
    if not known:
        units = len({*predictions.resampling_groups})
        return f"{images} (with copies taken together, {units:,})"
    text = f"{images} of {_plural(known, 'group')} (patients or slides)"
    unknown = sum(map(copies.is_unknown, predictions.groups))
    return text + (f", {unknown:,} of them of unknown group," if unknown else "")


def chance_text(chance: ChanceTest) -> str:
    """The result of a permutation test in words."""
    if chance.is_powerless:
        return (
            f"So few labels can be exchanged (in {_plural(chance.exchanges, 'way')}) that no "
            f"result would differ from chance: p cannot be below {1 / chance.exchanges:.2g}."
        )
    if not chance.is_chance:
        return (
            f"A permutation test does tell the scores from chance (p = {chance.p:.2g}), so there "
            "may be something to find."
        )
    how = f"in all {chance.exchanges:,} ways" if chance.exact else f"{chance.exchanges:,} times"
    return (
        f"The scores do not differ from chance: with labels exchanged {how}, "
        f"{100 * chance.p:.0f} % do at least as well (permutation test, p = {chance.p:.2g})."
    )


def _needed_text(statistics: Statistics, evidence: _Evidence) -> str:
    """How many groups, or images, would bring the interval above chance; empty where it is."""
    estimate, predictions = evidence.estimate, statistics.predictions
    if evidence.is_above_chance or math.isnan(estimate.interval.low):
        return ""
    groups = predictions.resampling_groups
    unit = "groups" if groups else "images"
    if groups and not copies.known(predictions.groups):
        unit = "images, none a copy of another,"
    if estimate.value <= evidence.chance:
        return (
            f"As the {evidence.label} itself is {evidence.value}, it cannot be said how many more "
            f"{unit} would show it."
        )
    size = bootstrap.effective_size(
        groups or len(predictions.names),
        metrics.rests_on(predictions, (estimate.name, estimate.of)),
    )
    units = len({*groups}) if groups else len(predictions.names)
    needed = sample_size.needed_units(estimate, size, units, evidence.chance)
    much = f"more than {sample_size.MOST:,}" if needed is None else f"about {needed:,}"
    return (
        f"If the {evidence.label} stays {evidence.value}, {much} {unit} would show it (an "
        "estimate: the variance is taken to fall as 1/n)."
    )


def _groups_text(statistics: Statistics) -> str:
    predictions = statistics.predictions
    if copies.known(predictions.groups):
        unknown = sum(map(copies.is_unknown, predictions.groups))
        return (
            f"The group (patient or slide) of {_plural(unknown, 'image')} is not known, and each "
            "is taken for one of its own: where they are of one patient, the figures may be "
            "inflated and the intervals too narrow."
            if unknown
            else ""
        )
    return (
        "No groups (patients or slides) are known: where several images are of one patient, the "
        "figures may be inflated and the intervals too narrow."
    )


def _duplicates_text(pairs: int) -> str:
    if not pairs:
        return ""
    return (
        f"In {_plural(pairs, 'pair')} of images that are copies or overlap, one is trained on "
        "while the other is predicted: figures are likely too good. Training with --group_copies "
        "keeps such images in one fold."
    )


def _conflicts_text(pairs: int) -> str:
    if not pairs:
        return ""
    return (
        f"{_plural(pairs, 'pair')} of copies of one image {'has' if pairs == 1 else 'have'} two "
        "classes: one label is wrong, and models are trained and tested on it."
    )


def _sensitivity_text(statistics: Statistics) -> str:
    """Whether the nested thresholds missed the sensitivity that they were chosen for."""
    point = statistics.operating_point
    if point is None:
        return ""
    estimate = statistics.estimates["positive_sensitivity", NESTED]
    if not estimate.value < ties.lower(point.target_sensitivity):
        return ""
    target, reached, low, high = (
        _number("accuracy", share)
        for share in (
            point.target_sensitivity,
            estimate.value,
            estimate.interval.low,
            estimate.interval.high,
        )
    )
    between = f" (95 % interval {low.removesuffix(' %')} to {high})"
    missed = "so more positive images would be missed than asked for"
    if math.isnan(estimate.interval.low):
        between = ""
    elif estimate.interval.high >= point.target_sensitivity:
        missed = "which chance alone may explain"
    return (
        f"The sensitivity of {target} that was asked for is not reached: thresholds chosen on the "
        f"other folds reach {reached}{between}, {missed}."
    )


def _number(metric: str, value: float) -> str:
    """0.34, or 83.1 %."""
    return f"{100 * value:.1f} %" if METRICS[metric].percent else f"{value:.2f}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
