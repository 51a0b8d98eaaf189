"""Does stain normalisation help: what is said of made-up predictions, and the script."""

import csv
import dataclasses

import numpy as np
import pytest

from histojax.datasets import synthetic
from histojax.evaluation.robustness import Distances, Movement
from histojax.report import stain_settings
from histojax.report.stain_settings import AUGMENT, BOTH, NONE, NORMALISE, StainAblation
from tests.evaluation.test_several import runs
from tests.running import run

SETTINGS = (NONE, NORMALISE, AUGMENT, BOTH)


def rows(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def ablation() -> StainAblation:
    """Normalisation helps without augmentation; with it, it changes nothing."""
    weak, _, strong = runs().values()
    of = {NONE: weak, NORMALISE: strong, AUGMENT: strong, BOTH: strong}
    rng = np.random.default_rng(0)
    most = dict(zip(SETTINGS, (4, 2, 1, 1), strict=True))
    shares = {setting: rng.uniform(0, high, 120) for setting, high in most.items()}
    moved = {name: Movement(of / 8, of / 4) for name, of in shares.items()}
    distances = {("VGG-0.5-192", False): Distances(1.0, 2.0, 4.0)}
    distances["VGG-0.5-192", True] = Distances(2.0, 2.0, 4.0)
    return StainAblation("weights: imagenet", {"trees": of}, {"trees": moved}, distances)


def test_it_says_where_a_step_helps_where_it_harms_and_where_that_cannot_be_told(tmp_path):
    helps = ablation()
    of = helps.runs["trees"]
    turned = {"trees": of | {NONE: of[NORMALISE], NORMALISE: of[NONE]}}
    harms = dataclasses.replace(helps, runs=turned)
    said = stain_settings.write(tmp_path, {"VGG": helps, "Net": harms}, (0.7, 1.3), 100)
    normalisation, augmentation, harm, _, robustness, _ = said.splitlines()
    assert harm.startswith("Net, trees: normalisation changed the ROC AUC by −0.")
    assert "without stain augmentation: it harms; by +0.000" in harm
    assert normalisation.startswith("VGG, trees: normalisation changed the ROC AUC by +0.")
    assert "without stain augmentation: it helps; by +0.000 (+0.000 to +0.000) with it: it " in (
        normalisation
    )
    assert normalisation.endswith("with it: it cannot be told whether it helps.")
    assert "without normalisation: it helps; by +0.000" in augmentation
    assert "its descriptors move by 0.25 to 0.50 of the distance between two images" in robustness
    page = (tmp_path / "stain.html").read_text()
    assert "multiplied by 0.7 to 1.3" in page
    table = rows(tmp_path / "stain.csv")
    table = [row for row in table if row["part"] == "VGG, trees"]
    flips = {row["method"]: float(row["value"]) for row in table if row["quantity"] == "flips"}
    assert flips[BOTH] == pytest.approx(  # The difference comes last.
        np.mean(ablation().movements["trees"][BOTH].flips)
        - np.mean(ablation().movements["trees"][NORMALISE].flips)
    )
    pairs = [(row["compared_with"], row["method"]) for row in table if row["compared_with"]]
    assert (
        pairs[:4]
        == [*stain_settings.PAIRS]
        == [(NONE, NORMALISE), (AUGMENT, BOTH), (NONE, AUGMENT), (NORMALISE, BOTH)]
    )
    assert [row["stain"] for row in rows(tmp_path / "distances.csv")] == 2 * ["1.0", "2.0"]


@pytest.mark.parametrize("flag", ["stain_normalizer", "stain_augmentation"])
def test_a_step_that_is_off_cannot_be_judged(tmp_path, flag):
    synthetic.write_folder(tmp_path / "images", per_class=1, unlabelled=0, height=48, width=64)
    data = [f"--data={tmp_path}/images/train", f"--out={tmp_path}/out", "--weights=random"]
    done = run("ablate_stain", *data, "--encoders=VGG", "--views=1.0-32", f"--{flag}=none")
    assert done.returncode == 1
    assert f"--{flag}=none leaves nothing to judge" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_vgg", "in_this_process")
def test_four_settings_are_extracted_at_the_same_crops_and_judged(tmp_path):
    synthetic.write_folder(tmp_path / "images", per_class=3, unlabelled=0, height=96, width=128)
    arguments = [f"--data={tmp_path}/images/train", "--weights=random", "--encoders=VGG"]
    arguments += ["--views=1.0-48", "--augmentations=3", "--crops=2", "--protocol=small"]
    arguments += ["--folds=3", "--seeds=1", "--rounds=4", "--validation_parts=2"]
    done = run("ablate_stain", *arguments, f"--out={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert "VGG/both: descriptors extracted from 12 images" in done.stdout
    plain, normalised = rows(tmp_path / "out" / "distances.csv")
    for row in (plain, normalised):
        assert 0 < float(row["stain"]) < float(row["crops"]) < float(row["images"])
    # Gains of one leave colours as they are but for rounding, and the crops are the same.
    done = run(
        "ablate_stain", *arguments, f"--out={tmp_path}/still", "--gain_low=1", "--gain_high=1"
    )
    assert done.returncode == 0, done.stderr
    still = rows(tmp_path / "still" / "distances.csv")
    for row, varied in zip(still, (plain, normalised), strict=True):
        assert float(row["stain"]) < 0.5 * float(varied["stain"])
