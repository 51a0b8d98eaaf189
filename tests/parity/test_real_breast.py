"""The main job on real breast images, in minutes: VGG-16 with random weights, one crop size."""

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
    dataset = datasets.load(shared_data / "ucsb_breast" / "groups.csv")
    extraction = Extraction(("VGG",), (View(0.5, 192),), augmentations=4, crops=6, weights="random")
    descriptors, models = tmp_path / "descriptors", tmp_path / "models"
    extract.run(dataset.paths, extraction, descriptors)
    boosting = Boosting(seeds=3)
    fold_file = models / ensembles.FOLDS
    split = folds.load_or_make(fold_file, dataset, boosting.folds, boosting.fold_seed)
    fold_of_patient = set(zip(dataset.groups, split.folds.tolist(), strict=True))
    assert len(fold_of_patient) == len(set(dataset.groups))
    job = TrainingJob(descriptors, models, split, extraction.configurations)
    boost.train(job, boosting, workers=2)
    print(write_report(models, tmp_path / "report"))
    ensemble = ensembles.load(models)
    scores = ensembles.out_of_fold(ensemble, "VGG-0.5-192").mean(axis=(0, 2))
    assert roc_auc_score(split.labels == 1, scores[:, 1]) > 0.75
