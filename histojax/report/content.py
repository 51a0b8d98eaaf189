"""What a report says, without layout: metrics in groups, confusion, stain quality, protocols."""

import dataclasses
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from histojax.config import STAIN_OK
from histojax.errors import InputError
from histojax.evaluation import site_study
from histojax.evaluation.copies import CopiesStudy
from histojax.evaluation.evaluate import Evaluation
from histojax.evaluation.metrics import ALL, CLASS, METRICS
from histojax.evaluation.site_study import SiteStudy
from histojax.evaluation.statistics import Estimate, Statistics
from histojax.evaluation.verdict import Verdict
from histojax.extraction import manifests, provenance, store
from histojax.inspection import split_pairs
from histojax.learners.ensembles import Ensemble
from histojax.report import shown, tables
from histojax.report.commands import Command
from histojax.report.images import ReportImages
from histojax.utils import files

# In order of preference; the first four that are defined are shown.
_HEADLINE = (
    "accuracy",
    "positive_auc",
    "positive_sensitivity",
    "positive_specificity",
    "balanced_accuracy",
    "macro_auc",
    "kappa",
    "macro_f1",
)
_STAIN_MEASURES = {  # Column of stain_qc.csv: label and factor.
    "tissue_fraction": ("tissue, % of pixels", 100),
    "stain_angle_degrees": ("stain angle, degrees", 1),
    "max_hematoxylin": ("hematoxylin, 99th percentile", 1),
    "max_eosin": ("eosin, 99th percentile", 1),
}


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """The metrics of one class, in the order of `class_metrics`; None where one is not defined."""

    name: str
    images: int
    estimates: tuple[Estimate | None, ...]


