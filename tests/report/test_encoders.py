"""Which encoder: what is said of made-up predictions, and the script on descriptors there are."""

import csv

import pytest

from histojax.datasets import synthetic
from histojax.evaluation.encoder_choice import Cost, EncoderComparison
from histojax.extraction.costs import ExtractionCost
from histojax.extraction.manifests import UNTRAINED
from histojax.report import encoders
from tests import samples
from tests.evaluation.test_several import runs
from tests.running import run

METHODS = ("a", "b", "c")


def cost(seconds: float) -> Cost:
    extraction = ExtractionCost(120, 2880, 60 + 120 * seconds, seconds, 2_000_000_000, "1 x cpu")
    return Cost(1536, extraction, {"trees": 3.0, "linear": None})


def rows(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder, and what is said, of three encoders: c is best, a and b alike."""
    folder = tmp_path_factory.mktemp("encoders")
    by_learner = {"trees": runs(), "linear": runs(seed=1)}
    costs = {"a": cost(1.0), "b": cost(0.5), "c": cost(4.0)}
    weights = {"a": "weights: imagenet", "b": f"weights: random, seed 0 ({UNTRAINED})", "c": "w"}
    notes = ("a, trees: 1 of 12 models learned nothing",)
    compared = EncoderComparison(by_learner, costs, weights, notes, dict.fromkeys(METHODS, "alike"))
    return folder, encoders.write(folder, compared, 100)


def test_it_says_which_is_best_what_it_is_told_apart_from_and_what_not_to_believe(written):
    folder, said = written
    first, trees, blend, *_ = said.splitlines()
    assert first == f"b: {UNTRAINED}."
    assert trees.startswith("With trees, c has the best ROC AUC on these images, 0.")
    assert "It is better than a (+0." in trees
    assert "and b (+0." in trees
    assert "the fastest" not in trees  # Nothing is level with c.
    assert blend.startswith("Taking the encoder that the other folds favour gives 0.")
    assert blend.endswith("): the blend is worse.")
    assert "learned nothing" in said
    assert "not shown the same" not in said
    page = (folder / "encoders.html").read_text()
    assert "Taking the encoder that the other folds favour" in page
    assert page.count("<svg") == 2
    assert "c in 4 of 4 folds" in page
    assert "24 whole groups" in page


def test_level_encoders_are_called_so_and_the_fastest_is_named(tmp_path):
    by_learner = {"trees": runs(gains=(0.5, 0.5, 0.5))}
    costs = {"a": cost(1.0), "b": cost(0.5), "c": Cost(None, None, {"trees": None})}
    said = encoders.write(
        tmp_path, EncoderComparison(by_learner, costs, dict.fromkeys(METHODS, "")), 100
    )
    assert "It is better than" not in said
    assert "By ROC AUC no difference can be told from " in said
    assert "Of these the fastest is b, 0.5 s an image" in said
    table = rows(tmp_path / "costs.csv")
    assert [row["seconds_per_image"] for row in table] == ["1.0", "0.5", ""]
    assert [row["training_seconds_trees"] for row in table] == ["3.0", "3.0", ""]


def test_the_tables_have_every_value_and_every_pair(written):
    folder, _ = written
    table = rows(folder / "encoders.csv")
    of_trees = [row for row in table if row["part"] == "trees"]
    assert len(of_trees) == 6 * (3 + 3)
    accuracy = {row["method"]: float(row["value"]) for row in of_trees[:3]}
    pair = of_trees[5]
    assert (pair["method"], pair["compared_with"]) == ("c", "b")
    assert float(pair["value"]) == pytest.approx(accuracy["c"] - accuracy["b"])
    assert float(pair["low_together"]) < float(pair["low"]) < float(pair["value"])
    of_blends = {row["method"] for row in table if row["part"] == "trees, blends"}
    assert of_blends == {"chosen by other folds", "blend of all", "a + b", "a + c", "b + c"}
    assert len(rows(folder / "agreement.csv")) == 2 * 3


@pytest.fixture
def described(tmp_path):
    """A table of 24 images in eight groups, and two folders of descriptors of them."""
    names = [f"i{i:02d}" for i in range(24)]
    labels = [i % 2 for i in range(24)]
    lines = [f"{n},{'xy'[k]},p{i // 3}" for i, (n, k) in enumerate(zip(names, labels, strict=True))]
    (tmp_path / "images").mkdir()
    for i, name in enumerate(names):
        samples.Image.fromarray(samples.tissue(i, 40, 40)).save(tmp_path / "images" / f"{name}.png")
    lines = [line.replace(",", ".png,", 1) for line in lines]
    table = tmp_path / "images" / "table.csv"
    table.write_text("\n".join(["image,label,patient", *lines]) + "\n")
    for folder, augmentations, spread in (("one", 3, 0.2), ("other", 2, 5.0)):
        widths = {"Net-0.5-40": 6}
        samples.write_descriptors(tmp_path / folder, names, labels, widths, augmentations, spread)
    return tmp_path, table


def test_descriptors_that_are_there_are_compared_and_trained_ones_join(described, in_this_process):
    root, table = described
    arguments = [f"--data={table}", "--positive_classes=y", "--folds=4", "--seeds=1", "--rounds=4"]
    arguments += ["--learners=trees", "--protocol=small"]
    given = f"--descriptors=good={root}/one,bad={root}/other"
    done = run("compare_encoders", *arguments, given, f"--out={root}/out")
    assert done.returncode == 0, done.stderr
    assert "With trees, good has the best ROC AUC on these images, 1.000" in done.stdout
    unlike = "not shown the same of an image: {}; {}. A difference between them may come from"
    inputs = "good had 3 augmentations of 0.5-40", "bad had 2 augmentations of 0.5-40"
    assert unlike.format(*inputs) in done.stdout
    assert unlike.format(*inputs) in (root / "out" / "encoders.html").read_text()
    again = [f"--descriptors=bad={root}/other", f"--models=good={root}/out/good/trees"]
    second = run("compare_encoders", *arguments, *again, f"--out={root}/again")
    assert second.returncode == 0, second.stderr
    assert unlike.format(*inputs[::-1]) in second.stdout
    first, same = (rows(root / out / "encoders.csv") for out in ("out", "again"))
    values = {(row["quantity"], row["method"]): row["value"] for row in first if row["method"]}
    assert all(values[row["quantity"], row["method"]] for row in same)
    assert {row["value"] for row in first[:2]} == {row["value"] for row in same[:2]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--descriptors=a={root}/one"], "a alone cannot be compared, expected at least two"),
        (["--descriptors=a={root}/one,a={root}/other"], "a is named twice"),
        (["--descriptors=a={root}/one,b={root}/images"], "holds no descriptors"),
        (["--descriptors=a={root}/one,b/c={root}/other"], "has the name 'b/c'"),
        (["--descriptors=a={root}/one", "--models={root}/one"], "expected NAME=DIR"),
        (
            ["--descriptors=a={root}/one,b={root}/other", "--crops=3"],
            "--crops has nothing to act on: without --encoders nothing is extracted",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(described, arguments, message):
    root, table = described
    filled = [argument.format(root=root) for argument in arguments]
    done = run("compare_encoders", f"--data={table}", f"--out={root}/out", *filled)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (root / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_vgg", "in_this_process")
def test_encoders_are_extracted_timed_trained_and_compared_and_a_second_run_skips(tmp_path):
    synthetic.write_folder(tmp_path / "images", per_class=3, unlabelled=0, height=96, width=128)
    arguments = [f"--data={tmp_path}/images/train", f"--out={tmp_path}/out", "--weights=random"]
    arguments += ["--encoders=VGG,TorchVGG", "--views=1.0-48", "--augmentations=2", "--crops=2"]
    arguments += ["--folds=3", "--seeds=1", "--rounds=4", "--validation_parts=2"]
    done = run("compare_encoders", *arguments)
    assert done.returncode == 0, done.stderr
    assert "VGG, TorchVGG: UNTRAINED" in done.stdout
    costs = rows(tmp_path / "out" / "costs.csv")
    assert [(row["encoder"], row["channels"], row["images"], row["crops"]) for row in costs] == [
        ("VGG", "24", "12", "48"),
        ("TorchVGG", "24", "12", "48"),
    ]
    assert all(float(row["training_seconds_linear"]) > 0 for row in costs)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed*")}
    assert len(files) == 2 * 2 * 3 * 2
    second = run("compare_encoders", *arguments)
    assert second.stdout.count("descriptors extracted from 0 images, 12 were done before") == 2
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert rows(tmp_path / "out" / "costs.csv") == costs
