"""A folder spoiled in every way: each fault is found, by its name, and nothing else is; and the rules by themselves."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter

from histojax.config import Extraction, View
from histojax.datasets import synthetic
from histojax.errors import InputError
from histojax.inspection import checks, image_quality, inspection
from histojax.inspection.checks import NOTE, PROBLEM, ImageSet
from histojax.inspection.image_quality import ImageQuality, InspectedImage
from histojax.ops import stain
from tests import samples

SMALL = Extraction(views=(View(0.5, 64),))
HEIGHT, WIDTH = 160, 192
MARKUP = "<img src=x onerror=alert(1)> & 'q'.png"


@pytest.fixture(scope="session")
def tissue() -> list[np.ndarray]:
    return [
        synthetic.render(label, seed, HEIGHT, WIDTH)
        for label in ("Benign", "Invasive")
        for seed in range(6)
    ]


def save(rgb: np.ndarray, path: Path, **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb.astype(np.uint8)).save(path, **how)


def bomb() -> bytes:
    """A PNG that claims 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    size = (100_000).to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + size + b"\x08\x02\0\0\0")
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="session")
def clean(tissue, tmp_path_factory) -> Path:
    """Two classes of six images."""
    root = tmp_path_factory.mktemp("clean")
    for i, rgb in enumerate(tissue):
        save(rgb, root / ("benign" if i < 6 else "malignant") / f"image{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def spoiled(clean, tissue, tmp_path_factory) -> Path:
    """The same, with everything wrong that we know of."""
    root = tmp_path_factory.mktemp("spoiled") / "data"
    shutil.copytree(clean, root)
    a, b = root / "benign", root / "malignant"
    save(np.full_like(tissue[0], 243), a / "blank.png")
    save(tissue[0] * np.array([[[0.72, 1, 0.68]]]), a / "greenish.png")
    save(np.array(Image.fromarray(tissue[1]).convert("L").convert("RGB")), a / "grey.png")
    save(tissue[2] * 0.5, a / "dark.png")
    save(np.clip(tissue[3] * 1.4, 0, 255), a / "bright.png")
    Image.fromarray(tissue[4]).filter(ImageFilter.GaussianBlur(3)).save(a / "blurred.png")
    save(tissue[5][:100, :110], a / "tiny.png")
    save(tissue[6], b / "jpeg.png", format="JPEG")
    Image.fromarray(tissue[7]).convert("RGBA").save(b / "alpha.png")
    save(np.rot90(tissue[1]), b / "turned.png")
    shutil.copy(b / "image08.png", b / MARKUP)
    tifffile.imwrite(b / "sixteen.tif", tissue[9].astype(np.uint16), photometric="rgb")
    pages = [Image.fromarray(rgb) for rgb in tissue[9:11]]
    pages[0].save(b / "pages.tif", save_all=True, append_images=pages[1:])
    with tifffile.TiffWriter(b / "pyramid.tif") as pyramid:
        pyramid.write(tissue[11], photometric="rgb", tile=(64, 64))
        pyramid.write(tissue[11][::2, ::2], photometric="rgb", tile=(64, 64), subfiletype=1)
    (b / "cut.png").write_bytes((b / "image09.png").read_bytes()[:9000])
    (b / "empty.png").write_bytes(b"")
    (b / "text.jpg").write_text("no image")
    (b / "bomb.png").write_bytes(bomb())
    (root / "slide.svs").write_bytes(b"?")
    (root / ".hidden.svs").write_bytes(b"?")
    save(tissue[0], root / ".thumbnails" / "hidden.png")
    save(tissue[0], root / "loose.png")
    save(tissue[0], a / "deeper" / "deep.png")
    return root


@pytest.fixture(scope="session")
def inspected(spoiled):
    return inspection.inspect(spoiled, SMALL)


def about(found, kind: str, severity: str | None = None) -> set[str]:
    """Names of the images that findings of a kind are about."""
    return {
        found.image_set.names[i].split("/")[-1]
        for finding in found.findings
        if finding.kind == kind and severity in (None, finding.severity)
        for i in finding.indices
    }


def only(found, kind: str):
    (finding,) = [finding for finding in found.findings if finding.kind == kind]
    return finding


def test_nothing_is_wrong_with_what_is_clean(clean):
    found = inspection.inspect(clean, SMALL, most_folds=6)
    assert found.findings == ()
    assert found.classes == ("benign", "malignant")
    assert found.image_set.labels == ("benign",) * 6 + ("malignant",) * 6
    assert found.recommendation.folds == 6


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "unreadable",
            {"sixteen.tif", "pages.tif", "cut.png", "empty.png", "text.jpg", "bomb.png"},
        ),
        ("field", {"pyramid.tif"}),
        ("blank", {"blank.png"}),
        ("crop", {"tiny.png"}),
        ("dark", {"dark.png"}),
        ("clipped", {"bright.png"}),
        ("blurred", {"blurred.png"}),
        ("ending", {"jpeg.png"}),
        ("converted", {"alpha.png"}),
        ("cast", {"greenish.png"}),
    ],
)
def test_each_fault_is_found_and_no_other_image_has_it(inspected, kind, names):
    assert about(inspected, kind) == names


