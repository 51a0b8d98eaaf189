"""What numbers allow one to say: the sentences of the verdict, whatever is known."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax.datasets import leakage
from histojax.datasets.folds import Folds
from histojax.evaluation import bootstrap, calibration, sample_size, statistics, verdict
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import Estimate
from histojax.learners.growth import Growth
from tests import samples

NO_GROUPS = (
    "No groups (patients or slides) are known: where several images are of one patient, the "
    "figures may be inflated and the intervals too narrow."
)
KINDS = (
    *(verdict.GROWTH, verdict.UNTRAINED, verdict.EVIDENCE, verdict.CHANCE, verdict.NEEDED),
    *(verdict.GROUPS, verdict.LEAKAGE, verdict.DUPLICATES),
    *(verdict.SENSITIVITY, verdict.CALIBRATION),
)


def predictions_of(groups=8, size=4, effect=0.0, classes=2, seed=0, **known) -> LabelledPredictions:
    """Groups of one class each, two to a fold; `known` replaces fields."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    truth = group % classes
    logits = effect * np.eye(classes)[truth] + rng.normal(size=(groups * size, classes))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    made = LabelledPredictions(
        names=tuple(f"i{i}" for i in range(len(truth))),
        classes=("benign", "malignant", "other")[:classes],
        truth=truth,
        predicted=scores.argmax(axis=1),
        scores=scores,
        folds=group // classes % 2,
        groups=tuple(f"p{i}" for i in group),
        positive=(1,) if classes == 2 else (),
    )
    return dataclasses.replace(made, **known)


def judge(predictions: LabelledPredictions, **known) -> dict[str, str]:
    """The verdict's texts by what they are about."""
    made = verdict.judge(statistics.compute(predictions, draws=200), **known)
    assert [finding.about for finding in made.findings] == [
        about for about in KINDS if about in {finding.about for finding in made.findings}
    ]
    for line in made.lines:
        assert re.fullmatch(r"[A-Z0-9][^\n]*\.", line)
        assert not re.search(r"\bnan\b|\binf\b|None|  | %,? and [\d.]+ %", line)
    return {finding.about: finding.text for finding in made.findings} | {"works": made.works}


def test_few_groups_show_nothing_and_how_many_might_is_said():
    said = judge(predictions_of(groups=8, effect=0.4))
    assert not said["works"]
    assert re.fullmatch(
        r"With 32 images of 8 groups \(patients or slides\) the ROC AUC lies between 0\.\d\d and "
        r"0\.\d\d \(95 % interval; 0\.5 is chance\): this does not show that the models work\.",
        said[verdict.EVIDENCE],
    )
    assert re.fullmatch(
        r"If the ROC AUC stays 0\.\d\d, about \d+ groups would show it \(an estimate: the variance "
        r"is taken to fall as 1/n\)\.",
        said[verdict.NEEDED],
    )
    assert verdict.GROUPS not in said


def test_scores_no_better_than_chance_are_told_with_the_exchanges():
    said = judge(predictions_of(groups=8, effect=0.4))
    assert re.fullmatch(
        r"The scores do not differ from chance: with labels exchanged in all 70 ways, \d+ % do at "
        r"least as well \(permutation test, p = 0\.\d+\)\.",
        said[verdict.CHANCE],
    )


def test_an_area_below_chance_has_no_number_that_would_do():
    said = judge(predictions_of(effect=-2))
    assert re.fullmatch(
        r"As the ROC AUC itself is 0\.[0-4]\d, it cannot be said how many more groups would show "
        r"it\.",
        said[verdict.NEEDED],
    )
    assert not said["works"]


def test_four_groups_cannot_differ_from_chance_even_without_a_mistake():
    said = judge(predictions_of(groups=4, effect=50))
    assert not said["works"]
    assert said[verdict.CHANCE] == (
        "So few labels can be exchanged (in 6 ways) that no result would differ from chance: p "
        "cannot be below 0.17."
    )


def test_perfect_separation_of_enough_groups_is_shown():
    said = judge(predictions_of(groups=12, effect=50))
    assert said["works"]
    assert said[verdict.EVIDENCE].startswith(
        "With 48 images of 12 groups (patients or slides) the ROC AUC lies between 0.54 and 1.00"
    )
    assert "better than chance (permutation test, p = 0.005)." in said[verdict.EVIDENCE]
    assert not {verdict.CHANCE, verdict.NEEDED, verdict.SENSITIVITY} & set(said)


