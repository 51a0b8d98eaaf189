"""BACH's zips become a TFDS data set with the same pixels, labels, names and patients.

Tests bach_dataset_builder.py and challenge.py: what is wrong with the photos is named.
"""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from histojax.config import BACH_CLASSES
from histojax.datasets.bach import bach_dataset_builder, challenge
from histojax.errors import InputError
from histojax.utils.zips import Member
from tests import made_bach
from tests.running import python, run

HEIGHT, WIDTH = made_bach.HEIGHT, made_bach.WIDTH
PHOTOS = f"{made_bach.TRAINING}/Photos"
TRAINING = made_bach.training()
FIRST, LAST = f"{PHOTOS}/Normal/n001.tif", f"{PHOTOS}/Invasive/iv100.tif"
SIZE = [f"--width={WIDTH}", f"--height={HEIGHT}"]


def build(manual: Path, data_dir: Path) -> Path:
    return bach_dataset_builder.build(manual, data_dir, WIDTH, HEIGHT)


def examples(place: Path, split: str) -> dict[str, tuple[bytes, int, str]]:
    """{name: (pixels, label, patient)} as TFDS reads them."""
    source = tfds.builder_from_directory(place).as_data_source(split)
    return {
        example["name"].decode(): (
            example["image"].tobytes(),
            int(example["label"]),
            example["patient"].decode(),
        )
        for example in source
    }


@pytest.fixture(scope="module")
def manual(tmp_path_factory) -> Path:
    """Both zips, with what a Mac leaves in them, and the patients of three photos."""
    folder = tmp_path_factory.mktemp("manual")
    made_bach.write_zip(folder, made_bach.TRAINING, TRAINING | made_bach.junk(made_bach.TRAINING))
    made_bach.write_zip(
        folder, made_bach.TEST, made_bach.unlabelled() | made_bach.junk(made_bach.TEST)
    )
    made_bach.write_patients(folder, {"n001.tif": "7", "b003.tif": "7", "iv100.tif": "P12"})
    return folder


@pytest.fixture(scope="module")
def built(manual, tmp_path_factory) -> Path:
    return build(manual, tmp_path_factory.mktemp("data"))


def test_the_zips_become_splits_with_the_same_pixels(built):
    train, tested = examples(built, "train"), examples(built, "test")
    assert sorted(train) == sorted(Path(name).stem for name in TRAINING if name.endswith(".tif"))
    for i, name in enumerate(Path(name).stem for name in TRAINING if name.endswith(".tif")):
        pixels, label, _ = train[name]
        assert pixels == made_bach.noise(i).tobytes()
        assert label == i // 100
    assert {name: patient for name, (*_, patient) in train.items() if patient} == {
        "n001": "7",
        "b003": "7",
        "iv100": "P12",
    }
    assert tested == {f"test{i}": (made_bach.noise(1000 + i).tobytes(), -1, "") for i in range(100)}


def test_tfds_finds_it_by_name_and_its_info_says_what_it_is(built):
    name, data_dir = f"bach/photos_{WIDTH}x{HEIGHT}", built.parents[2]
    builder = tfds.builder(name, data_dir=data_dir)
    assert builder.info.full_name == f"{name}/1.0.0"
    assert tuple(builder.info.features["label"].names) == BACH_CLASSES
    assert builder.info.features["image"].shape == (HEIGHT, WIDTH, 3)
    assert builder.info.file_format.value == "array_record"
    assert "CC BY-NC-ND" in (built / "LICENSE").read_text()
    assert len(tfds.data_source(name, data_dir=data_dir, split="test")) == 100
    assert "bach" in tfds.list_builders(with_community_datasets=False)


def test_unpacked_folders_give_the_same(built, tmp_path):
    made_bach.write_folder(tmp_path / "manual", TRAINING | made_bach.junk(made_bach.TRAINING))
    place = build(tmp_path / "manual", tmp_path / "data")
    without = {
        name: (pixels, label, "") for name, (pixels, label, _) in examples(built, "train").items()
    }
    assert examples(place, "train") == without
    assert list(tfds.builder_from_directory(place).info.splits) == ["train"]


def test_the_script_builds_checks_the_published_size_and_leaves_nothing_of_what_it_refuses(
    manual, tmp_path
):
    done = run("build_bach", f"--manual_dir={manual}", f"--data_dir={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: 400 photos in {manual}")
    assert "are not 2048 x 1536 pixels: n001.tif (8 x 6), n002.tif (8 x 6)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*1.0.0*"))
    done = run("build_bach", f"--manual_dir={manual}", f"--data_dir={tmp_path}", *SIZE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"{tmp_path}/bach/photos_8x6/1.0.0")


