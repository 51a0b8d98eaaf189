"""Images are discovered in untidy folders and tables; what training does not see is a finding."""

import shutil

import pytest

from histojax.errors import InputError
from histojax.inspection import discovery
from histojax.inspection.discovery import DiscoveredImages
from histojax.inspection.findings import NOTE, PROBLEM, Finding


def only(discovered: DiscoveredImages, kind: str) -> Finding:
    (finding,) = [finding for finding in discovered.findings if finding.kind == kind]
    return finding


def test_images_are_in_the_order_of_classes_and_names(clean):
    discovered = discovery.discover(clean, ("malignant", "benign"))
    assert discovered.labels == ("malignant",) * 6 + ("benign",) * 6
    assert discovered.names[:2] == ("malignant/image06.png", "malignant/image07.png")
    assert discovered.groups is None
    assert [(finding.severity, finding.kind) for finding in discovered.findings] == [
        (NOTE, "no groups")
    ]


def test_what_training_does_not_see_is_told(spoiled):
    discovered = discovery.discover(spoiled)
    elsewhere = only(discovered, "elsewhere")
    assert elsewhere.severity == PROBLEM
    assert elsewhere.details == ("loose.png",)
    assert "benign/deeper/deep.png" in discovered.names
    assert only(discovered, "data").message.startswith(
        "1 image in folders below the class folders (deeper) read with the others"
    )
    assert only(discovered, "other files").message == "1 file not read as images: 1 .docx."
    not_read = only(discovered, "not read")
    assert (not_read.severity, len(not_read.details)) == (PROBLEM, 1)
    assert not_read.details[0].startswith("slide.vsi is a slide or microscope's file of a kind")


def test_a_file_name_may_be_there_twice(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    shutil.copy(tmp_path / "data/benign/image00.png", tmp_path / "data/malignant/image00.png")
    discovered = discovery.discover(tmp_path / "data")
    assert len(discovered.names) == 13
    assert {finding.kind for finding in discovered.findings} == {"no groups"}


def test_a_table_beside_class_folders_is_used_for_groups_or_read_instead(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    table = tmp_path / "data" / "labels.csv"
    rows = [f"image{i:02d}.png,{'no' if i < 6 else 'yes'},{'pq'[i % 2]}" for i in range(12)]
    table.write_text("\n".join(["image,label,group", *rows, "absent.png,no,p"]) + "\n")
    beside = discovery.discover(table.parent)
    assert beside.groups == tuple("pq" * 6)
    assert only(beside, "data").message == (
        "Column group of labels.csv, beside the class folders, keeps images of one group together: "
        "2 groups, 12 images."
    )
    discovered = discovery.discover(table)
    assert "absent.png (not found)" in only(discovered, "refused").details[0]
    assert discovered.labels == ("no",) * 6 + ("yes",) * 6
    assert discovered.groups == tuple("pq" * 6)


def test_images_that_a_table_does_not_name_are_a_note(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    table = tmp_path / "data" / "labels.csv"
    rows = [f"image{i:02d}.png,{'no' if i < 6 else 'yes'}" for i in range(2, 12)]
    table.write_text("\n".join(["image,label", *rows]) + "\n")
    elsewhere = only(discovery.discover(table), "elsewhere")
    assert elsewhere.severity == NOTE
    assert elsewhere.message.startswith("2 images beside those ")


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a folder of images, or a label table"):
        discovery.discover(tmp_path / "nowhere")
