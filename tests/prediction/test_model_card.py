"""The model card states what a bundle is not for, and its data, results and uncertainty."""

import dataclasses
import re

import numpy as np
import pytest

from histojax.datasets import positive
from histojax.evaluation import evaluate, metrics, statistics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import manifests
from histojax.prediction import bundle, learned, model_card

pytestmark = pytest.mark.usefixtures("narrow_vgg")


@pytest.fixture(scope="module")
def made(trained, narrow_vgg) -> bundle.Bundle:
    return bundle.from_models(
        trained / "models", descriptors=trained / "descriptors", about={"data_licence": "ours"}
    )


def test_the_card_says_what_it_is_not_for_and_what_is_known(made):
    card = model_card.card(made)
    assert "**Not for diagnosis.**" in card
    assert "encoders are untrained" in card
    assert "benign 9, malignant 9" in card
    assert "2 configurations x" in card
    assert "Source and licence of the images: ours." in card
    assert made.made_with["VGG-0.5-32"]["weights"]["sha256"] in card
    assert "With 18 images the ROC AUC lies between" in card
    assert "No groups (patients or slides) are known" in card
    right = np.mean(made.uncertainty.out_of_fold.predicted == made.uncertainty.out_of_fold.truth)
    assert f"| Accuracy | {right:.3f} |" in card
    thresholds = dict(re.findall(r"\| (0\.9\d?) \| (\d\.\d{4}) \|", card))
    assert thresholds["0.95"] == f"{made.threshold:.4f}"
    sets = re.search(r"\| 0\.8 \| (\d\.\d+) \| (\d\.\d+) \|", card)
    assert float(sets[1]) >= 0.8
    assert 1 <= float(sets[2]) <= 2


def test_the_card_says_how_far_descriptors_are_from_exact_crops(made):
    assert "crop mode hybrid" not in model_card.card(made)
    tap = {"largest_error": 0.021, "mean_error": 0.01, "between_augmentations": 0.2}
    hybrid = {"crop_mode": "hybrid", "pool_crops": 30, "gain_nodes": 3, "hybrid": manifests.HYBRID}
    made_with = {
        name: manifest
        | {
            "protocol": manifest["protocol"] | hybrid,
            "crop_error": {"images": 3, "taps": {"block5_conv3": tap}},
        }
        for name, manifest in made.made_with.items()
    }
    card = model_card.card(dataclasses.replace(made, made_with=made_with))
    assert "crop mode hybrid, float32" in card
    assert "- Crop mode hybrid: descriptors within 2.1 % of exact crops (the worst tap of 3" in card


def test_the_card_says_how_a_network_of_one_input_size_is_shown_crops(made):
    recipe = {
        "input_size": 224,
        "resized": 256,
        "resize_filter": "bicubic",
        "taps": ["class_token", "patch_mean"],
        "pooling": "mean",
    }
    made_with = {
        name: each | {"protocol": each["protocol"] | {"recipe": recipe}}
        for name, each in made.made_with.items()
    }
    card = model_card.card(dataclasses.replace(made, made_with=made_with))
    assert (
        "- VGG: class token and patch mean of each crop, resized to 256 px (bicubic), of which it "
        "sees the middle 224 px; pooled over crops by their mean." in card
    )


def test_card_report_and_predictions_have_the_same_numbers(made, trained):
    of_report = statistics.compute(evaluate.load_out_of_fold(trained / "models"))
    assert of_report.operating_point.threshold == made.threshold
    assert of_report.temperature.applied == made.temperature
    card = model_card.card(made)
    assert of_report.temperature.text in card
    assert "Positive class: malignant (reads as disease, against benign)." in card
    for key in (("accuracy", ""), ("positive_auc", ""), ("log_loss", "")):
        estimate = of_report.estimates[key]
        label = metrics.label(*key, of_report.predictions)
        ends = f"{estimate.interval.low:.3f} to {estimate.interval.high:.3f}"
        assert f"| {label} | {estimate.value:.3f} | {ends} |" in card


def test_intervals_by_group_are_the_same_without_names():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(2), 48)
    images = LabelledPredictions(
        tuple(f"i{i:02d}" for i in range(48)),
        ("benign", "malignant"),
        np.arange(48) % 2,
        scores.argmax(axis=1),
        scores,
        np.arange(48) // 4 % 3,
        tuple("" if i % 12 == 5 else f"p{i // 4}" for i in range(48)),  # Two names of p10 sort.
    ).with_positive(positive.choose(("benign", "malignant")))
    first = learned.learn(images, 0.95)
    again = learned.from_arrays(
        first.to_arrays(), images.classes, positive.choose(images.classes), 0.95, None
    )
    expected = statistics.compute(images, draws=60).estimates
    for known in (first, again):
        assert statistics.compute(known.out_of_fold, draws=60).estimates == expected


def test_names_and_licences_are_text_in_the_card(made):
    names = ("<img src=x onerror=alert(1)>", "![a](http://x/y.png) | $x$ `b` *c*\n# d")
    known = dataclasses.replace(
        made.uncertainty.out_of_fold, classes=names, positive_reason=names[0]
    )
    about = made.about | {"images": dict.fromkeys(names, 9), "data_licence": names[1]}
    uncertainty = dataclasses.replace(made.uncertainty, out_of_fold=known)
    card = model_card.card(
        dataclasses.replace(made, classes=names, about=about, uncertainty=uncertainty)
    )
    literal = r"!\[a\](http://x/y.png) \| \$x\$ \`b\` \*c\* # d"
    assert card.count(literal) >= 3
    assert r"\<img src=x onerror=alert(1)\>" in card
    left = card.replace(literal, "")
    assert not re.search(r"(?<!\\)[<>$\[\]]", left)
    assert "\n# d" not in card
