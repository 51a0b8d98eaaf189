"""A folder spoiled in every way: each fault is found, by its name, and nothing else is."""

import shutil

import pytest
import tifffile

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.inspection import image_quality, inspection
from histojax.inspection.findings import NOTE, PROBLEM, Finding
from histojax.inspection.inspection import Inspection, Options
from tests.inspection.conftest import MARKUP

pytestmark = pytest.mark.usefixtures("small_copies")

SMALL = Extraction(views=(View(0.5, 64),))


@pytest.fixture(scope="module")
def inspected(spoiled, small_copies) -> Inspection:
    return inspection.inspect(spoiled, SMALL)


def about(inspected: Inspection, kind: str, severity: str | None = None) -> set[str]:
    """Names of the images that findings of a kind are about."""
    return {
        inspected.image_set.names[i].split("/")[-1]
        for finding in inspected.findings
        if finding.kind == kind and severity in (None, finding.severity)
        for i in finding.indices
    }


def only(inspected: Inspection, kind: str) -> Finding:
    (finding,) = [finding for finding in inspected.findings if finding.kind == kind]
    return finding


def test_nothing_is_wrong_with_what_is_clean(clean):
    inspected = inspection.inspect(str(clean), SMALL, Options(folds=6))
    assert [finding.kind for finding in inspected.findings] == ["no groups"]
    assert inspected.classes == ("benign", "malignant")
    assert inspected.image_set.labels == ("benign",) * 6 + ("malignant",) * 6
    assert inspected.recommendation.folds == 6
    assert "Positive class: malignant (" in inspected.recommendation.why[-1]
    assert [command.split()[1] for command in inspected.commands] == [
        "extract",
        "train",
        "evaluate",
    ]
    assert "--positive_classes" not in inspected.commands[2]


def test_a_question_on_groups_is_a_finding_and_no_command_is_shown(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    rows = [f"image{i:02d}.png,{'AB'[i // 6]},{i // 2},{i // 3}" for i in range(12)]
    table = tmp_path / "data" / "t.csv"
    table.write_text("\n".join(["image,label,patient,slide", *rows]))
    inspected = inspection.inspect(table, SMALL)
    assert "--group_column=patient" in only(inspected, "refused").message
    assert inspected.commands == ()
    assert inspected.recommendation.why[0].startswith("First settle what is refused")
    assert (inspected.name, len(inspected.image_set.images)) == ("t", 12)
    answered = inspection.inspect(table, SMALL, Options(group_column="patient", folds=3))
    assert any("6 patients, 12 images" in finding.message for finding in answered.findings)
    assert "--group_column=patient" in answered.commands[1]
    assert "--positive_classes=CLASS" in answered.commands[2]  # A and B do not tell.


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "unreadable",
            {"sixteen.tif", "pages.tif", "cut.png", "empty.png", "text.jpg", "bomb.png"},
        ),
        ("pages", {"pyramid.tif"}),
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
    ("name", "reason"),
    [
        ("sixteen.tif", "has 16 bits per sample"),
        ("pages.tif", "has 2 pages"),
        ("cut.png", "is damaged or cut short"),
        ("empty.png", "is no TIFF, PNG, JPEG, BMP or WebP image"),
        ("text.jpg", "is no TIFF, PNG, JPEG, BMP or WebP image"),
        ("bomb.png", "has too many pixels"),
    ],
)
def test_each_unreadable_file_has_its_reason(inspected, name, reason):
    details = only(inspected, "unreadable").details
    assert any(detail.startswith(f"malignant/{name}: {reason}") for detail in details)


def test_problems_come_before_notes(inspected):
    severities = [finding.severity for finding in inspected.findings]
    assert severities == sorted(severities, reverse=True)
    assert set(severities) == {PROBLEM, NOTE}


