"""The published figures agree with third_party; the tables of a report: test_write."""

import csv
from pathlib import Path

import numpy as np
import pytest

from histojax.report import tables

THIRD_PARTY = Path(__file__).parents[2] / "third_party"


def test_the_published_table_is_the_same_in_both_places_and_agrees_with_its_means():
    with open(THIRD_PARTY / "rakhlin2018_table1.csv") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(tables.PUBLISHED_ACCURACY)
    for model, accuracies in tables.PUBLISHED_ACCURACY.items():
        assert tuple(float(rows[model][f"f{fold}"]) for fold in range(1, 11)) == accuracies
        printed = (float(rows[model]["mean"]), float(rows[model]["std"]))
        assert printed == tables.PUBLISHED_MEAN_AND_DEVIATION[model]
        # Half of the last printed digit, whichever way a tie went.
        assert printed[0] == pytest.approx(np.mean(accuracies), abs=0.05 + 1e-9)


def test_only_the_blends_published_deviation_is_the_one_over_folds():
    """The other rows are means of five seeds: multiples of 0.5 %, not of 2.5 %."""
    for model, accuracies in tables.PUBLISHED_ACCURACY.items():
        printed, over_folds = tables.PUBLISHED_MEAN_AND_DEVIATION[model][1], np.std(accuracies)
        blend = model == "Model fusion"
        assert (abs(printed - over_folds) <= 0.05) == blend
        assert printed > over_folds - 0.05
        assert all(accuracy % 0.5 == 0 for accuracy in accuracies)
        assert all(accuracy % 2.5 == 0 for accuracy in accuracies) == blend
