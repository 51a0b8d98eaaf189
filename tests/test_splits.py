"""Training says what its split keeps together, or asks; without groups it warns: test_scripts."""

import numpy as np
import pytest

from histojax.extraction import store
from tests.running import run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twelve empty images and made-up descriptors of them."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (root / "images").mkdir()
    for i in range(12):
        (root / "images" / f"{i}.png").touch()
        store.write(root / "descriptors", "VGG-0.5-40", str(i), rng.random((1, 4), np.float32))
    return root


def train(root, header: str, *cells: str):
    """Trains on a table of the twelve images: its file, its label and, by header, other cells."""
    lines = [f"{i}.png,{'ab'[i % 2]},{cell}" for i, cell in enumerate(cells)]
    (root / "t.csv").write_text("\n".join([f"image,label,{header}", *lines]))
    return run(
        "train",
        f"--data={root}/t.csv",
        f"--descriptors={root}/descriptors",
        f"--models={root}/models-{len(list(root.iterdir()))}",
        *("--folds=2", "--seeds=1", "--rounds=1", "--boost=fast", "--workers=1"),
    )


PATIENTS = [f"p{i // 3}" for i in range(12)]


def test_what_is_kept_together_is_printed(root):
    done = train(root, "Patient ID", *PATIENTS)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "note: column Patient ID keeps images of one patient together: 4 patients, 12 images",
        "split: grouped, 2 folds, seed 0",
        "kept together: 4 groups, the largest of 3 images. No known group is both in training and "
        "in test.",
    ]


def test_a_question_ends_the_script(root):
    cells = [f"{patient},{i}" for i, patient in enumerate(PATIENTS)]
    asked = train(root, "patient,slide", *cells)
    assert asked.returncode == 1
    assert "several columns that may say which images belong together" in asked.stderr
