"""Every command of docs/guide runs, in its order and unchanged but for a small protocol."""

import csv
import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import made_bach, samples
from tests.running import run

pytestmark = pytest.mark.usefixtures("narrow_vgg", "small_copies", "in_this_process")

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
SIDE = (36, 44)  # Height and width of the synthetic photos.
# Flags that replace the paper's protocol; all flags of the guide are kept.
SMALL = {
    "extract": [
        "--weights=random",
        "--encoders=VGG",
        "--views=1.0-32",
        "--augmentations=1",
        "--crops=1",
    ],
    "train": ["--folds=3", "--seeds=1", "--rounds=4", "--workers=1"],
    "build_bach": [f"--width={SIDE[1]}", f"--height={SIDE[0]}"],
}


def page(name: str) -> str:
    """The text of a page of the guide."""
    return (GUIDE / f"{name}.md").read_text()


def commands(name: str) -> list[list[str]]:
    """The commands of a page: each is the script and its arguments."""
    blocks = re.findall(r"```sh\n(.*?)```", page(name), re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.strip().splitlines()]


def follow(name: str) -> list[str]:
    """Runs a page's commands in the current folder; returns what each printed."""
    printed = []
    for script, *arguments in commands(name):
        done = run(script, *arguments, *SMALL.get(script, []))
        assert done.returncode == 0, (script, done.stderr)
        printed.append(done.stdout)
    assert printed
    return printed


def photo(number: int) -> np.ndarray:
    """A synthetic photo: tissue, darker from class to class."""
    return samples.tissue(number, *SIDE) // (1 + (number % 1000) // 100) + np.uint8(60)


@pytest.fixture(scope="module")
def guide_folder(tmp_path_factory, narrow_vgg):
    """The folder that the guide starts in, as the current folder; the network is narrow."""
    folder, before = tmp_path_factory.mktemp("guide"), Path.cwd()
    made_bach.write_zip(folder / "downloads", made_bach.TRAINING, made_bach.training(photo))
    made_bach.write_zip(folder / "downloads", made_bach.TEST, made_bach.unlabelled(photo))
    for name, count in (("images", 9), ("labelled", 2)):
        for label, dark in (("benign", 0.3), ("malignant", 0.7)):
            (folder / name / label).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(samples.darker(count + i, dark)).save(
                    folder / name / label / f"{name}-{label}{i}.png"
                )
    (folder / "new").mkdir()
    for i in range(2):
        Image.fromarray(samples.darker(50 + i, 0.5)).save(folder / "new" / f"slide{i}.png")
    os.chdir(folder)
    yield folder
    os.chdir(before)


def test_from_the_challenges_zips_to_a_submission_in_both_forms(guide_folder):
    follow("bach")
    with (guide_folder / "runs/bach/predictions/submission.csv").open() as file:
        rows = list(csv.reader(file))
    assert {name for name, _ in rows} == {f"test{i}.tif" for i in range(100)}
    assert {label for _, label in rows} <= {"Normal", "Benign", "InSitu", "Invasive"}
    with (guide_folder / "runs/bach/predictions/submission_probabilities.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["case", "class", "P(Normal)", "P(Benign)", "P(In Situ)", "P(Invasive)"]
    assert [int(row[0]) for row in rows] == list(range(100))
    assert all(sum(map(float, row[2:])) == pytest.approx(1, abs=1e-5) for row in rows)
    import tensorflow_datasets as tfds

    # "bach" alone means bach/photos, which has photos of the published size.
    built = f"bach/photos_{SIDE[1]}x{SIDE[0]}"
    data_dir = str(guide_folder / "data/tfds")
    assert len(tfds.data_source(built, data_dir=data_dir, split="test")) == 100


def test_own_images_to_a_bundle_predictions_and_maps(guide_folder):
    for name in ("train", "bundle", "predict", "heatmap"):
        printed = follow(name)
        if name == "predict":
            assert "labels known" in printed[1]
    with (guide_folder / "runs/mine/predictions/predictions.csv").open() as file:
        header, *rows = csv.reader(file)
    assert [row[0] for row in rows] == ["slide0", "slide1"]
    table = re.search(r"\| column \|.*?\n\n", page("predict"), re.DOTALL)[0]
    columns = set(re.findall(r"`(\w+)`", table))
    assert columns - {"p_", "sensitivity", "coverage", "largest_set"} <= set(header)
    assert "Not for diagnosis" in (guide_folder / "runs/mine/bundle.md").read_text()
    maps = guide_folder / "runs/mine/heatmaps/slide0"
    assert (maps / "overview.html").exists()
    about = json.loads((maps / "regions.geojson").read_text())["properties"]
    assert about["abstain"] == [
        cause for cause in rows[0][header.index("causes")].split("; ") if cause
    ]
    assert 0 <= about["share_of_tissue_far_from_training"] <= 1


def test_the_notebook(guide_folder, capsys):
    block = re.search(r"```python\n(.*?)```", page("python"), re.DOTALL)[1]
    exec(compile(block, "guide", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["slide0", "slide1"]
    assert lines[2].startswith("('benign', 'malignant') (2, ")
