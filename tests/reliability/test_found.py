"""What the fuzzer found, each in its smallest form: files that ended in something else than a
refusal.

An InputError is what scripts print as their one message; anything else that a reader raises would
be a traceback, and LightGBM, XGBoost and OpenSlide ended the process.
"""

import io
import json
import re
import struct
import zipfile

import numpy as np
import pytest
import tifffile

from histojax.datasets import positive, sheets
from histojax.errors import InputError
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import manifest_form, manifests, store
from histojax.features import tables as feature_tables
from histojax.images import slide
from histojax.learners import ensembles, heads, trees, xgboost_trees
from histojax.prediction import bundle_form, conformal, learned, outputs
from histojax.prediction.bundle import OUT_OF_FOLD
from histojax.prediction.uncertainty import PredictionOptions
from histojax.utils import files
from histojax.utils.array_files import npz
from tests.reliability import fuzz_readers
from tests.reliability import fuzz_samples as samples
from tests.reliability import fuzz_trained as trained

HEADER = b"\x93NUMPY\1\0\x76\0"


def of_model(learner: str) -> str:
    (content,) = trained.model_files()[learner].values()
    return content.decode()


def test_a_sound_model_of_each_learner_is_read():
    assert trees.channels(trees.parse(of_model("trees").encode(), "a")) == 4
    assert xgboost_trees.channels(xgboost_trees.parse(of_model("xgboost").encode(), "a")) == 2


# LightGBM crashed, ran for ever, took 2 GiB, or printed `[Fatal]`, each by one of these.
@pytest.mark.parametrize(
    ("pattern", "other"),
    {
        "max_feature_idx=3": "max_feature_idx=33",
        r"feature_infos=\[": "feature_infos=x [",
        r"tree_sizes=\d": "tree_sizes=99999999",
        r"num_leaves=(\d+)": "num_leaves=2147483647",
        "num_class=2": "num_class=200000",
        "num_cat=0": "num_cat=7",
        "split_feature=3": "split_feature=9",
        r"split_gain=\d": "split_gain=n",
        r"left_child=(\S+)": "left_child=0",
        r"right_child=(\S+)": "right_child=-99",
        r"threshold=\S+": "threshold=nan",
        r"decision_type=2": "decision_type=1",
        r"leaf_value=\S+ ": "leaf_value=",
        "pandas_categorical:null": "pandas_categorical:null]",
    }.items(),
)
def test_no_damaged_model_reaches_lightgbm(pattern, other):
    text = of_model("trees")
    damaged = re.sub(pattern, other, text, count=1)
    assert damaged != text
    with pytest.raises(InputError, match="a.txt is not a complete LightGBM model"):
        trees.parse(damaged.encode(), "a.txt")


# XGBoost crashed by each of the first five.
@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("left_children", lambda values: [5000, *values[1:]]),
        ("right_children", lambda values: [values[0], 0, *values[2:]]),
        ("split_indices", lambda values: [99, *values[1:]]),
        ("split_conditions", lambda values: values[:-1]),
        ("default_left", lambda _: None),
        ("parents", lambda values: values[::-1]),
        ("tree_param", lambda values: values | {"num_nodes": "10000000"}),
        ("categories", lambda _: [1]),
        ("sum_hessian", lambda values: [10**400, *values[1:]]),
    ],
)
def test_no_damaged_model_reaches_xgboost(name, other):
    model = json.loads(of_model("xgboost"))
    tree = model["learner"]["gradient_booster"]["model"]["trees"][0]
    tree[name] = other(tree[name])
    with pytest.raises(InputError, match="a.json is not a complete XGBoost model"):
        xgboost_trees.parse(json.dumps(model).encode(), "a.json")


def test_a_parameter_that_a_model_lacks_is_told():
    with pytest.raises(InputError, match="a model has no min_data_in_leaf"):
        trees.parameter(b"[min_data_in_leaf: x]\n", "min_data_in_leaf")


# Of NumPy's reader: a token that has no end, Python 2's numbers, an overflow, no array at all.
@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 2",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, '\\C'), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 9999999999, 9), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 1, 2), }",
        b"{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (1, 1, 1), }",
    ],
)
def test_an_array_whose_header_is_damaged_is_refused(tmp_path, header):
    path = tmp_path / "seed0-fold01.npy"
    path.write_bytes(HEADER + header.ljust(117) + b"\n" + bytes(16))
    with pytest.raises(InputError, match="cannot be read as an array of numbers"):
        ensembles.read_scores(path)
    with pytest.raises(InputError, match="cannot be read as an array of numbers"):
        store.open_array(path)


