"""Figures of published protocols: their numbers, what is published beside them, and the script."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from histojax.datasets.bach import challenge
from histojax.datasets.bach.published_protocols import PROTOCOLS
from histojax.evaluation import bootstrap, metrics
from histojax.evaluation import published_protocols as evaluation
from histojax.extraction import manifests
from histojax.report import published_protocols as report
from tests import made_bach
from tests.running import run

DATASET = dataclasses.replace(
    made_bach.bach_dataset(),
    groups=tuple("" if i < 10 or i == 50 else f"{i // 2}" for i in range(400)),
)


def judged(name: str, encoder: str, applies: bool = True, dataset=DATASET) -> evaluation.Judged:
    """Five heads that mistake 10 to 14 images, and heads of the last epoch that mistake 20."""
    protocol = PROTOCOLS[name]
    reported = protocol.split(dataset).reported
    truth = np.array(dataset.labels)[reported]

    def mistaken(count: int):
        predicted = truth.copy()
        predicted[::6][:count] = (truth[::6][:count] + 1) % 4
        return evaluation.labelled(dataset, reported, predicted)

    best, last = [mistaken(10 + seed) for seed in range(5)], [mistaken(20)] * 5
    fitted = tuple(f"epoch {seed}" for seed in range(5))
    return evaluation.judge(
        protocol, encoder, "file.bin", "class_token", tuple(best), tuple(last), fitted, applies, 300
    )


@pytest.mark.parametrize(
    ("name", "metric", "score"),
    [
        ("eva-bach", "balanced_accuracy", balanced_accuracy_score),
        ("thunder-bach", "macro_f1", lambda t, p: f1_score(t, p, average="macro")),
    ],
)
def test_figures_are_means_over_seeds_with_an_interval_of_images(name, metric, score):
    made = judged(name, "UNI2-h")
    expected = [score(each.truth, each.predicted) for each in made.predictions]
    figure = made.figures[metric]
    np.testing.assert_allclose(figure.by_seed, expected)
    assert figure.mean == pytest.approx(np.mean(expected))
    assert figure.deviation == pytest.approx(np.std(expected, ddof=1))
    assert figure.interval.low < figure.mean < figure.interval.high
    reported = PROTOCOLS[name].split(DATASET).reported
    groups = [DATASET.groups[i] or f"\0{DATASET.names[i]}" for i in reported]
    weights = np.concatenate([*bootstrap.resampling_weights(groups, 300)])
    drawn = [metrics.compute(each, weights, [metric])[metric, ""] for each in made.predictions]
    assert figure.interval == bootstrap.confidence_interval(
        figure.mean, np.mean(drawn, axis=0), bootstrap.effective_size(groups), (0.0, 1.0)
    )
    # A binomial share of 132 images, and less: images of a class are resampled together.
    standard_error = np.sqrt(figure.mean * (1 - figure.mean) / 132)
    width = figure.interval.high - figure.interval.low
    assert width == pytest.approx(2 * 1.98 * standard_error, rel=0.35)
    assert made.published == PROTOCOLS[name].figures["UNI2-h"]
    assert made.last < figure.mean


def test_the_page_has_ours_theirs_the_difference_and_what_must_be_known(tmp_path):
    protocol = PROTOCOLS["eva-bach"]
    encoders = [judged("eva-bach", "UNI2-h"), judged("eva-bach", "VGG")]
    split = protocol.split(DATASET)
    text = report.write(tmp_path, protocol, encoders, DATASET, split, ["A notice <of> ours."])
    page, numbers = (tmp_path / "published.html").read_text(), tmp_path / "published.json"
    figure = encoders[0].figures["balanced_accuracy"]
    difference = f"{100 * (figure.mean - 0.915):+.1f}".replace("-", "−")
    head, first, second = text.splitlines()[:3]
    headings = "encoder balanced accuracy 95 % interval published difference last epoch Macro F1"
    assert " ".join(head.split()) == headings
    ours = f"{100 * figure.mean:.1f} ± {100 * figure.deviation:.1f} %"
    assert first.startswith("UNI2-h")
    for cell in (ours, "91.5 %", f"{difference} points"):
        assert cell in first
        assert cell in page
    assert "points" not in second  # VGG is not in eva's table.
    for note in (
        "epoch is chosen by the balanced accuracy of the very 132 images that are reported",
        "Two versions of one benchmark differ by up to 3 points",
        "compare with the paper's 87.2 ± 2.6 %",
        f"resample the {len({*encoders[0].predictions[0].resampling_groups})} patients of the 132",
        "of 2.9 um each",
    ):
        assert note in text
        assert note.replace("'", "&#39;") in page
    assert "A notice &lt;of&gt; ours." in page
    with open(tmp_path / "published.csv") as file:
        row, other = csv.DictReader(file)
    assert float(row["mean"]) == figure.mean
    assert float(row["difference"]) == pytest.approx(figure.mean - 0.915)
    assert (other["encoder"], other["published"], other["difference"]) == ("VGG", "", "")
    read = json.loads(numbers.read_text())
    assert read["parts"]["reported"] == {"Normal": 23, "Benign": 48, "InSitu": 30, "Invasive": 31}
    assert len(read["encoders"]) == 2
    with open(tmp_path / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    wrong = sum(row["label"] != row["predicted"] for row in rows)
    assert (len(rows), wrong) == (2 * 5 * 132, 2 * (10 + 11 + 12 + 13 + 14))


def test_figures_that_do_not_apply_are_left_out_and_thunder_says_how_it_chooses(tmp_path):
    protocol, plain = PROTOCOLS["thunder-bach"], made_bach.bach_dataset()
    made = [judged("thunder-bach", "UNI2-h", applies=False, dataset=plain)]
    text = report.write(tmp_path, protocol, made, plain, protocol.split(plain))
    assert "points" not in text.splitlines()[1]
    assert "84.7" not in text
    assert "nothing is chosen by the 132 that are reported" in text
    assert "with few patients they are too narrow (--groups names them)" in text
    assert "last epoch" not in text


def test_patients_on_both_sides_are_told():
    split = PROTOCOLS["eva-bach"].split(DATASET)
    both = evaluation.groups_in_both(DATASET, split.fitted, split.reported)
    fitted, reported = (
        {DATASET.groups[i] for i in part} for part in (split.fitted, split.reported)
    )
    assert {*both} == (fitted & reported) - {""}
    assert len(both) > 0
    assert evaluation.groups_in_both(made_bach.bach_dataset(), *split[::2]) == ()


def test_a_folder_that_is_not_bach_and_no_encoder_are_refused(paths, tmp_path):
    for label, path in zip(("Normal", "Benign"), paths, strict=False):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / path.name).write_bytes(path.read_bytes())
    flags = [f"--data={tmp_path}/data", f"--out={tmp_path}/out", "--classes=Normal,Benign"]
    done = run("published", "--protocol=eva-bach", *flags)
    assert (done.returncode, "error: --encoders is needed" in done.stderr) == (1, True)
    done = run("published", "--protocol=eva-bach", "--encoders=VGG", *flags)
    assert done.returncode == 1
    assert "2 labelled images are not BACH's 400 photos" in done.stderr
    assert "2 (image0 of Normal, image1 of Benign) not expected" in done.stderr
    assert not (tmp_path / "out").exists()
    done = run("train", "--protocol=EVA-bach", *flags)
    assert "--protocol=eva-bach is of histojax published" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_script_judges_an_encoder_on_bach_as_unzipped(name, narrow_vgg, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    made_bach.write_folder(tmp_path, made_bach.training(lambda i: made_bach.noise(i, 12, 16)))
    data = f"--data={tmp_path}/{made_bach.TRAINING}"
    several = [data, "--encoders=VGG,UNI2-h", "--weights=VGG=random", f"--out={tmp_path}/out"]
    done = run("published", f"--protocol={name}", *several)
    assert "there is no file of weights of UNI2-h here" in done.stderr
    assert not (tmp_path / "out").exists()  # It is told before the first encoder is asked.
    flags = ["--encoders=VGG", "--weights=random", data]
    # Figures apply neither to other images with trained weights, as these are called first, nor to
    # BACH's with random ones. The second run finds the descriptors of the first.
    monkeypatch.setitem(PROTOCOLS[name].figures, "VGG", 0.5)
    sources, said = ("imagenet", "random, seed 0"), []
    for source, size in zip(sources, (challenge.SIZE, (12, 16)), strict=True):
        monkeypatch.setattr(manifests, "source_of_random", lambda _, source=source: source)
        monkeypatch.setattr(challenge, "SIZE", size)
        done = run("published", f"--protocol={name}", *flags, f"--out={tmp_path}/out")
        assert done.returncode == 0, done.stderr
        numbers = json.loads((tmp_path / "out" / "published.json").read_text())
        assert numbers["encoders"][0]["published"] == ""
        said.append(done.stdout)
    assert "400/400 images" not in done.stderr
    others = "These are not BACH's photos: 400 images, such as n001 of 16 x 12 px"
    assert [others in each for each in said] == [True, False]
    assert ["UNTRAINED" in each for each in said] == [False, True]
    mean, last = (numbers["encoders"][0][key] for key in ("mean", "last_epoch"))
    assert 0.15 < mean < 0.5  # Noise; chance is 0.25.
    assert last < mean or not PROTOCOLS[name].chosen_on_reported  # Of noise the choice flatters.
