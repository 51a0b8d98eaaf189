"""What TFDS has prepared is read as the same images in a folder would be.

It is unpacked once, whole or not at all.
"""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from histojax import datasets
from histojax.config import BACH_CLASSES
from histojax.datasets import bach, tfds, unlabelled
from histojax.datasets.bach import bach_dataset_builder
from histojax.errors import InputError
from histojax.images import reader
from tests import made_bach
from tests.running import run

CLASSES = ("tumour", "fat", "stroma")  # Not in the alphabet's order.
FEATURES = tensorflow_datasets.features


def encoded(seed: int, form: str = "PNG", size: tuple[int, int] = (40, 50)) -> bytes:
    content = io.BytesIO()
    Image.fromarray(made_bach.noise(seed, *size)).save(content, form)
    return content.getvalue()


def example(i: int) -> dict:
    """One of a set that has more features than are asked for; the odd images are JPEG."""
    return {
        "photo": encoded(i, "JPEG" if i % 2 else "PNG"),
        "tissue": i % 3,
        "filename": f"slides/day 1/s{i}.v2.png",
        "patient": "" if i == 5 else f"p{i // 3}",
        "boxes": [[0.0, 0.0, 1.0, float(i)]],
        "weight": float(i),
    }


NAMELESS = [example(i) | {"tissue": -1, "filename": "same.png", "patient": ""} for i in (20, 21)]
USUAL = {
    "photo": FEATURES.Image(),
    "tissue": FEATURES.ClassLabel(names=CLASSES),
    "filename": FEATURES.Text(),
    "patient": FEATURES.Text(),
    "boxes": FEATURES.Sequence(FEATURES.Tensor(shape=(4,), dtype=np.float32)),
    "weight": FEATURES.Scalar(np.float32),
}


def prepare(
    data_dir: Path, features: dict, splits: dict[str, list[dict]], name: str = "slides", **options
) -> Path:
    """A data set prepared by TFDS alone, as anybody's."""

    class Slides(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tensorflow_datasets.core.Version(options.get("version", "1.2.3"))
        BUILDER_CONFIGS = [
            tensorflow_datasets.core.BuilderConfig(name=config)
            for config in options.get("configs", ())
        ]

        def _info(self):
            return tensorflow_datasets.core.DatasetInfo(
                builder=self, features=FEATURES.FeaturesDict(features)
            )

        def _split_generators(self, _):
            return {split: enumerate(made) for split, made in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Slides.name = name
    for config in options.get("configs", (None,)):
        builder = Slides(data_dir=data_dir, file_format="array_record", config=config)
        builder.download_and_prepare()
    return Path(builder.data_path)


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """Nine labelled images of three classes and three patients; a split of two without labels."""
    data_dir = tmp_path_factory.mktemp("slides")
    prepare(data_dir, USUAL, {"train": [example(i) for i in range(9)], "test": NAMELESS})
    return data_dir


@pytest.fixture(scope="module")
def challenge(tmp_path_factory) -> Path:
    """BACH of small photos, built by us."""
    folder = tmp_path_factory.mktemp("challenge")
    made_bach.write_zip(folder / "zips", made_bach.TRAINING, made_bach.training())
    made_bach.write_zip(folder / "zips", made_bach.TEST, made_bach.unlabelled())
    made_bach.write_patients(folder / "zips", {"n001.tif": "7", "iv100.tif": "12"})
    bach_dataset_builder.build(folder / "zips", folder / "data", made_bach.WIDTH, made_bach.HEIGHT)
    return folder / "data"


def test_any_data_set_is_read_with_names_classes_groups_and_its_bytes_as_they_are(slides, tmp_path):
    dataset = datasets.load(tfds.label_table("slides", slides, cache=tmp_path))
    assert dataset.classes == ("fat", "stroma", "tumour")  # As of a folder with these classes.
    assert sorted(dataset.names) == [f"s{i}.v2" for i in range(9)]
    for path, label, group in zip(dataset.paths, dataset.labels, dataset.groups, strict=True):
        i = int(path.name[1])
        assert path.read_bytes() == example(i)["photo"]
        assert path.suffix == (".jpg" if i % 2 else ".png")
        assert dataset.classes[label] == CLASSES[i % 3]
        assert group == example(i)["patient"]
    table = tfds.label_table("slides:1.2.3", slides, cache=tmp_path)
    assert datasets.load(table, CLASSES).classes == CLASSES


def test_bach_is_the_same_data_set_from_its_folder_and_from_tfds(challenge, tmp_path):
    made_bach.write_folder(tmp_path, made_bach.training())
    folder = datasets.load(tmp_path / made_bach.TRAINING)
    dataset = datasets.load(tfds.label_table("bach", challenge, cache=tmp_path / "cache"))
    assert (dataset.names, dataset.labels, dataset.classes) == (
        folder.names,
        folder.labels,
        BACH_CLASSES,
    )
    assert bach.is_bach(dataset.names, dataset.classes)
    assert {
        name: group for name, group in zip(dataset.names, dataset.groups, strict=True) if group
    } == {"n001": "7", "iv100": "12"}
    for ours, theirs in list(zip(dataset.paths, folder.paths, strict=True))[::37]:
        np.testing.assert_array_equal(reader.read(ours), reader.read(theirs))


def test_a_split_without_labels_is_to_be_predicted(challenge, tmp_path):
    paths = tfds.image_paths("bach", challenge, "test", tmp_path)
    assert [path.name for path in paths] == sorted(f"test{i}.png" for i in range(100))
    np.testing.assert_array_equal(reader.read(paths[0]), made_bach.noise(1000))
    folder = tfds.unpacked_folder("bach", challenge, "test", tmp_path)
    assert paths == tuple(unlabelled.find_images([folder]).values())
    with pytest.raises(InputError, match="split test of bach has images without a label"):
        tfds.label_table("bach", challenge, "test", cache=tmp_path)


def test_names_that_are_not_unique_give_way_to_numbers(slides, tmp_path):
    paths = tfds.image_paths("slides", slides, "test", tmp_path)
    assert [path.stem for path in paths] == ["test-1", "test-2"]


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a", "b"], ["a", "b"]),
        (["x\\a.TIF", "x/b.1"], ["a", "b.1"]),
        (["a.png", "A.jpg"], None),
        (["a", ""], None),
        (["a", ".b"], None),
        (["a", "b?"], None),
        (["a", "b "], None),
        (["a", "b" * 200], None),
    ],
)
def test_a_name_is_used_where_a_file_can_have_it(names, stems):
    assert tfds._file_names("train", names) == (stems or ["train-1", "train-2"])
    assert tfds._file_names("train", names * 5)[:2] == ["train-01", "train-02"]


