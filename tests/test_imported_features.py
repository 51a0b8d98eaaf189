"""Features of TRIDENT, CLAM and STAMP by the documented commands to report, bundle, predictions."""

import csv
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import histojax
from experiments import pipeline
from histojax.errors import InputError
from histojax.extraction import manifests, store
from histojax.learners import ensembles
from histojax.prediction import bundle
from histojax.report.commands import command_lines
from tests import made_features, samples
from tests.running import run
from tests.test_guide import commands

CHANNELS = 16
SMALL = ("--folds=2", "--seeds=1", "--rounds=6")


def features(rng, is_tumour: bool, tiles: int = 5) -> np.ndarray:
    """Features of a slide's tiles, float32 with signs; of a tumour the first ones are larger."""
    shift = 2.0 * is_tumour * (np.arange(CHANNELS) < 4)
    return (rng.normal(size=(tiles, CHANNELS)) + shift).astype(np.float32)


def slides(count: int, seed: int = 0):
    """(slide, case, label, features) of slides, two of each case; names have dots, as TCGA's."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        case = f"TCGA-{seed}{i // 2:02d}"
        label = "tumour" if i // 2 % 2 else "normal"
        yield f"{case}-DX{i % 2}.a{i}b", case, label, features(rng, label == "tumour")


def write_labels(path, rows, names=lambda slide: f"{slide}.svs"):
    """CLAM's table, with the scanner of each case."""
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "slide_id", "label", "scanner"])
        scanner = {case: "ST"[i // 4 % 2] for i, (_, case, _, _) in enumerate(rows)}
        table.writerows(
            (case, names(slide), label, scanner[case]) for slide, case, label, _ in rows
        )


def rows_of(path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def trident(job, rows, encoder: str = "uni_v1"):
    folder = job / "20x_256px_0px_overlap" / f"features_{encoder}"
    for slide, _, _, values in rows:
        made_features.trident(folder, slide, values)
    return folder


def ok(*command) -> str:
    """What a command prints; it must succeed."""
    done = run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder in which the guide's first commands were run, and what each said.

    A TRIDENT job has 40 slides and an empty one; a new job three, and an empty one.
    """
    base, before = tmp_path_factory.mktemp("features"), Path.cwd()
    rows, new = [*slides(40)], [*slides(3, seed=1)]
    for job, some in (("job", rows), ("new_job", new)):
        made_features.trident(trident(base / job, some), "empty", np.zeros((0,), np.float32))
    empty = ("empty", "TCGA-empty", "normal", None)
    write_labels(base / "labels.csv", [*rows[:-1], empty])
    os.chdir(base)
    with samples.trees_in_this_process():
        done = [as_in_the_guide(command) for command in commands("features")[:3]]
    yield base, *done
    os.chdir(before)


def as_in_the_guide(command: list[str]) -> subprocess.CompletedProcess:
    """Runs a command of the guide with a small protocol."""
    return run(*command, *(SMALL if command[0] in ("mine", "train", "leave_groups_out") else ()))


def test_two_commands_lead_to_report_bundle_and_predictions(base):
    base, imported, mined, predicted = base
    assert "features have signs" in imported.stdout
    assert mined.returncode == 0, mined.stderr
    for said in (
        "descriptors: 40 slides, uni_v1-20x-256px",
        "column slide_id holds the images",
        "keeps images of one case together: 21 cases, 40 images",
        "left out, since they lack descriptors: 1 of 40 labelled slides, empty.svs",
        "labels.csv does not label them: 1 of 40 slides with descriptors, TCGA-019-DX1.a39b",
        "data: 39 images, normal 20, tumour 19",
        "column scanner of labels.csv is taken for the site or batch of images: 2 values",
        "positive class: tumour",
        "training: 2 models",
    ):
        assert said in mined.stdout
    folder = base / "runs" / "uni"
    assert not (folder / "inspection").exists()
    assert not (folder / "heatmaps").exists()
    page = (folder / "report" / "report.html").read_text()
    assert "Imported features: uni_v1 (TRIDENT, 20x, 256 px tiles)." in page
    assert "protocol.pooling" in page
    assert "<span>import_descriptors</span> <span>--features=FEATURES</span>" in page
    assert "near-duplicates: features were imported without them" in page
    for hidden in ('id="stain"', 'id="pipeline"', "<span>extract</span>", "Pass --data"):
        assert hidden not in page
    assert (folder / "models" / "sites.csv").exists()
    text = (folder / "report" / "summary.txt").read_text()
    text = text[text.index("site and batch:") :]
    assert "The class does not go with scanner beyond chance (Cramér's V 0.0" in text
    assert "Linear heads fitted to all other groups tell scanner with a balanced accuracy" in text
    assert "With whole values of scanner left out, linear heads have an accuracy of" in text
    card = (folder / "bundle.md").read_text()
    assert "uni_v1 (TRIDENT, 20x, 256 px tiles)" in card
    assert "the mean of all its tiles" in card
    for claim in ("Oxford", "ImageNet", "MIT", "stain augment", "crops"):
        assert claim not in card
    assert predicted.returncode == 3, predicted.stderr  # The empty slide.
    assert "1 image could not be predicted: failures.csv" in predicted.stdout
    predicted = rows_of(folder / "predictions" / "predictions.csv")
    assert [row["image"] for row in predicted] == [row[0] for row in slides(3, seed=1)]
    assert [row["predicted"] for row in predicted] == ["normal", "normal", "tumour"]
    assert {row["trained_on"] for row in predicted} == {"no"}
    assert {(row["stain_p"], row["descriptors_p"] == "") for row in predicted} == {("", False)}
    failures = rows_of(folder / "predictions" / "failures.csv")
    assert [(row["image"], "no tiles" in row["cause"]) for row in failures] == [("empty", True)]


def test_mine_goes_on_and_predicts_new_features(base, monkeypatch):
    base, _, mined, predicted = base
    packed = (base / "runs" / "uni" / "bundle.histojax").read_bytes()
    monkeypatch.setattr(pipeline, "write_report", lambda *given: "The verdict.")
    again = run("mine", "labels.csv", "new_job", "--run=runs/uni", *SMALL)
    assert again.returncode == 3, again.stderr
    assert (base / "runs" / "uni" / "bundle.histojax").read_bytes() == packed
    assert "import: nothing left to do" in again.stderr
    assert again.stdout.endswith(f"predictions: {predicted.stdout}")
    assert [line for line in mined.stdout.splitlines() if "bundle" in line][0] in again.stdout


def test_a_bundle_has_the_recipe_and_no_weights(base):
    path = base[0] / "runs" / "uni" / "bundle.histojax"
    packed = bundle.load(path)
    assert packed.imported
    assert packed.weights == {}
    recorded = manifests.read(base[0] / "runs" / "uni" / "descriptors", "uni_v1-20x-256px")
    assert packed.made_with == {"uni_v1-20x-256px": recorded}


def test_labelled_new_slides_are_evaluated_and_known_ones_recognised(base, tmp_path):
    base = base[0]
    shutil.copytree(base / "new_job", tmp_path / "new")
    features = tmp_path / "new" / "20x_256px_0px_overlap" / "features_uni_v1"
    (features / "empty.h5").unlink()
    known = next(slides(1))[0]
    shutil.copy(base / "job" / features.relative_to(tmp_path / "new") / f"{known}.h5", features)
    write_labels(tmp_path / "new.csv", [*slides(3, seed=1), *slides(1)], lambda slide: f"x/{slide}")
    said = ok(
        *("predict", f"--bundle={base}/runs/uni/bundle.histojax", f"--out={tmp_path / 'out'}"),
        *(f"--features={tmp_path / 'new'}", f"--data={tmp_path / 'new.csv'}"),
    )
    assert "in the prediction set: 4 of 4" in said
    by_name = {row["image"]: row for row in rows_of(tmp_path / "out" / "predictions.csv")}
    assert {name: row["trained_on"] for name, row in by_name.items()} == {
        **{slide: "no" for slide, *_ in slides(3, seed=1)},
        known: "yes",
    }
    assert by_name[known]["group"] == "TCGA-000"
    model = histojax.load_bundle(base / "runs" / "uni" / "bundle.histojax")
    answers = {one.image: one for one in model.predict_features(tmp_path / "new")}
    assert f"{answers[known].probabilities['tumour']:.6f}" == by_name[known]["p_tumour"]
    with pytest.raises(InputError, match="neither predicts nor maps images"):
        model.predict(tmp_path / "new")
    with pytest.raises(InputError, match="empty cannot be predicted: it has no tiles"):
        model.predict_features(base / "new_job")


def test_a_slide_whose_descriptors_have_changed_is_predicted_anew(base, tmp_path):
    shutil.copytree(base[0] / "runs" / "uni" / "predictions", tmp_path / "out")
    root = tmp_path / "out" / "descriptors"
    changed, kept, _ = sorted(root.rglob("*.npy"))
    np.save(changed, np.load(changed) + np.float32(9))
    bundle_path = base[0] / "runs" / "uni" / "bundle.histojax"
    again = ("predict", f"--bundle={bundle_path}", f"--descriptors={root}")
    before = {row["image"]: row for row in rows_of(tmp_path / "out" / "predictions.csv")}
    ok(*again, f"--out={tmp_path / 'out'}")
    after = {row["image"]: row for row in rows_of(tmp_path / "out" / "predictions.csv")}
    assert after[kept.stem] == before[kept.stem]
    assert after[changed.stem] != before[changed.stem]


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("mine", ("--weights=random", "--views=auto"), "Leave out --views, --weights"),
        ("mine", ("--noheatmaps",), "neither images nor encoders are used"),
        ("bundle", ("--checksums_only",), "--checksums_only has nothing to act on"),
        ("predict", ("--images={images}", "--out={out}"), "--features"),
        (
            "predict",
            ("--features={new}", "--out={out}", "--mpp=0.5"),
            "--mpp has nothing to act on",
        ),
        ("predict", ("--features={new}", "--out={out}", "--strict"), "empty: it has no tiles"),
        ("predict", ("--data={labels}", "--out={out}"), "pass the slides' features, too"),
        ("heatmap", ("--images={images}", "--out={out}"), "neither predicts nor maps images"),
        ("predict", ("--features={other}", "--out={out}"), "no features like those"),
        (
            "predict",
            ("--descriptors={drawn}", "--out={out}"),
            "protocol.draws: found 2, expected 1",
        ),
        ("evaluate", ("--descriptors={drawn}",), "protocol.tiles: found 3, expected None"),
        ("evaluate", ("--descriptors={predicted}",), "predictions/descriptors has none of the 39"),
        (
            "evaluate",
            ("--test_data={labels}", "--test_descriptors={other}"),
            "has no imported descriptors of uni_v1-20x-256px",
        ),
        ("audit", ("--data={labels}", "--descriptors={other}"), "trained on imported features"),
    ],
)
def test_what_does_not_apply_is_refused_with_the_reason(base, tmp_path, script, flags, message):
    base = base[0]
    trident(tmp_path / "other", slides(2), "conch_v15")
    places = {"images": tmp_path, "new": base / "new_job", "other": tmp_path / "other"}
    places |= {"out": base / "out", "labels": base / "labels.csv", "drawn": tmp_path / "drawn"}
    places["predicted"] = base / "runs" / "uni" / "predictions" / "descriptors"
    if "drawn" in flags[0]:
        job, where = f"--features={places['new']}", f"--descriptors={places['drawn']}"
        assert run("import_descriptors", job, where, "--draws=2", "--tiles=3").returncode == 0
    flags = [flag.format(**places) for flag in flags]
    data = [base / "labels.csv"] if script == "mine" else []
    refused = run(script, *data, f"--run={base}/runs/uni", *flags)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert not (base / "out" / "predictions.csv").exists()


def test_the_report_s_commands_import_the_same_descriptors(base, tmp_path):
    run_folder, made = base[0] / "runs" / "uni", tmp_path / "descriptors"
    ensemble = ensembles.load(run_folder / "models")
    first, *_ = command_lines(ensemble, tmp_path, None, made, (), 0.95)
    line = first.line.replace("FEATURES", str(base[0] / "job")).split(" ")
    assert line[0] == "histojax"
    ok(*line[1:])
    there, again = (
        {path.name: path.read_bytes() for path in root.rglob("*.npy")}
        for root in (run_folder / "descriptors", made)
    )
    assert len(there) == 40
    assert there == again


def test_each_step_alone(base):
    folder = base[0] / "runs" / "uni"
    with samples.trees_in_this_process():
        done = {command[0]: as_in_the_guide(command) for command in commands("features")[3:]}
    assert {script: run.returncode for script, run in done.items()} == dict.fromkeys(done, 0)
    said = {script: run.stdout for script, run in done.items()}
    assert "0 models trained, 2 are there" in said["train"]
    assert "imported features: uni_v1" in said["evaluate"]
    assert "No known group is both in training and in test." in said["audit"]
    assert "near-duplicates: not searched for, since descriptors were" in said["audit"]
    assert {path.name for path in (folder / "audit").iterdir()} == {"audit.csv", "audit.json"}
    assert "39 images of 20 groups, left out in 2 parts" in said["leave_groups_out"]
    assert "note" not in said["bundle"]
    said = ok("bundle", "--run=runs/uni", "--data=labels.csv", "--out=with_data.histojax")
    assert "--data is not needed" in said
    both = "--runs=a=runs/uni/models,b=runs/uni/models"
    assert "39 images" in ok("compare", both, "--out=compared")


def test_two_encoders_of_the_same_slides_are_compared(base):
    made = "--features=job/20x_256px_0px_overlap/features_uni_v1"
    ok("import_descriptors", made, "--descriptors=other", "--tiles=2", "--draws=2")
    both = "--descriptors=all=runs/uni/descriptors,two=other"
    few = (*SMALL, "--protocol=small", "--learners=trees")
    with samples.trees_in_this_process():
        said = ok("compare_encoders", "--data=labels.csv", both, "--out=which", *few)
    assert "No known group is both in training and in test." in said
    assert "has the best ROC AUC on these images" in said
    costs = [(row["encoder"], row["channels"]) for row in rows_of("which/costs.csv")]
    assert costs == [("all", "16"), ("two", "16")]
    page = Path("which/encoders.html").read_text()
    assert "20 whole groups" in page
    assert "imported features: uni_v1" in page
    assert "The descriptors were there before" in page
    assert "all had 1 draw of TRIDENT, 20x, 256 px tiles; two had 2 draws of TRIDENT" in said


@pytest.mark.parametrize("tool", ["CLAM", "STAMP"])
def test_folders_of_other_tools_are_trained_on_and_predicted(tmp_path, tool):
    write = {"CLAM": made_features.clam, "STAMP": made_features.stamp}[tool]
    rows, new = [*slides(12)], [*slides(2, seed=1)]
    for folder, some in (("train", rows), ("new", new)):
        for slide, _, _, values in some:
            write(tmp_path / folder, slide, values)
    for (
        slide,
        _,
        label,
        _,
    ) in rows:  # Class folders, with the files or whatever is called like them.
        place = tmp_path / "classes" / label / f"{slide}.h5"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    named = ("--name=resnet50",) if tool == "CLAM" else ()
    at = f"--run={tmp_path / 'run'}"
    ok("import_descriptors", f"--features={tmp_path / 'train'}", at, *named)
    with samples.trees_in_this_process():
        said = ok("train", f"--data={tmp_path / 'classes'}", at, "--protocol=small", *SMALL)
    assert "2 models trained" in said
    assert "WARNING: No groups are known" in said
    ok("bundle", at)
    ok("predict", f"--features={tmp_path / 'new'}", at)
    predicted = rows_of(tmp_path / "run" / "predictions" / "predictions.csv")
    assert [row["predicted"] for row in predicted] == ["normal", "normal"]
    assert store.configurations(tmp_path / "run" / "descriptors")[0].startswith(
        "resnet50" if tool == "CLAM" else "virchow2"
    )