def test_flat_folders_and_single_classes(clean, tmp_path):
    flat = inspection.inspect(clean / "benign", SMALL)
    assert (flat.classes, flat.findings, flat.recommendation.folds) == ((), (), None)
    assert flat.commands[0].startswith("histojax extract --images=")
    shutil.copytree(clean / "benign", tmp_path / "benign")
    refused = only(inspection.inspect(tmp_path, SMALL), "refused")
    assert "only one class" in refused.message


def test_the_groups_of_a_label_table_decide_the_folds(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    table = tmp_path / "data" / "labels.csv"
    rows = [
        f"image{i:02d}.png,{'no' if i < 6 else 'yes'},{'pqr'[i % 3] if i else ''}"
        for i in range(12)
    ]
    table.write_text("\n".join(["image,label,group", *rows]) + "\n")
    inspected = inspection.inspect(table, SMALL)
    assert inspected.classes == ("no", "yes")
    messages = [finding.message for finding in inspected.findings]
    assert any("3 groups of 3 in several classes" in message for message in messages)
    assert about(inspected, "group") == {"image00.png"}
    # Image 0, of unknown group, is a group of its own.
    assert inspected.recommendation.folds == 4
    assert only(inspected, "folds").severity == PROBLEM
    assert f"--data={table}" in inspected.commands[1]


def test_groups_of_another_table(clean, tmp_path):
    table = tmp_path / "patients.csv"
    rows = [f"image{i:02d}.png,p{i // 2}\n" for i in range(12)]
    table.write_text("image,patient\n" + "".join(rows))
    inspected = inspection.inspect(clean, SMALL, Options(groups=table, folds=3))
    assert set(inspected.image_set.groups) == {f"p{i}" for i in range(6)}
    assert f"--groups={table}" in inspected.commands[1]
    table.write_text("nothing,here\n1,2\n")
    refused = only(inspection.inspect(clean, SMALL, Options(groups=table)), "group")
    assert "names no image of the data" in refused.message


def test_names_are_quoted_in_the_commands(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "a folder; rm -rf $HOME")
    inspected = inspection.inspect(tmp_path / "a folder; rm -rf $HOME", SMALL)
    assert f"'--data={tmp_path}/a folder; rm -rf $HOME'" in inspected.commands[0]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_there_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "slide.vsi").write_bytes(b"?")
    (tmp_path / "empty" / "notes.docx").write_bytes(b"?")
    message = (
        "is not there" if name == "nowhere" else r"holds no image: .*vsi is a slide.* 1 \.docx"
    )
    with pytest.raises(InputError, match=message):
        inspection.inspect(tmp_path / name, SMALL)


def test_pixel_sizes_of_files_are_read_and_mixed_ones_flagged(tissue, tmp_path):
    for i, mpp in enumerate((0.25, 0.5)):
        resolution = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(tmp_path / f"{i}.tif", tissue[i], photometric="rgb", **resolution)
    inspected = inspection.inspect(tmp_path, Extraction(views=(View(0.5, 32),)))
    assert [image.mpp for image in inspected.image_set.images] == pytest.approx([0.25, 0.5])
    assert "from 0.25 to 0.5 µm" in only(inspected, "pixel size").message
    resampled = inspection.inspect(tmp_path, Extraction(views=(View(0.5, 64),), target_mpp=0.84))
    # The first has 160 x 0.25 / 0.42 = 95 rows, 48 at scale 0.5; the second 95.
    assert about(resampled, "crop") == {"0.tif"}
    of_user = inspection.inspect(tmp_path, SMALL, Options(mpp=0.3))
    assert [image.mpp for image in of_user.image_set.images] == [0.3, 0.3]
    assert "--mpp=0.3" in of_user.commands[0] or not of_user.recommendation.target_mpp


def test_real_fields_have_no_fault_of_their_own(shared_data, monkeypatch):
    monkeypatch.setattr(image_quality, "SIDE", 512)
    inspected = inspection.inspect(shared_data / "fields", Extraction(views=(View(0.5, 192),)))
    assert {finding.kind for finding in inspected.findings} == {"converted"}
    assert inspected.commands[0].endswith("--views=0.5-192,0.5-320")