def test_numbers_are_names_and_groups_too_and_unlabelled_sets_need_no_label(tmp_path):
    features = {
        "photo": FEATURES.Image(),
        "id": FEATURES.Scalar(np.int64),
        "case": FEATURES.Scalar(np.int32),
    }
    made = [{"photo": encoded(i), "id": 100 + i, "case": 7} for i in range(2)]
    prepare(tmp_path, features, {"whole": made})
    folder = tfds.unpacked_folder("slides", tmp_path, "whole", tmp_path / "cache")
    assert list(unlabelled.find_images([folder])) == ["100", "101"]
    features["tissue"] = FEATURES.ClassLabel(num_classes=2)
    prepare(
        tmp_path,
        features,
        {"whole": [example | {"tissue": i} for i, example in enumerate(made)]},
        "labelled",
    )
    dataset = datasets.load(tfds.label_table("labelled", tmp_path, "whole", tmp_path / "cache"))
    assert (dataset.names, dataset.classes, dataset.groups) == (
        ("100", "101"),
        ("0", "1"),
        ("7", "7"),
    )


def test_a_data_set_is_unpacked_once_and_again_after_a_new_build(slides, tmp_path, monkeypatch):
    data_dir = tmp_path / "data"
    shutil.copytree(slides, data_dir)
    first = tfds.label_table("slides", data_dir, cache=tmp_path)
    monkeypatch.setattr(tfds, "_unpack", lambda *_: pytest.fail("unpacked twice"))
    assert tfds.label_table("slides", data_dir, cache=tmp_path) == first
    monkeypatch.undo()
    shutil.rmtree(data_dir)
    swapped = [example(i) | {"tissue": (i + 1) % 3} for i in range(9)]
    prepare(data_dir, USUAL, {"train": swapped, "test": NAMELESS})
    assert sizes(data_dir) == sizes(
        slides
    )  # To the byte: only the time of building tells them apart.
    assert tfds.label_table("slides", data_dir, cache=tmp_path) != first
    assert "s0.v2.png,fat" in tfds.label_table("slides", data_dir, cache=tmp_path).read_text()


def sizes(data_dir: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in data_dir.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", ["remove", "cut", "zero", "add"])
def test_what_was_unpacked_and_then_altered_is_refused(slides, tmp_path, change):
    image = tfds.image_paths("slides", slides, "train", tmp_path)[0]
    if change == "remove":
        image.unlink()
    elif change == "cut":
        image.write_bytes(image.read_bytes()[:-1])
    elif change == "zero":
        image.write_bytes(image.read_bytes()[:-9] + bytes(9))
    else:
        shutil.copy(image, image.with_name("another.png"))
    with pytest.raises(
        InputError, match=r"is not as it was unpacked \(.*remove it, it is made anew"
    ):
        tfds.label_table("slides", slides, cache=tmp_path)


def test_a_broken_unpacking_leaves_nothing(slides, tmp_path, monkeypatch):
    whole = tfds._read_examples

    def broken(*arguments):
        for i, example in enumerate(whole(*arguments)):
            if i == 4:
                raise KeyboardInterrupt
            yield example

    monkeypatch.setattr(tfds, "_read_examples", broken)
    with pytest.raises(KeyboardInterrupt):
        tfds.label_table("slides", slides, cache=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("slides/", "train", "not of the form NAME"),
        ("../slides", "train", "not of the form NAME"),
        ("slide", "train", "slide holds nothing that TFDS has prepared"),
        ("slides:9.9.9", "train", "names 0 of what .* holds; name one of slides:1.2.3"),
        ("slides/small", "train", "names 0 of what .* holds; name one of slides:1.2.3"),
        ("slides", "valid", "has no split valid: it has test, train"),
    ],
)
def test_a_name_that_fits_nothing_is_refused_with_what_there_is(
    slides, tmp_path, name, split, message
):
    with pytest.raises(InputError, match=message):
        tfds.unpacked_folder(name, slides, split, tmp_path)