def test_tfds_build_takes_the_folder_without_tensorflow(manual, tmp_path):
    """The command `tfds` does not start without TensorFlow; what it runs for `build` does."""
    program = """
import sys
from tensorflow_datasets.scripts.cli import build, cli_utils
cli_utils.make_flags_parser(build.Args, description="")(sys.argv).execute()
assert "tensorflow" not in sys.modules
"""
    config = f'{{"name": "small", "width": {WIDTH}, "height": {HEIGHT}}}'
    arguments = [
        "histojax/datasets/bach",
        f"--manual_dir={manual}",
        f"--data_dir={tmp_path}",
        f"--config={config}",
    ]
    done = python("-c", program, *arguments)
    assert done.returncode == 0, done.stderr
    assert len(examples(tmp_path / "bach" / "small" / "1.0.0", "train")) == 400


def test_a_damaged_photo_stops_the_build_and_leaves_nothing(tmp_path):
    made = dict(TRAINING)
    made[LAST] = made[LAST][:-40]  # The header is whole.
    made_bach.write_zip(tmp_path / "manual", made_bach.TRAINING, made)
    with pytest.raises(InputError, match="iv100.tif.*(damaged|cut short)"):
        build(tmp_path / "manual", tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*1.0.0*"))


def test_an_empty_or_absent_manual_folder_is_refused_with_what_to_put_there(tmp_path):
    with pytest.raises(InputError, match=f"Put {made_bach.TRAINING}.zip of Zenodo record 3632035"):
        build(tmp_path / "none", tmp_path / "data")


def check(folder: Path) -> None:
    challenge.training_photos(folder, (HEIGHT, WIDTH))


def without(name: str):
    return {key: content for key, content in TRAINING.items() if key != name}


def replaced(name: str, content: bytes):
    return TRAINING | {name: content}


def truth(old: str, new: str):
    return replaced(made_bach.TRUTH, TRAINING[made_bach.TRUTH].replace(old.encode(), new.encode()))


def encoded(height: int, width: int) -> bytes:
    return made_bach.tif(made_bach.noise(0, height, width))


def claiming(side: int) -> bytes:
    """A small PNG whose header claims side x side pixels."""
    content = io.BytesIO()
    Image.fromarray(made_bach.noise(0)).save(content, "PNG")
    header = content.getvalue()
    size = side.to_bytes(4, "big") * 2
    checksum = zipfile.crc32(b"IHDR" + size + header[24:29]).to_bytes(4, "big")
    return header[:16] + size + header[24:29] + checksum + header[33:]


SET = [
    ({"readme.txt": b""}, "holds neither ICIAR2018_BACH_Challenge.zip nor a folder"),
    (
        without(f"{PHOTOS}/Normal/n003.tif"),
        "Normal/? holds 99 images, .*missing: n003.tif; not expected: none",
    ),
    (
        TRAINING | {f"{PHOTOS}/Normal/n101.tif": b""},
        "holds 101 images, .*missing: none; not expected: n101.tif",
    ),
    (
        without(FIRST) | {f"{PHOTOS}/Normal/n1.tif": TRAINING[FIRST]},
        "missing: n001.tif; not expected: n1.tif",
    ),
    (
        {k: v for k, v in TRAINING.items() if "/InSitu/" not in k},
        "holds the folders Benign, Invasive, Normal",
    ),
    (
        TRAINING | {f"{PHOTOS}/Unsure/u001.tif": b"x"},
        "Unsure; expected Normal, Benign, InSitu, Invasive",
    ),
    (
        {k.replace("Photos", "Pictures"): v for k, v in TRAINING.items()},
        "holds no ICIAR2018_BACH_Challenge/Photos",
    ),
    (without(made_bach.TRUTH), "lacks microscopy_ground_truth.csv"),
    (
        truth("b001.tif,Benign", "b001.tif,InSitu"),
        "differ for 1 images(.|\n)*b001.tif: table InSitu, folder Benign",
    ),
    (
        truth("b001.tif,Benign\n", ""),
        "differ for 1 images(.|\n)*b001.tif: table None, folder Benign",
    ),
    (
        replaced(FIRST, encoded(WIDTH, HEIGHT)),
        r"1 photos in .*Photos/? are not 8 x 6 pixels: n001.tif \(6 x 8\)",
    ),
    (replaced(FIRST, b"no image"), "n001.tif is no TIFF"),
    (replaced(FIRST, b""), "n001.tif is no TIFF"),
    (replaced(FIRST, claiming(100_000)), "n001.tif has too many pixels"),
    (replaced(FIRST, claiming(9_000)), r"not 8 x 6 pixels: n001.tif \(9000 x 9000\)"),
    (replaced(FIRST, bytes(2_000_000)), "n001.tif has 2000000 bytes, expected 1048768 at most"),
    (
        replaced(made_bach.TRUTH, bytes(2_000_000)),
        "ground_truth.csv has 2000000 bytes, expected 1048576 at most",
    ),
]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("made", "message"), SET)
def test_wrong_photos_are_refused_zipped_or_not(tmp_path, zipped, made, message):
    if zipped and "readme.txt" not in made:
        made_bach.write_zip(tmp_path, made_bach.TRAINING, made)
    else:
        made_bach.write_folder(tmp_path, made)
    with pytest.raises(InputError, match=message) as refusal:
        check(tmp_path)
    assert str(refusal.value).count("\n") <= 1


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/etc/evil", "C:/evil", "a\\..\\..\\evil"]
)
def test_a_zip_with_names_that_lead_out_of_it_is_refused(tmp_path, name):
    made_bach.write_zip(tmp_path, made_bach.TRAINING, TRAINING)
    with zipfile.ZipFile(tmp_path / f"{made_bach.TRAINING}.zip", "a") as archive:
        archive.writestr(name, b"")
    with pytest.raises(InputError, match="a name that leads out of its folder"):
        check(tmp_path)