def test_colours_unlike_hematoxylin_and_eosin_are_a_problem(inspected):
    assert about(inspected, "colour", PROBLEM) == {"greenish.png", "grey.png"}


def test_the_same_image_in_two_classes_is_told_apart_from_a_copy_in_one(inspected):
    assert about(inspected, "conflict") == {"turned.png", "image01.png", "grey.png"}
    assert {MARKUP, "image08.png", "jpeg.png", "image06.png", "bright.png"} <= about(
        inspected, "duplicate", PROBLEM
    )
    assert not about(inspected, "duplicate") & {"image10.png", "blank.png"}


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("sixteen.tif", "has 16 bits per sample"),
        ("pages.tif", "has 2 pages"),
        ("cut.png", "is damaged or cut short"),
        ("empty.png", "is no TIFF, PNG or JPEG image"),
        ("text.jpg", "is no TIFF, PNG or JPEG image"),
        ("bomb.png", "has too many pixels"),
    ],
)
def test_each_cause_is_told(inspected, name, cause):
    assert any(
        detail.startswith(f"malignant/{name}: {cause}")
        for detail in only(inspected, "unreadable").details
    )


def test_what_training_does_not_see_is_told(inspected):
    assert only(inspected, "elsewhere").details == ("benign/deeper/deep.png", "loose.png")
    assert "1 .svs" in only(inspected, "other files").message


def test_problems_come_before_notes(inspected):
    severities = [finding.severity for finding in inspected.findings]
    assert severities == sorted(severities, reverse=True)
    assert set(severities) == {PROBLEM, NOTE}