def test_an_array_with_more_behind_it_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    files.write_array(path, np.ones((2, 3), np.float32))
    assert store.open_array(path).shape == npz.read_array(path.read_bytes()).shape == (2, 3)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="cannot be read as an array"):
        store.open_array(path)


def test_a_member_that_is_no_array_is_refused():
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        archive.writestr("kernel.npy", b"text")
        archive.writestr("bias.npy", b"text")
    with pytest.raises(InputError, match="cannot be read as a head"):
        heads.parse("linear", out.getvalue(), "a.npz")


def test_json_of_any_depth_is_read_or_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"a":' * 200_000 + "1" + "}" * 200_000)
    with pytest.raises(InputError, match="cannot be read as JSON"):
        files.read_json(tmp_path / "a.json", ())


def test_manifests_of_descriptors_have_values_of_their_kinds():
    sound = trained.manifest()
    manifest_form.check(sound, "manifest.json")
    protocol, weights = sound["protocol"], sound["weights"]
    for damaged in (
        sound | {"protocol": None},
        sound | {"weights": {"source": 1.5, "sha256": "ab"}},
        sound | {"weights": {}},
        sound | {"versions": {"numerics": "1"}},
        sound | {"crop_error": {"images": 1, "taps": {"a": {"largest_error": None}}}},
        {"weights": weights},
        *(sound | {"protocol": protocol | {"crop_size": size}} for size in (0, "4", True, 2.5)),
        *(sound | {"protocol": protocol | {key: float("nan")}} for key in ("p", "gain_low")),
    ):
        with pytest.raises(InputError, match="manifest.json is damaged"):
            manifest_form.check(damaged, "manifest.json")
    lacking = {key: value for key, value in protocol.items() if key != "gain_low"}
    with pytest.raises(InputError, match="no gain_low is recorded"):
        manifests.extraction_of({"a": sound | {"protocol": lacking}}, "models")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "ab"},
        {"classes": ["a", "a"]},
        {"learner": []},
        {"seeds": True},
        {"seeds": 2**31},
        {"parameters": None},
    ],
)
def test_manifests_of_ensembles_have_values_of_their_kinds(tmp_path, change):
    for name, content in trained.models()["linear"].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    ensembles.load(tmp_path)
    path = tmp_path / ensembles.MANIFEST
    files.write_json(path, files.read_json(path, ()) | change)
    with pytest.raises(InputError, match="is damaged, or of a later version"):
        ensembles.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a"]},
        {"positive": [7]},
        {"positive": ["a"]},
        {"seeds": 100_000},
        {"sensitivity": "x"},
        {"made_with": []},
        {"made_with": {"VGG-0.5-400": 1}},
        {"about": None},
        {"training_files": [1]},
    ],
)
def test_descriptions_of_bundles_have_values_of_their_kinds(change):
    content = trained.bundle_parts()["parts"]["bundle.json"]
    sound = json.loads(content)
    bundle_form.check(sound, "bundle.json")
    with pytest.raises(InputError, match="bundle.json is damaged"):
        bundle_form.check(sound | change, "bundle.json")


def test_predictions_of_other_classes_are_not_continued(tmp_path):
    sample = trained.predictions()["run"]
    for name, content in sample.items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / outputs.LINES
    bundle = fuzz_readers.known_bundle()
    with outputs.open_writer(bundle, tmp_path, PredictionOptions()) as writer:
        assert writer.stored.keys() == {"a", "b", "c"}
    path.write_text(path.read_text().replace('"predicted": "benign"', '"predicted": "other"', 1))
    with (
        pytest.raises(InputError, match="predictions.jsonl is damaged"),
        outputs.open_writer(bundle, tmp_path, PredictionOptions()),
    ):
        pass


def test_a_workbook_whose_zip_is_damaged_within_is_refused(tmp_path):
    content = bytearray(samples.tables()["workbook"]["table.xlsx"])
    start = content.find(b"xl/worksheets/sheet1.xml") + len("xl/worksheets/sheet1.xml")
    content[start : start + 40] = bytes(40)
    (tmp_path / "table.xlsx").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a spreadsheet"):
        sheets.read(tmp_path / "table.xlsx")


