"""Which metrics a reader is shown: with two classes, many are the same number under two names.

Tables and metrics.json have them all.
"""

from histojax.evaluation.metrics import METRICS, MetricKey
from histojax.evaluation.statistics import Statistics


def is_shown(statistics: Statistics, key: MetricKey) -> bool:
    """Whether a metric is no other one again."""
    name, of = key
    if len(statistics.predictions.classes) != 2:
        return True
    if name == "quadratic_kappa":  # The same as kappa.
        return False
    if not statistics.predictions.positive:
        # The sensitivity of one class is the specificity of the other, and both areas are equal.
        return name not in ("specificity", "auc")
    if name in ("positive_accuracy", "macro_auc", "auc", "sensitivity", "specificity"):
        return False
    return of != "0.50" or not _is_predicted_class(statistics)


def _is_predicted_class(statistics: Statistics) -> bool:
    """Whether set-point 0.50 decides as the predicted class does: always but for ties."""
    decided = (
        [statistics.value(name, point) for name in ("positive_sensitivity", "positive_specificity")]
        for point in ("", "0.50")
    )
    return len({*map(tuple, decided)}) == 1


def of_calibration(statistics: Statistics, name: str) -> bool:
    """Whether a metric stands in the table of what calibration did."""
    return METRICS[name].calibration and bool(statistics.calibrated)