def damaged(archive: Path, change) -> None:
    content = bytearray(archive.read_bytes())
    archive.write_bytes(change(content))


def cut(content: bytearray) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytearray) -> bytes:
    """With a bit of the first photo's pixels turned over."""
    place = content.index(TRAINING[FIRST]) + 20
    content[place] ^= 1
    return content


def understated(content: bytearray) -> bytes:
    """With half the size of the first photo, in the directory at the end."""
    place = content.rindex(FIRST.encode()) - 22
    size = int.from_bytes(content[place : place + 4], "little")
    content[place : place + 4] = (size // 2).to_bytes(4, "little")
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "zip is no zip file, or is cut short"),
        (lambda content: b"", "zip is no zip file, or is cut short"),
        (flipped, "n001.tif cannot be read \\(Bad CRC-32"),
        (understated, "n001.tif cannot be read \\(Bad CRC-32"),
    ],
)
def test_a_damaged_zip_is_refused(tmp_path, change, message):
    with zipfile.ZipFile(
        tmp_path / f"{made_bach.TRAINING}.zip", "w", zipfile.ZIP_STORED
    ) as archive:
        for name, content in TRAINING.items():
            archive.writestr(name, content)
    check(tmp_path)
    damaged(tmp_path / f"{made_bach.TRAINING}.zip", change)
    with pytest.raises(InputError, match=message):
        check(tmp_path)


def test_an_encrypted_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / f"{made_bach.TRAINING}.zip", "w") as archive:
        for name, content in TRAINING.items():
            archive.writestr(name, content)
        archive.getinfo(LAST).flag_bits |= 1
    with pytest.raises(InputError, match=r"is encrypted \(.*iv100.tif\)"):
        check(tmp_path)


def test_the_test_photos_are_checked_too(manual, tmp_path):
    shutil.copy(manual / f"{made_bach.TRAINING}.zip", tmp_path)
    made = made_bach.unlabelled()
    del made[f"{made_bach.TEST}/Photos/test7.tif"]
    made_bach.write_zip(tmp_path, made_bach.TEST, made)
    with pytest.raises(InputError, match="from test0.tif to test99.tif; missing: test7.tif"):
        build(tmp_path, tmp_path / "data")


def test_the_pixels_of_a_png_are_those_of_the_photo(tmp_path):
    pixels = made_bach.noise(3, 40, 30)
    (tmp_path / "a.tif").write_bytes(made_bach.tif(pixels))
    photo = Member(tmp_path / "a.tif", 10_000, "")
    again = np.array(Image.open(io.BytesIO(bach_dataset_builder._to_png(photo))))
    np.testing.assert_array_equal(again, pixels)
