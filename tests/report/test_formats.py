"""Numbers have their units, and metrics of two classes the name of the positive class."""

import numpy as np

from histojax.config import BACH_CLASSES
from histojax.evaluation.bootstrap import Interval
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import Estimate
from histojax.report import formats


def test_numbers_have_their_unit():
    assert formats.number("accuracy", 0.87249) == "87.2 %"
    assert formats.number("positive_auc", 0.97349) == "0.973"
    assert formats.number("kappa", np.nan) == "–"
    assert formats.interval("accuracy", Interval(0.831, 0.904)) == "83.1 to 90.4 %"
    assert formats.interval("log_loss", Interval(np.nan, np.nan)) == "no interval"
    assert formats.spread("accuracy", 0.872, 0.026) == "87.2 ± 2.6 %"
    assert formats.points(-0.0123) == "−1.2"


def test_only_bachs_positive_classes_are_called_carcinoma():
    def label(name: str, of: str, classes: tuple[str, ...], positive: tuple[int, ...]) -> str:
        estimate = Estimate(name, of, 0.5, Interval(0.4, 0.6), None, ())
        zero = np.zeros(1, int)
        predictions = LabelledPredictions(("i",), classes, zero, zero, positive=positive)
        return formats.label(estimate, predictions)

    two, point = ("benign", "malignant"), ("positive_sensitivity", "0.50")
    assert label(*point, BACH_CLASSES, (2, 3)) == "Carcinoma sensitivity at a score of 0.50"
    assert label(*point, BACH_CLASSES, (3,)) == "Invasive: sensitivity at a score of 0.50"
    assert label(*point, two, (1,)) == "malignant: sensitivity at a score of 0.50"
    assert label("positive_auc", "", two, (1,)) == "malignant: ROC AUC"
    assert label("sensitivity", "benign", two, (1,)) == "Sensitivity, benign"


def test_json_has_null_for_what_is_undefined():
    value = {1: np.array([1.0, np.nan]), "pair": (np.int64(2), np.inf), "text": "a"}
    assert formats.for_json(value) == {"1": [1.0, None], "pair": [2, None], "text": "a"}
