"""What makes a prediction abstain, and the record of out-of-fold scores in a bundle.

Probabilities, decisions and spreads are tested through test_predict, with all models.
"""

import dataclasses
import types

import numpy as np
import pytest

from histojax.config import STAIN_OK, STAIN_STATUS, STAIN_TOO_LITTLE_TISSUE
from histojax.datasets import positive
from histojax.errors import InputError
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import store
from histojax.learners.scoring import EnsembleScores
from histojax.prediction import bundle, learned, predict, summary, uncertainty
from histojax.prediction.learned import Uncertainty
from histojax.prediction.out_of_distribution import Comparison
from histojax.prediction.uncertainty import PredictionOptions, ScoredImages
from histojax.utils import files

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
        one_colour=np.array([False, True, False, False]),
    )
    assert uncertainty.reasons_to_abstain(comparison, np.array([3, 2, 1, 2]), 2) == [
        (
            "too little tissue",
            "stain far from training",
            "descriptors far from training",
            "prediction set too large",
        ),
        ("too little tissue", "one colour only"),
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
    again = learned.from_arrays(arrays, *rest)
    assert again.temperature == made.temperature
    assert again.threshold() == made.threshold
    for name, array in arrays.items():
        with pytest.raises(InputError, match=f"scores lack {name}: make the bundle again"):
            learned.from_arrays({key: value for key, value in arrays.items() if key != name}, *rest)
        with pytest.raises(InputError, match="do not fit together"):
            learned.from_arrays(arrays | {name: array[1:]}, *rest)
    for name, value in (("scores", np.nan), ("truth", 2)):
        damaged = arrays[name].copy()
        damaged.flat[0] = value
        with pytest.raises(InputError, match="do not fit together"):
            learned.from_arrays(arrays | {name: damaged}, *rest)


def of_groups(count: int) -> Uncertainty:
    """Uncertainty learned from three images of each of so many groups, in two folds."""
    images = np.arange(3 * count)
    scores = np.random.default_rng(0).dirichlet(np.ones(2), len(images))
    return learned.learn(
        LabelledPredictions(
            names=tuple(map(str, images)),
            classes=("benign", "malignant"),
            truth=images % 2,
            predicted=scores.argmax(axis=1),
            scores=scores,
            folds=images // 3 % 2,
            groups=tuple(f"p{i // 3}" for i in images),
        ).with_positive(positive.choose(("benign", "malignant"))),
        0.95,
        training_files=frozenset(["a" * 64]),
    )


def scored(
    *statuses: str, digest: str = "", angle: float | None = 30.0, share: float = 0.5
) -> ScoredImages:
    """An image for each status of its stain, with even scores by two folds' models."""
    names = tuple(f"i{i}" for i in range(len(statuses)))
    rows = {
        (name, "0.5"): store.StainQCRow(name, "0.5", share, angle, 1.0, 1.0, status, digest)
        for name, status in zip(names, statuses, strict=True)
    }
    even = np.full((len(names), 2, 2), 0.5)
    return ScoredImages(names, names, EnsembleScores(even, even, even), {}, rows)


@pytest.mark.parametrize(("groups", "coverage"), [(4, 0.8), (9, 0.9), (30, 0.9)])
def test_the_default_coverage_is_what_the_groups_can_promise(groups, coverage):
    known = of_groups(groups)
    assert uncertainty.coverage_of(known, PredictionOptions()) == pytest.approx(coverage)
    assert uncertainty.coverage_of(known, PredictionOptions(0.95)) == 0.95
    text = "\n".join(
        summary._coverage(
            types.SimpleNamespace(uncertainty=known, about={"groups": True}), PredictionOptions()
        )
    )
    expected = (
        "prediction sets: at a coverage of 0.80, the most that 4 groups can promise (0.9 takes 9)"
    )
    assert text == (expected if groups < 9 else "")


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (scored(STAIN_TOO_LITTLE_TISSUE, angle=None, share=0.0), uncertainty.TOO_LITTLE_TISSUE),
        (scored(STAIN_OK, share=0.01), uncertainty.TOO_LITTLE_TISSUE),  # Without a normaliser.
        (scored(STAIN_STATUS[2], angle=0.0, share=1.0), uncertainty.ONE_COLOUR),  # Black.
    ],
)
def test_an_image_with_nothing_to_classify_has_no_class(images, reason):
    (prediction,) = uncertainty.assess(of_groups(9), images)
    assert reason in prediction.abstain
    assert prediction.predicted == ""
    assert prediction.probabilities == {"benign": None, "malignant": None}
    assert (prediction.positive_score, prediction.positive) == (None, None)
    assert prediction.prediction_set == ("benign", "malignant")
    (prediction,) = uncertainty.assess(of_groups(9), scored(STAIN_OK))
    assert prediction.predicted == "benign"
    assert not set(prediction.abstain) & set(uncertainty.NO_CLASS)


def test_files_that_were_trained_on_are_recognised_whatever_their_pixel_size():
    known = of_groups(9)

    def trained_on(digest: str, by: Uncertainty = known) -> bool | None:
        return uncertainty.assess(by, scored(STAIN_OK, digest=digest))[0].trained_on

    assert trained_on("a" * 64) is True
    assert trained_on("a" * 64 + "@0.5") is True
    assert trained_on("b" * 64) is False
    assert trained_on("") is None
    assert trained_on("a" * 64, dataclasses.replace(known, training_files=None)) is None


def test_a_bundle_knows_the_files_it_was_trained_on(made, trained):
    paths = (trained / "images").rglob("*.png")
    assert made.uncertainty.training_files == set(map(files.sha256, paths))


def test_imported_descriptors_are_known_by_those_of_every_configuration(tmp_path):
    ones = np.ones((1, 2), np.float32)
    for configuration in ("conch", "uni"):
        store.write(tmp_path, configuration, "slide", ones)

    def digest(*configurations):
        return learned.digests_of(tmp_path, configurations, ["slide"])["slide"]

    before = digest("conch", "uni")
    assert digest("uni") == files.sha256(tmp_path / "uni" / "slide.npy")
    store.write(tmp_path, "uni", "slide", 2 * ones)
    assert digest("conch", "uni") != before