def test_a_name_that_is_there_twice_is_what_training_would_say(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    shutil.copy(tmp_path / "data/benign/image00.png", tmp_path / "data/malignant/image00.png")
    found = inspection.inspect(tmp_path / "data", SMALL)
    assert only(found, "refused").message.startswith(
        "Training refuses this folder: image names must be unique"
    )
    assert len(found.image_set.names) == 13


def test_flat_folders_and_single_classes(clean, tmp_path):
    flat = inspection.inspect(clean / "benign", SMALL)
    assert (flat.classes, flat.findings, flat.recommendation.folds) == ((), (), None)
    assert flat.commands[0].startswith("histojax extract --images=")
    shutil.copytree(clean / "benign", tmp_path / "benign")
    assert "only one class" in only(inspection.inspect(tmp_path, SMALL), "refused").message


def test_a_table_beside_class_folders_is_pointed_to_and_read(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    table = tmp_path / "data" / "labels.csv"
    rows = [
        f"image{i:02d}.png,{'no' if i < 6 else 'yes'},{'pqr'[i % 3] if i else ''}"
        for i in range(12)
    ]
    table.write_text("\n".join(["image,label,group", *rows, "absent.png,no,p"]) + "\n")
    assert (
        "labels.csv has groups (patients or slides) of 12 of the images"
        in only(inspection.inspect(table.parent, SMALL), "table").message
    )
    found = inspection.inspect(table, SMALL)
    assert "absent.png (not found)" in only(found, "refused").details[0]
    assert found.classes == ("no", "yes")
    assert any("3 groups of 3 in several classes" in finding.message for finding in found.findings)
    assert about(found, "group") == {"image00.png"}
    # Image 0, of unknown group, is one of its own.
    assert (found.recommendation.folds, only(found, "folds").severity) == (4, PROBLEM)
    assert f"--data={table}" in found.commands[1]


def test_groups_of_another_table(clean, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text(
        "image,patient\n" + "".join(f"image{i:02d}.png,p{i // 2}\n" for i in range(12))
    )
    found = inspection.inspect(clean, SMALL, table=table, most_folds=3)
    assert set(found.image_set.groups) == {f"p{i}" for i in range(6)}
    assert f"--groups={table}" in found.commands[1]
    table.write_text("nothing,here\n1,2\n")
    assert (
        "names no image of the data"
        in only(inspection.inspect(clean, SMALL, table=table), "group").message
    )


def test_names_are_quoted_in_the_commands(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "a folder; rm -rf $HOME")
    found = inspection.inspect(tmp_path / "a folder; rm -rf $HOME", SMALL)
    assert f"'--data={tmp_path}/a folder; rm -rf $HOME'" in found.commands[0]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_there_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "slide.svs").write_bytes(b"?")
    with pytest.raises(
        InputError, match="is not there" if name == "nowhere" else r"holds no image: .* 1 \.svs"
    ):
        inspection.inspect(tmp_path / name, SMALL)


def test_pixel_sizes_of_files_are_read_and_mixed_ones_flagged(tissue, tmp_path):
    for i, mpp in enumerate((0.25, 0.5)):
        resolution = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(tmp_path / f"{i}.tif", tissue[i], photometric="rgb", **resolution)
    found = inspection.inspect(tmp_path, Extraction(views=(View(0.5, 32),)))
    assert [look.mpp for look in found.image_set.images] == pytest.approx([0.25, 0.5])
    assert "from 0.25 to 0.5 µm" in only(found, "pixel size").message
    resampled = inspection.inspect(tmp_path, Extraction(views=(View(0.5, 64),), target_mpp=0.84))
    # The first has 160 x 0.25 / 0.42 = 95 rows, 48 at scale 0.5; the second 95.
    assert about(resampled, "crop") == {"0.tif"}
    told = inspection.inspect(tmp_path, SMALL, mpp=0.3)
    assert [look.mpp for look in told.image_set.images] == [0.3, 0.3]
    assert "--mpp=0.3" in told.commands[0] or not told.recommendation.target_mpp


def test_a_large_image_is_read_by_region_and_measures_the_same(tissue, tmp_path, monkeypatch):
    path = tmp_path / "field.tif"
    big = np.tile(tissue[0], (4, 4, 1))
    tifffile.imwrite(path, big, photometric="rgb", tile=(128, 128), compression="deflate")
    whole = image_quality.inspect_image(path)
    monkeypatch.setattr(image_quality, "WHOLE", 1000)
    monkeypatch.setattr(image_quality.reader, "read", None)  # Reading it whole would fail.
    by_region = image_quality.inspect_image(path)
    np.testing.assert_array_equal(by_region.quality.fingerprint, whole.quality.fingerprint)
    assert by_region.size == (4 * HEIGHT, 4 * WIDTH)
    assert by_region.quality.clipped == whole.quality.clipped


def test_tissue_and_status_are_those_of_the_stain_step(tissue):
    share, status, angle = image_quality.stained(tissue[3])
    quality = stain.normalize_with_quality(tissue[3])[1]
    assert share == pytest.approx(float(quality.tissue_fraction), abs=1e-6)
    assert (status, angle) == (
        int(quality.status),
        pytest.approx(float(quality.stain_angle), abs=0.01),
    )
    assert image_quality.stained(np.full((40, 50, 3), 250, np.uint8)) == (0.0, 1, None)


def test_colours_by_hand():
    picture = np.full((20, 20, 3), 255, np.uint8)
    picture[:10] = [120, 60, 200]
    picture[10, :3] = [240, 60, 60]  # No tissue: red is hardly absorbed.
    assert image_quality.white(picture) == (255, 255, 255)
    density = np.log(240 / np.array([121, 61, 201]))
    assert image_quality.absorbed(picture) == pytest.approx(density / density.sum(), abs=1e-6)
    assert image_quality.absorbed(picture[10:]) is None
    picture[0, :5, 0], picture[1, :3, 1] = 255, 0
    assert image_quality.clipped(picture) == 8 / 400


def made(**of_image) -> InspectedImage:
    """A look at a good image, but for what is given."""
    measured = {
        "sha256": str(of_image),
        "fingerprint": np.zeros((32, 32), np.float32),
        "thumbnail": "",
        "tissue_fraction": 0.4,
        "stain_status": 0,
        "stain_angle": 30.0,
        "white": (250.0, 250.0, 250.0),
        "absorbed": (0.33, 0.51, 0.16),
        "clipped": 0.0,
        "blur": 0.4,
    }
    of_file = {"size": (1536, 2048), "file_format": ("PNG", "RGB"), "mpp": None, "error": ""}
    of_file |= {name: value for name, value in of_image.items() if name in of_file}
    quality = ImageQuality(
        **measured | {name: value for name, value in of_image.items() if name in measured}
    )
    return InspectedImage(Path("a.png"), quality=quality, **of_file)


def kinds(
    *given: InspectedImage, labels=None, groups=None, target_mpp=0.0
) -> list[tuple[str, str, tuple[int, ...]]]:
    subject = ImageSet(
        tuple(f"{i}.png" for i in range(len(given))), given, labels or ("",) * len(given), groups
    )
    return [
        (each.severity, each.kind, each.indices)
        for each in checks.run_checks(subject, (View(0.5, 400),), target_mpp)
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"absorbed": (0.45, 0.42, 0.13)}, []),  # The bluest of the real fields.
        ({"absorbed": (0.33, 0.37, 0.30)}, [(PROBLEM, "colour")]),
        ({"absorbed": (0.17, 0.40, 0.43)}, [(PROBLEM, "colour")]),
        ({"absorbed": (0.0, 0.2, 0.8), "tissue_fraction": 0.01}, []),  # Too little to judge by.
        ({"white": (250, 215, 240)}, []),  # Pale tissue.
        ({"white": (250, 195, 240)}, [(NOTE, "cast")]),
        ({"white": (250, 250, 229)}, [(NOTE, "cast")]),
        ({"white": (250, 250, 231)}, []),
        ({"white": (179, 179, 179)}, [(NOTE, "dark")]),
        ({"clipped": 0.06}, [(NOTE, "clipped")]),
        ({"stain_status": 1, "tissue_fraction": 0.01}, [(PROBLEM, "blank")]),
        ({"stain_status": 2, "stain_angle": 1.0}, [(PROBLEM, "stain")]),
        ({"blur": 0.6}, [(NOTE, "blurred")]),
        ({"file_format": ("JPEG", "L")}, [(NOTE, "ending"), (NOTE, "converted")]),
        ({"size": (799, 900)}, []),  # 400 px: round half to even, as everywhere.
        ({"size": (798, 900)}, [(PROBLEM, "crop")]),
    ],
)
def test_where_the_rules_draw_the_line(given, expected):
    assert [each[:2] for each in kinds(made(**given))] == expected


