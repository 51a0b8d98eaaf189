"""What makes a prediction abstain, and the record of out-of-fold scores in a bundle.

Probabilities, decisions and spreads are tested through test_predict, with all models.
"""

import dataclasses

import numpy as np
import pytest

from histojax.datasets import positive
from histojax.errors import InputError
from histojax.prediction import bundle, predict, uncertainty
from histojax.prediction.out_of_distribution import Comparison
from histojax.prediction.uncertainty import PredictionOptions

pytestmark = pytest.mark.usefixtures("narrow_vgg")


@pytest.fixture(scope="module")
def made(trained, narrow_vgg) -> bundle.Bundle:
    return bundle.from_models(trained / "models", descriptors=trained / "descriptors")


def test_every_reason_to_abstain_is_given_in_order():
    unknown = np.full(4, np.nan)
    comparison = Comparison(
        stain_p=unknown,
        descriptors_p=unknown,
        stain_far=np.array([True, False, True, False]),
        descriptors_far=np.array([True, False, False, False]),
        too_little_tissue=np.array([True, True, False, False]),
    )
    assert uncertainty.reasons_to_abstain(comparison, np.array([3, 2, 1, 2]), 2) == [
        (
            "too little tissue",
            "stain far from training",
            "descriptors far from training",
            "prediction set too large",
        ),
        ("too little tissue",),
        ("stain far from training",),
        (),
    ]


def test_the_largest_set_decides_what_is_abstained_from(made, trained):
    names = [path.stem for path in sorted((trained / "images").rglob("*.png"))[:2]]
    images = predict.score_stored(made, trained / "descriptors", names, names, {})
    # A coverage that 18 images cannot promise: every set has both classes.
    options = PredictionOptions(coverage=0.99)
    for largest, abstains in ((None, True), (1, True), (2, False)):
        predictions = uncertainty.assess(
            made.uncertainty, images, dataclasses.replace(options, largest_set=largest)
        )
        assert all(len(each.prediction_set) == 2 for each in predictions)
        assert all((uncertainty.LARGE_SET in each.abstain) == abstains for each in predictions)


def test_the_threshold_is_lower_for_a_higher_sensitivity(made):
    thresholds = [made.uncertainty.threshold(target) for target in (0.5, 0.95, 1.0)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert made.uncertainty.threshold() == thresholds[1] == made.threshold
    none = dataclasses.replace(made.uncertainty.out_of_fold, positive=())
    assert dataclasses.replace(made.uncertainty, out_of_fold=none).threshold() is None


def test_the_record_is_read_as_it_was_written_and_refused_where_damaged(made):
    arrays = made.uncertainty.to_arrays()
    rest = (made.classes, positive.choose(made.classes), 0.95, None)
    again = uncertainty.from_arrays(arrays, *rest)
    assert again.temperature == made.temperature
    assert again.threshold() == made.threshold
    for name, array in arrays.items():
        with pytest.raises(InputError, match=f"scores lack {name}: make the bundle again"):
            uncertainty.from_arrays(
                {key: value for key, value in arrays.items() if key != name}, *rest
            )
        with pytest.raises(InputError, match="do not fit together"):
            uncertainty.from_arrays(arrays | {name: array[1:]}, *rest)
    for name, value in (("scores", np.nan), ("truth", 2)):
        damaged = arrays[name].copy()
        damaged.flat[0] = value
        with pytest.raises(InputError, match="do not fit together"):
            uncertainty.from_arrays(arrays | {name: damaged}, *rest)