def test_the_evidence_does_not_hang_on_whether_a_class_is_called_positive():
    named = judge(predictions_of(groups=6, effect=9))
    unnamed = judge(predictions_of(groups=6, effect=9, positive=()))
    assert named[verdict.EVIDENCE] == unnamed[verdict.EVIDENCE]
    assert "this does not show that the models work" in named[verdict.EVIDENCE]


def test_groups_that_are_mostly_unknown_are_told():
    groups = ("p", "p", *[""] * 30)
    said = judge(dataclasses.replace(predictions_of(effect=3), groups=groups))
    assert "of 30 images is not known, and each is taken for one of its own" in said[verdict.GROUPS]


def test_a_rough_interval_is_called_so():
    said = judge(predictions_of(groups=8, size=12, effect=1.5))
    assert said["works"]
    assert said[verdict.EVIDENCE].endswith(", though 8 groups make a rough interval.")


@pytest.mark.parametrize(
    ("known", "pattern"),
    [
        (
            {"scores": None},
            r"the balanced accuracy lies between [\d.]+ and [\d.]+ % \(95 % interval; 50 % is cha",
        ),
        ({"positive": ()}, "the ROC AUC lies between"),
        ({"folds": None}, "the ROC AUC lies between"),
        ({"folds": np.zeros(80, int)}, "the ROC AUC lies between"),
    ],
)
def test_whatever_is_unknown_the_evidence_is_told(known, pattern):
    said = judge(predictions_of(groups=20, effect=2, **known))
    assert re.search(pattern, said[verdict.EVIDENCE])
    assert said["works"]


def test_more_classes_are_held_against_the_most_frequent_one():
    said = judge(predictions_of(groups=22, effect=2, classes=3))
    assert re.search(
        r"the accuracy lies between [\d.]+ and [\d.]+ % \(95 % interval; always answering benign "
        r"gives 36.4 %\): the models do better than chance",
        said[verdict.EVIDENCE],
    )
    weak = judge(predictions_of(groups=9, effect=0.2, classes=3))
    assert verdict.CHANCE in weak
    assert not weak["works"]


def test_images_of_one_class_and_of_one_group_have_a_verdict():
    same = predictions_of(effect=1)
    one_class = dataclasses.replace(same, truth=np.zeros(32, int))
    assert judge(one_class)[verdict.EVIDENCE] == (
        "With 32 images of 8 groups (patients or slides) the ROC AUC is not defined: this does not "
        "show that the models work."
    )
    one_group = dataclasses.replace(same, groups=("p",) * 32)
    said = judge(one_group)
    assert "With 32 images of 1 group (patients" in said[verdict.EVIDENCE]
    assert not said["works"]


def test_unknown_groups_leakage_and_untrained_encoders_are_told():
    images = predictions_of(effect=2, groups=20)
    alone = dataclasses.replace(images, groups=None)
    said = judge(alone, untrained=True)
    some = dataclasses.replace(images, groups=("",) * 4 + images.groups[4:])
    assert judge(some)[verdict.EVIDENCE].startswith(
        "With 80 images of 19 groups (patients or slides), 4 of them of unknown group, the ROC AUC"
    )
    assert said[verdict.GROUPS] == NO_GROUPS
    assert said[verdict.UNTRAINED].startswith("The encoders are untrained (random weights)")
    assert "With 80 images the" in said[verdict.EVIDENCE]
    split = Folds(images.names, images.truth, np.arange(80) % 2, images.classes, images.groups)
    said = judge(images, audit=leakage.audit(split))
    assert said[verdict.LEAKAGE].startswith("80 of 80 test images of known group share it")
    assert verdict.GROUPS not in said


def test_near_duplicates_in_two_folds_make_good_figures_doubtful():
    made = statistics.compute(predictions_of(groups=20, effect=3), draws=200)
    assert verdict.judge(made).is_sound
    doubtful = verdict.judge(made, duplicates=2)
    assert doubtful.works
    assert not doubtful.is_sound
    assert (
        "In 2 pairs of images that are copies or overlap, one is trained on while the other is "
        "predicted: figures are likely too good. Training with --group_copies keeps such images in "
        "one fold."
    ) in doubtful.lines


def test_copies_of_two_classes_make_good_figures_doubtful():
    made = statistics.compute(predictions_of(groups=20, effect=3), draws=200)
    doubtful = verdict.judge(made, conflicts=1)
    assert not doubtful.is_sound
    assert "1 pair of copies of one image has two classes: one label is wrong, and" in str(doubtful)


