"""The model card states what a bundle is not for, and its data, results and uncertainty."""

import re

import numpy as np
import pytest

from histojax.prediction import bundle, model_card

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
    assert "Source and licence of the images: ours." in card
    assert made.made_with["VGG-0.5-32"]["weights"]["sha256"] in card
    right = np.mean(made.uncertainty.out_of_fold.predicted == made.uncertainty.out_of_fold.truth)
    assert f"| Accuracy | {right:.3f} |" in card
    thresholds = dict(re.findall(r"\| (0\.9\d?) \| (\d\.\d{4}) \|", card))
    assert thresholds["0.95"] == f"{made.threshold:.4f}"
    sets = re.search(r"\| 0\.8 \| (\d\.\d+) \| (\d\.\d+) \|", card)
    assert float(sets[1]) >= 0.8
    assert 1 <= float(sets[2]) <= 2
