"""What a run of predictions came to, in a few lines: answers, abstentions, coverage, accuracy."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from histojax.evaluation import chance, verdict
from histojax.extraction import manifests
from histojax.prediction.bundle import Bundle
from histojax.prediction.uncertainty import COVERAGE, Prediction, PredictionOptions, coverage_of
from histojax.utils import ties

FAILURES = "failures.csv"

KnownLabel = tuple[str, str]  # An image's label, and its group, which may be empty.


@dataclasses.dataclass(frozen=True)
class PredictionSummary:
    """The result of a run.

    Attributes:
      predictions: sorted by image.
      failed: why images could not be predicted, by file name.
      notes: sentences on coverage, training images and known labels.
    """

    predictions: tuple[Prediction, ...]
    failed: dict[str, str]
    notes: tuple[str, ...] = ()

    def text(self, bundle: Bundle) -> str:
        """A few lines for people."""
        answers = [one for one in self.predictions if not one.abstain]
        counts = collections.Counter(one.predicted for one in answers)
        listed = ", ".join(f"{name} {counts[name]}" for name in bundle.classes)
        lines = [f"answers: {len(answers)} of {len(self.predictions)} images ({listed})"]
        if abstained := [one for one in self.predictions if one.abstain]:
            reasons = collections.Counter(reason for one in abstained for reason in one.abstain)
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            lines.append(f"abstained from: {_images(len(abstained))} ({listed})")
        if without := sum(not one.predicted for one in self.predictions):
            lines.append(
                f"no class: {_images(without)} without anything to classify, left out of the "
                "submissions"
            )
        lines += self.notes
        if self.failed:
            lines.append(f"{_images(len(self.failed))} could not be predicted: {FAILURES}")
        return "\n".join(lines)


def summarise(
    predictions: tuple[Prediction, ...],
    failed: dict[str, str],
    bundle: Bundle,
    options: PredictionOptions,
    labels: Mapping[str, KnownLabel],
) -> PredictionSummary:
    """The summary of a run with these options and, where they are known, labels by image."""
    notes = [*_doubts(bundle), *_trained_on(predictions), *_coverage(bundle, options)]
    if labels:
        notes += _accuracy(predictions, labels, coverage_of(bundle.uncertainty, options))
    return PredictionSummary(predictions, failed, tuple(notes))


def _doubts(bundle: Bundle) -> Iterable[str]:
    """Lines on models that are not known to be of any use."""
    weights = manifests.weights_text(bundle.made_with.values())
    if manifests.UNTRAINED in weights:
        yield weights
    test = chance.permutation_test(bundle.uncertainty.out_of_fold)
    if test.is_chance:
        yield f"the models are not shown to work. {verdict.chance_text(test)}"


def _trained_on(predictions: Sequence[Prediction]) -> Iterable[str]:
    """Lines on the images that the models were trained on."""
    if seen := sum(bool(one.trained_on) for one in predictions):
        yield (
            f"trained on: {seen} of {len(predictions)} images, by their SHA-256 (column "
            "trained_on); what is said of them tells nothing of new images, for which see the "
            "out-of-fold scores in the report"
        )
    if unknown := sum(one.trained_on is None for one in predictions):
        yield (
            f"not compared with the training images' files: {unknown} of {len(predictions)} "
            "images, since the SHA-256 of the ones or the others are not known"
        )


def _coverage(bundle: Bundle, options: PredictionOptions) -> Iterable[str]:
    """A line on the coverage, where it is lower than usual."""
    coverage = coverage_of(bundle.uncertainty, options)
    if options.coverage is None and coverage < COVERAGE:
        unit = "groups" if bundle.about.get("groups") else "images"
        number = round(bundle.uncertainty.sets.masses.sum())
        needed = math.ceil(ties.lower(COVERAGE / (1 - COVERAGE)))
        yield (
            f"prediction sets: at a coverage of {coverage:.2f}, the most that {number} {unit} can "
            f"promise ({COVERAGE:g} takes {needed})"
        )


def _accuracy(
    predictions: Sequence[Prediction], labels: Mapping[str, KnownLabel], coverage: float
) -> Iterable[str]:
    """Lines on how well known labels agree with predictions."""
    known = [one for one in predictions if one.image in labels and one.predicted]
    used = [one for one in known if not one.abstain]

    def right(among: Sequence[Prediction]) -> str:
        return _share([labels[one.image][0] == one.predicted for one in among])

    line = f"labels known: {right(used)} answers right"
    if len(used) < len(known):
        line += f"; with those abstained from, {right(known)}"
    yield line
    in_set = _share([labels[one.image][0] in one.prediction_set for one in known])
    yield f"in the prediction set: {in_set} (stated coverage {coverage:.1%})"


def _images(count: int) -> str:
    return f"{count} image" + "s" * (count != 1)


def _share(holds: Sequence[bool]) -> str:
    """12 of 15 (80.0%)."""
    return f"{sum(holds)} of {len(holds)}" + (f" ({sum(holds) / len(holds):.1%})" if holds else "")