def test_copies_that_are_kept_together_tell_no_patients():
    images = predictions_of(groups=20, effect=3)
    alone = dataclasses.replace(images, groups=tuple(f"copies of {g}" for g in images.groups))
    said = judge(alone)
    assert said[verdict.GROUPS] == NO_GROUPS
    assert "With 80 images (with copies taken together, 20) the" in said[verdict.EVIDENCE]
    some = dataclasses.replace(images, groups=(*images.groups[:60], *alone.groups[60:]))
    assert judge(some)[verdict.GROUPS].startswith(
        "The group (patient or slide) of 20 images is not"
    )


def test_models_that_learned_nothing_come_first_and_leave_little_else_to_say():
    growth = Growth(10, 10, "the leaves are too large", "Take smaller ones")
    constant = predictions_of(scores=np.full((32, 2), 0.5), predicted=np.zeros(32, int))
    said = judge(constant, growth=growth)
    assert list(said) == [verdict.GROWTH, verdict.EVIDENCE, "works"]
    assert said[verdict.EVIDENCE] == "The ROC AUC is 0.50: this does not show that the models work."
    some = judge(predictions_of(), growth=dataclasses.replace(growth, constant=3))
    assert some[verdict.GROWTH].startswith("3 of 10 models learned nothing")
    assert verdict.CHANCE in some
    none = judge(predictions_of(), growth=Growth(10, 0))
    assert verdict.GROWTH not in none


def test_a_sensitivity_that_is_missed_is_told_with_its_interval():
    said = judge(samples.published_predictions())
    assert re.fullmatch(
        r"The sensitivity of 95\.0 % that was asked for is not reached: thresholds chosen on the "
        r"other folds reach 94\.5 % \(95 % interval 9\d\.\d to 9\d\.\d %\), which chance alone may "
        r"explain\.",
        said[verdict.SENSITIVITY],
    )
    assert "always answering the same class gives 25.0 %" in said[verdict.EVIDENCE]


@pytest.mark.parametrize(
    ("overall", "losses", "text"),
    [
        (calibration.TEMPERATURE_RANGE[1], (0.7, 0.6), "It lies at the upper end of its range"),
        (calibration.TEMPERATURE_RANGE[0], (0.7, 0.6), "which leaves nothing to calibrate by"),
        (1.5, (0.6, 0.7), "No temperature is applied (T = 1)"),
        (1.5, (0.7, 0.6), "Probabilities are calibrated by a temperature of 1.500"),
    ],
)
def test_what_calibration_did_is_told(overall, losses, text):
    made = statistics.compute(predictions_of(groups=20, effect=2), draws=50)
    fitted = dataclasses.replace(made.temperature, overall=overall, losses=losses)
    said = verdict.judge(dataclasses.replace(made, temperature=fitted)).findings[-1]
    assert said.about == verdict.CALIBRATION
    assert text in said.text


@settings(max_examples=60, deadline=None)
@given(
    value=st.floats(0.55, 0.99),
    units=st.integers(3, 60),
    spread=st.floats(0.05, 1.0),
    chance=st.sampled_from([0.25, 0.5]),
)
def test_the_needed_number_brings_the_interval_above_chance_and_few_fewer_do_not(
    value, units, spread, chance
):
    noise = spread * np.random.default_rng(0).normal(size=500) * value * (1 - value)

    def interval(count: float) -> bootstrap.Interval:
        # The variance of a resample of n is too small by (n - 1) / n.
        deviation = np.sqrt(units / (units - 1) * (count - 1) / count * units / count)
        return bootstrap.confidence_interval(value, value + noise * deviation, count, (0, 1))

    now = interval(units)
    needed = sample_size.needed_units(
        Estimate("macro_auc", "", value, now, None, ()), units, units, chance
    )
    if now.low > chance:
        return
    assert interval(1.02 * needed).low > chance
    assert interval(max(units, min(0.85 * needed, needed - 1))).low <= chance


def test_the_needed_number_without_a_mistake_is_that_of_the_exact_interval():
    exact = Estimate("macro_auc", "", 1.0, bootstrap.Interval(0.4, 1.0), None, ())
    assert sample_size.needed_units(exact, 4, 4, 0.5) == 6  # 0.025 ** (1 / 6) > 0.5.
    hopeless = Estimate("macro_auc", "", 0.5001, bootstrap.Interval(0.01, 0.99), None, ())
    assert sample_size.needed_units(hopeless, 4, 4, 0.5) is None


def test_an_upper_end_that_rounds_to_one_is_no_value_of_one():
    def needed(high: float) -> int:
        ends = bootstrap.Interval(0.1, high)
        return sample_size.needed_units(
            Estimate("positive_auc", "", 0.8, ends, None, ()), 4, 4, 0.5
        )

    assert needed(1.0) == needed(1 - 1e-9) > 6
