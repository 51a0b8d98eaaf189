"""What a report says: which answers it shows in which order, and what fell back."""

import numpy as np
import pytest

from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import compute
from histojax.learners import ensembles
from histojax.report import answers, content, images
from tests.report import sample_ensemble

LARGEST_THUMBNAIL = 25_000  # Bytes.


def test_fallbacks_of_the_ensembles_images_are_listed(tmp_path):
    models = sample_ensemble.write(
        tmp_path, ["x", "y", "z", "w"], ("a", "b"), 2, configurations=("VGG-0.5-48",)
    )
    header = "image,scale,tissue_fraction,stain_angle_degrees,max_hematoxylin,max_eosin,status"
    rows = [
        "x,0.5,0.4,30,1,1,ok,0",
        "y,0.5,0.01,,1,1,fallback: too little tissue,0",
        "other,0.5,0.4,30,1,1,ok,0",
    ]
    text = "\n".join([f"{header},file_sha256", *rows]) + "\n"
    (tmp_path / "stain_qc.csv").write_text(text)
    quality = content.stain_quality(tmp_path, ensembles.load(models))
    assert quality.fallbacks == (("y", "0.5", "fallback: too little tissue"),)
    assert quality.is_fallback.tolist() == [False, True]
    np.testing.assert_array_equal(quality.measures["stain angle, degrees"], [30, np.nan])


@pytest.mark.parametrize("classes", [2, 9])
def test_of_many_images_few_are_shown_and_all_are_named_the_most_confident_first(classes):
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(classes), 5000)
    names = tuple(f"image {i}" for i in range(5000))
    truth = rng.integers(classes, size=5000)
    class_names = tuple("abcdefghi"[:classes])
    predictions = LabelledPredictions(names, class_names, truth, scores.argmax(axis=1), scores)
    cells = [cell for row in answers.cells(compute(predictions, draws=2)) for cell in row]
    shown = [answer.image for cell in cells for answer in cell.answers]
    assert len(shown) <= images.ALL_CELLS
    assert (images.ALL_CELLS + images.MISTAKES) * LARGEST_THUMBNAIL < 10_000_000
    assert sorted(shown + [name for cell in cells for name in cell.others]) == sorted(names)
    confidence = dict(zip(names, scores.max(axis=1), strict=True))
    for cell in cells:
        in_order = [answer.score_of_predicted for answer in cell.answers]
        assert in_order == sorted(in_order, reverse=True)
        assert all(confidence[name] <= in_order[-1] for name in cell.others)
    first = answers.mistakes(predictions)[0]
    wrong = truth != predictions.predicted
    assert first.score_of_predicted == scores.max(axis=1)[wrong].max()
    assert first.truth != first.predicted