def test_the_newest_version_is_taken_and_between_configs_nothing_is_guessed(tmp_path):
    made = {"train": [example(i) for i in range(3)]}
    for version in ("1.9.0", "1.10.0"):
        prepare(tmp_path, USUAL, made, version=version, configs=("small", "large"))
    assert tfds._find_build("slides/small", tmp_path) == tmp_path / "slides" / "small" / "1.10.0"
    assert (
        tfds._find_build("slides/large:1.9.0", tmp_path) == tmp_path / "slides" / "large" / "1.9.0"
    )
    with pytest.raises(
        InputError,
        match="names 4 of what .* holds; name one of slides/large:1.9.0, slides/large:1.10",
    ):
        tfds._find_build("slides", tmp_path)


WRONG = {
    "two images": (
        USUAL | {"mask": FEATURES.Image()},
        {"mask": encoded(0)},
        "2 images .* and 1 labels",
    ),
    "no image": ({"tissue": USUAL["tissue"]}, {}, "0 images"),
    "two labels": (
        USUAL | {"site": FEATURES.ClassLabel(num_classes=5)},
        {"site": 1},
        "2 labels .*tissue",
    ),
    "another format": (
        USUAL,
        {"photo": encoded(0, "GIF")},
        "image 1 of split train is no PNG, JPEG or TIFF",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_data_sets_that_are_no_image_classification_are_refused(tmp_path, wrong):
    features, extra, message = WRONG[wrong]
    made = {key: value for key, value in (example(0) | extra).items() if key in features}
    prepare(tmp_path, features, {"train": [made]})
    with pytest.raises(InputError, match=message):
        tfds.unpacked_folder("slides", tmp_path, "train", tmp_path / "cache")


def altered(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_only_array_record_and_only_features_of_tfds_are_read(slides, tmp_path):
    shutil.copytree(slides, tmp_path / "data")
    place = tfds._find_build("slides", tmp_path / "data")
    altered(
        place / "features.json",
        lambda f: f["featuresDict"]["features"]["boxes"].update(pythonClassName="evil.Run"),
    )
    with pytest.raises(
        InputError, match="features of other packages than tensorflow_datasets: evil.Run"
    ):
        tfds.unpacked_folder("slides", tmp_path / "data", "train", tmp_path)
    altered(place / "dataset_info.json", lambda info: info.pop("fileFormat"))
    with pytest.raises(InputError, match="is stored as tfrecord"):
        tfds.unpacked_folder("slides", tmp_path / "data", "train", tmp_path)


@pytest.mark.parametrize("change", ["absent", "empty", "cut", "noise"])
def test_damaged_files_are_refused(slides, tmp_path, change):
    shutil.copytree(slides, tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*train.array_record*"))
    content = bytearray(shard.read_bytes())
    if change == "absent":
        shard.unlink()
    elif change == "empty":
        shard.write_bytes(b"")
    elif change == "cut":
        shard.write_bytes(content[: len(content) // 2])
    else:
        content[1000:3000] = bytes(2000)
        shard.write_bytes(content)
    message = (
        "1.2.3 cannot be read: example . of split train is empty"
        if change == "cut"
        else "1.2.3 cannot be read"
    )
    with pytest.raises(InputError, match=message):
        tfds.unpacked_folder("slides", tmp_path / "data", "train", tmp_path)
    assert not list(tmp_path.rglob("unpacked.json"))


def test_scripts_take_it_where_they_take_data(slides):
    flags = ["--tfds=slides", f"--tfds_data_dir={slides}"]
    done = run("audit", *flags, "--folds=2")
    assert done.returncode == 0, done.stderr
    assert "grouped, 2 folds" in done.stdout
    done = run(
        "extract",
        *flags,
        "--tfds_split=test",
        "--descriptors=unused",
        "--views=1.0-999",
        "--weights=random",
    )
    assert done.returncode == 1
    assert "test-1." in done.stderr  # Read, and found too small.
    for wrong in ([*flags, "--data=x"], []):
        done = run("audit", *wrong)
        assert done.returncode == 1
        assert "--data" in done.stderr or "data, tfds" in done.stderr
