"""The main job on real breast images, small enough to be repeated: VGG-16 with random weights, one crop size."""

import pytest
from sklearn.metrics import roc_auc_score

from histojax import datasets
from histojax.config import Boosting, Extraction, View
from histojax.datasets import folds
from histojax.extraction import extract
from histojax.learners import boost, ensembles
from histojax.learners.training import TrainingJob
from histojax.report.write import write_report


@pytest.mark.slow
def test_untrained_vgg_tells_benign_from_malignant_in_patients_it_never_saw(shared_data, tmp_path):
    data = datasets.load(shared_data / "ucsb_breast" / "groups.csv")
    extraction = Extraction(("VGG",), (View(0.5, 192),), augmentations=4, crops=6, weights="random")
    extract.run(data.paths, extraction, tmp_path / "descriptors")
    boosting = Boosting(seeds=3)
    models = tmp_path / "models"
    split = folds.load_or_make(models / ensembles.FOLDS, data, boosting.folds, boosting.fold_seed)
    assert len(set(zip(data.groups, split.folds.tolist(), strict=True))) == len(set(data.groups))
    boost.train(
        TrainingJob(tmp_path / "descriptors", models, split, extraction.configurations),
        boosting,
        workers=2,
    )
    print(write_report(models, tmp_path / "report"))
    ensemble = ensembles.load(models)
    scores = ensembles.out_of_fold(ensemble, "VGG-0.5-192").mean(axis=(0, 2))
    assert roc_auc_score(split.labels == 1, scores[:, 1]) > 0.75