@pytest.mark.parametrize(
    ("scanner", "name", "tag", "where"),
    [("aperio", "slide.svs", "<HHII", "level 0"), ("leica", "slide.scn", "<HHQQ", "page 1")],
)
def test_a_slide_whose_tiles_are_too_large_is_refused_before_room_is_made_for_one(
    tmp_path, scanner, name, tag, where
):
    content = samples.whole_slides()[scanner][name]
    tile_length = struct.Struct(tag)  # TIFF's tag, type, count and value.
    sound, large = (tile_length.pack(323, 4, 1, side) for side in (128, 2**20))
    sound = sound if sound in content else tile_length.pack(323, 3, 1, 128)
    assert sound in content
    (tmp_path / name).write_bytes(content.replace(sound, large, 1))
    with (
        pytest.raises(InputError, match=f"{name} is damaged: {where} has tiles of 128 x"),
        slide.open_slide(tmp_path / name),
    ):
        pass


def test_a_slide_with_a_tile_longer_than_the_file_is_refused_before_room_is_made_for_it(tmp_path):
    path = tmp_path / "a.svs"
    content = bytearray(samples.whole_slides()["aperio"]["slide.svs"])
    path.write_bytes(content)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["TileByteCounts"].valueoffset
    content[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    with (
        pytest.raises(InputError, match="page 1 has a tile of 2,147,483,648 bytes, more than"),
        slide.open_slide(path),
    ):
        pass


def test_the_middle_of_an_endless_message_is_left_out():
    text = str(InputError(f"a.csv has a class {'x' * 70_000}: correct it"))
    assert len(text) < 8100
    assert text.startswith("a.csv has a class xxx")
    assert text.endswith("xxx: correct it")


def test_a_level_of_a_pyramid_that_cannot_be_read_is_left_out(tmp_path):
    content = samples.images()["tiff-pyramid"]["image.tif"]
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with slide.open_slide(path) as opened:
        assert [level.size for level in opened.coarser] == [(20, 24)]
    place = content.index(b"\x4a\x01")  # TIFF's tag 330, which says where the level is.
    path.write_bytes(content[: place + 8] + struct.pack("<I", 3000) + content[place + 12 :])
    with slide.open_slide(path) as opened:
        assert (opened.size, opened.coarser) == ((40, 48), ())


def test_a_fold_of_any_number_is_told_without_a_list_of_all_before_it():
    scores = np.full((4, 2), 0.5)
    known = {"names": tuple("abcd"), "classes": ("x", "y"), "truth": np.arange(4) % 2}
    folds = np.array([0, 1, 0, 2**40])
    images = LabelledPredictions(**known, predicted=known["truth"], scores=scores, folds=folds)
    with pytest.raises(InputError, match="fold"):
        conformal.calibrate(images)


def test_a_workbook_that_has_a_part_twice_is_refused(tmp_path):
    content = samples.tables()["workbook"]["table.xlsx"]
    (tmp_path / "a.xlsx").write_bytes(content)
    with (
        zipfile.ZipFile(tmp_path / "a.xlsx", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("xl/workbook.xml", b"")
    with pytest.raises(InputError, match="it has a part twice"):
        sheets.read(tmp_path / "a.xlsx")


@pytest.mark.parametrize("score", [1.5, -0.5, 1e200, np.nan])
def test_scores_in_a_bundle_lie_between_0_and_1(score):
    arrays = npz.read_arrays(trained.bundle_parts()["parts"][OUT_OF_FOLD])
    chosen = positive.stored(trained.CLASSES, [1])
    known = (trained.CLASSES, chosen, 0.9, None)
    learned.from_arrays(arrays, *known)
    scores = arrays["scores"].copy()
    scores[0, 0] = score
    with pytest.raises(InputError, match="the out-of-fold scores do not fit together"):
        learned.from_arrays(arrays | {"scores": scores}, *known)


def test_a_feature_whose_number_has_thousands_of_digits_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(f"slide,f0,f{'1' * 5000}\na,1,2\n")
    with pytest.raises(InputError, match="which of its columns are features cannot be told"):
        feature_tables.read(tmp_path / "a.csv")