def test_what_is_unlike_the_rest_takes_a_rest_to_tell():
    alike = [made(sha256=str(i)) for i in range(8)]
    other = made(absorbed=(0.25, 0.47, 0.28))
    assert kinds(*alike, other) == [(NOTE, "colour", (8,))]
    assert kinds(*alike[:6], other) == []
    assert kinds(*alike, made(absorbed=(0.30, 0.50, 0.20))) == []
    assert kinds(*alike, made(blur=0.55)) == [(NOTE, "blurred", (8,))]
    assert kinds(*alike, made(blur=0.49)) == []


def test_all_images_alike_are_told_once():
    small = [made(sha256=str(i), size=(500, 500), blur=0.6) for i in range(3)]
    assert kinds(*small) == [(PROBLEM, "crop", ()), (NOTE, "blurred", ())]


def test_copies_within_a_group_are_harmless():
    same = [made(sha256="x"), made(sha256="x")]
    assert kinds(*same, groups=("p", "p")) == [(NOTE, "duplicate", (0, 1))]
    assert kinds(*same, groups=("p", "q")) == [(PROBLEM, "duplicate", (0, 1))]
    assert kinds(*same, groups=("", ""))[0] == (PROBLEM, "duplicate", (0, 1))
    assert kinds(*same, groups=None)[0] == (PROBLEM, "duplicate", (0, 1))
    assert kinds(*same, labels=("a", "b"), groups=("p", "p"))[0] == (PROBLEM, "conflict", (0, 1))


def test_a_class_of_one_group_cannot_be_held_out():
    given = [made(sha256=str(i)) for i in range(3)]
    assert kinds(*given, labels=("a", "a", "b"), groups=("p", "q", "r")) == [(PROBLEM, "group", ())]
    assert kinds(*given, labels=("a", "a", "a"), groups=("p", "q", "")) == [(NOTE, "group", (2,))]


@pytest.mark.parametrize(
    ("mpps", "target", "expected"),
    [
        ((None, None, None), 0, []),
        ((0.42, 0.43, 0.42), 0, []),
        ((0.42, 0.45, 0.42), 0, [(PROBLEM, ())]),
        ((0.42, 0.45, 0.42), 0.84, []),
        ((0.42, None, None), 0, [(NOTE, (0,))]),
        ((0.42, 0.42, None), 0, [(NOTE, (2,))]),
        ((0.42, 0.42, None), 0.84, [(PROBLEM, (2,))]),
    ],
)
def test_pixel_sizes(mpps, target, expected):
    given = [made(sha256=str(i), mpp=mpp) for i, mpp in enumerate(mpps)]
    found = kinds(*given, target_mpp=target)
    assert [
        (severity, places) for severity, kind, places in found if kind == "pixel size"
    ] == expected


def test_blur_tells_sharp_fields_from_blurred_ones():
    sharp = samples.tissue(0, 512, 512)
    soft = np.array(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(4)))
    assert (
        image_quality.measure(soft, soft, "").blur
        > image_quality.measure(sharp, sharp, "").blur + 0.1
    )


def test_real_fields_have_no_fault_of_their_own(shared_data):
    found = inspection.inspect(shared_data / "fields", Extraction(views=(View(0.5, 192),)))
    assert {finding.kind for finding in found.findings} == {"converted"}
    assert found.commands[0].endswith("--views=0.5-192,0.5-320")