@dataclasses.dataclass(frozen=True)
class Decision:
    """A rule for calling an image positive; the published values are percentages."""

    rule: str
    sensitivity: Estimate
    specificity: Estimate
    published: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class StainQualitySummary:
    """How the stain normalisation of N images at their scales went.

    Attributes:
      measures: float64 [N] by label; NaN where a measure is not known.
      is_fallback: bool [N], whether the reference stains were used instead of the image's own.
      fallbacks: (image, scale, status) of each fallback.
    """

    measures: dict[str, np.ndarray]
    is_fallback: np.ndarray
    fallbacks: tuple[tuple[str, str, str], ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that a report of an evaluation shows.

    Attributes:
      evaluation: the numbers.
      accuracy: the rows of Table 1.
      figures: matplotlib figures by name; those of the test set begin with `test_`.
      images: of the data set.
      copies: what accuracy becomes without copies in training; None where none crosses folds, or
        images were not searched.
      stain: None where it is not known.
      notices: what differs between the data and descriptors passed and those trained on.
      commands: to make the report again.
      with_published: whether the data are the paper's, so that its figures stand beside ours.
      published: what others published on these data, in sentences; empty where that is not known.
      made: when.
      sites: on site and batch; None where nothing tells these.
    """

    evaluation: Evaluation
    accuracy: list[tables.Row]
    figures: dict[str, Figure]
    images: ReportImages
    copies: CopiesStudy | None
    stain: StainQualitySummary | None
    notices: tuple[str, ...]
    commands: list[Command]
    with_published: bool
    published: str
    made: datetime.datetime
    sites: SiteStudy | None = None

    @property
    def weights(self) -> str:
        """One line on the encoders' weights."""
        return self.evaluation.weights

    @property
    def verdict(self) -> Verdict:
        """What the figures and the images allow one to say."""
        pairs = self.images.pairs or ()
        leaks = split_pairs.counts(pairs)["in_two_folds"]
        site = site_study.doubt(self.sites.columns) if self.sites else ""
        return self.evaluation.judge(leaks, site, len(split_pairs.conflicts(pairs)))

    @property
    def untrained(self) -> str:
        """The warning that the encoders' weights are random; empty where they are not."""
        return manifests.UNTRAINED if manifests.UNTRAINED in self.weights else ""


def headline(statistics: Statistics) -> list[Estimate]:
    """The four metrics that a reader looks for first."""
    keys = [(name, "") for name in _HEADLINE]
    return [statistics.estimates[key] for key in keys if key in statistics.estimates][:4]


def overall(statistics: Statistics) -> list[Estimate]:
    """All classes' metrics, without those of calibration where they have a table of their own.

    With two classes, the metrics of the positive one are among them.
    """
    of_two = len(statistics.predictions.classes) == 2
    names = [*_metrics_of_all(positive=False), *(_metrics_of_all(positive=True) if of_two else [])]
    # Areas stand before the other metrics of scores.
    names.sort(key=lambda name: ("scores" in METRICS[name].needs, not name.endswith("auc")))
    names = [name for name in names if not shown.of_calibration(statistics, name)]
    return _estimates(statistics, names)


def two_classes(statistics: Statistics) -> list[Estimate]:
    """The metrics of the positive classes against the rest; none where these are all classes."""
    if len(statistics.predictions.classes) == 2:
        return []
    return _estimates(statistics, _metrics_of_all(positive=True))


def _estimates(statistics: Statistics, names: Iterable[str]) -> list[Estimate]:
    """The estimates of these metrics of all images that are known and no other ones again."""
    keys = [(name, "") for name in names]
    return [
        statistics.estimates[key]
        for key in keys
        if key in statistics.estimates and shown.is_shown(statistics, key)
    ]


def _metrics_of_all(positive: bool) -> list[str]:
    """Metrics of all images together: those of the positive classes, or those of all classes."""
    return [
        name
        for name, metric in METRICS.items()
        if metric.of == ALL and ("positive" in metric.needs) == positive
    ]


def class_metrics(statistics: Statistics) -> list[str]:
    """The metrics of one class against the rest that the predictions allow."""
    predictions = statistics.predictions
    return [
        name
        for name, metric in METRICS.items()
        if metric.of == CLASS
        and metric.is_defined(predictions)
        and shown.is_shown(statistics, (name, predictions.classes[0]))
    ]


def by_class(statistics: Statistics) -> list[ClassRow]:
    """A row for each class."""
    predictions, names = statistics.predictions, class_metrics(statistics)
    return [
        ClassRow(
            class_name,
            int((predictions.truth == k).sum()),
            tuple(statistics.estimates.get((name, class_name)) for name in names),
        )
        for k, class_name in enumerate(predictions.classes)
    ]


def decisions(statistics: Statistics, with_published: bool) -> list[Decision]:
    """Sensitivity and specificity by each rule for calling an image positive."""
    rows = []
    for (name, point), sensitivity in statistics.estimates.items():
        if name != "positive_sensitivity" or not shown.is_shown(statistics, (name, point)):
            continue
        published = None
        if not point:
            rule = "predicted class is positive"
        elif point == "nested":
            target = 100 * statistics.operating_point.target_sensitivity
            rule = f"threshold for a sensitivity of {target:g} %, chosen on the other folds"
        else:
            rule = f"score of at least {point}, not calibrated"
            published = tables.PUBLISHED_SET_POINTS.get(float(point)) if with_published else None
        specificity = statistics.estimates["positive_specificity", point]
        rows.append(Decision(rule, sensitivity, specificity, published))
    return rows


def calibration(statistics: Statistics) -> list[tuple[Estimate, Estimate]]:
    """The metrics that a temperature changes, before and after."""
    return [(statistics.estimates[key], after) for key, after in statistics.calibrated.items()]


def stain_quality(descriptors: Path | None, ensemble: Ensemble) -> StainQualitySummary | None:
    """The stain quality of an ensemble's images.

    None if there is no descriptor folder, or descriptors were imported, without a stain.

    Raises:
      InputError: the folder has no stain_qc.csv, or a damaged one.
    """
    if descriptors is None or provenance.are_imported(ensemble.extractions):
        return None
    if not (descriptors / store.STAIN_QC).exists():
        raise InputError(
            f"{descriptors} has no {store.STAIN_QC}: pass as --descriptors a folder that "
            "histojax extract wrote, or leave the flag out"
        )
    names = set(ensemble.folds.names)
    rows = [row for row in store.read_stain_qc(descriptors).values() if row.image in names]
    measures = {
        label: factor * np.array([getattr(row, column) for row in rows], float)
        for column, (label, factor) in _STAIN_MEASURES.items()
    }
    is_fallback = np.array([row.status != STAIN_OK for row in rows])
    fallbacks = [(row.image, row.scale, row.status) for row in rows if row.status != STAIN_OK]
    return StainQualitySummary(measures, is_fallback, tuple(fallbacks))


def protocols(ensemble: Ensemble) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Manifest entries common to all configurations, then each configuration's others."""
    by_configuration = {
        name: files.flatten({key: manifest[key] for key in manifest or {} if key != "crop_error"})
        for name, manifest in ensemble.extractions.items()
    }
    keys = dict.fromkeys(key for manifest in by_configuration.values() for key in manifest)
    first = next(iter(by_configuration.values()))
    shared = {
        key: first[key]
        for key in keys
        if all(
            key in manifest and manifest[key] == first.get(key)
            for manifest in by_configuration.values()
        )
    }
    rest = {
        name: {key: manifest.get(key) for key in keys if key not in shared}
        for name, manifest in by_configuration.items()
    }
    return shared, rest
