"""Where each check draws its line; test_inspection has them on files."""

from pathlib import Path

import numpy as np
import pytest

from histojax.config import Extraction, View
from histojax.inspection import checks, near_duplicates
from histojax.inspection.findings import NOTE, PROBLEM, ImageSet
from histojax.inspection.image_quality import ImageQuality, InspectedImage

OF_FILE = {"size": (1536, 2048), "file_format": ("PNG", "RGB"), "mpp": None, "error": ""}
OF_QUALITY = {
    "thumbnail": "",
    "tissue_fraction": 0.4,
    "stain_status": 0,
    "stain_angle": 30.0,
    "white": (250.0, 250.0, 250.0),
    "absorbed": (0.33, 0.51, 0.16),
    "clipped": 0.0,
    "blur": 0.4,
}


def an_image(**known) -> InspectedImage:
    """A good image, but for what is known of it."""
    of_file = OF_FILE | {name: known[name] for name in known if name in OF_FILE}
    sha256 = known.get("sha256", str(known))
    fingerprint = near_duplicates.fingerprint(np.zeros((64, 64, 3), np.uint8), sha256)
    of_quality = {name: known[name] for name in known if name in OF_QUALITY}
    quality = ImageQuality(fingerprint=fingerprint, **OF_QUALITY | of_quality)
    return InspectedImage(Path("a.png"), quality=quality, **of_file)


def findings_about(
    *images: InspectedImage, labels=None, groups=None, target_mpp=0.0
) -> list[tuple[str, str, tuple[int, ...]]]:
    """Severity, kind and images of each finding."""
    names = tuple(f"{i}.png" for i in range(len(images)))
    image_set = ImageSet(names, images, labels or ("",) * len(images), groups)
    return [
        (finding.severity, finding.kind, finding.indices)
        for finding in checks.run_checks(
            image_set, Extraction(views=(View(0.5, 400),), target_mpp=target_mpp)
        )
    ]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, []),
        ({"absorbed": (0.45, 0.42, 0.13)}, []),  # The bluest of the real fields.
        ({"absorbed": (0.33, 0.37, 0.30)}, [(PROBLEM, "colour")]),
        ({"absorbed": (0.17, 0.40, 0.43)}, [(PROBLEM, "colour")]),
        # Too little tissue to judge by.
        ({"absorbed": (0.0, 0.2, 0.8), "tissue_fraction": 0.01}, []),
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
def test_where_the_checks_draw_the_line(known, expected):
    assert [finding[:2] for finding in findings_about(an_image(**known))] == expected


def test_what_is_unlike_the_rest_takes_a_rest_to_tell():
    alike = [an_image(sha256=str(i)) for i in range(8)]
    other = an_image(absorbed=(0.25, 0.47, 0.28))
    assert findings_about(*alike, other) == [(NOTE, "colour", (8,))]
    assert findings_about(*alike[:6], other) == []
    assert findings_about(*alike, an_image(absorbed=(0.30, 0.50, 0.20))) == []
    assert findings_about(*alike, an_image(blur=0.55)) == [(NOTE, "blurred", (8,))]
    assert findings_about(*alike, an_image(blur=0.49)) == []


def test_all_images_alike_are_told_once():
    small = [an_image(sha256=str(i), size=(500, 500), blur=0.6) for i in range(3)]
    assert findings_about(*small) == [(PROBLEM, "crop", ()), (NOTE, "blurred", ())]


def test_copies_within_a_group_are_harmless():
    same = [an_image(sha256="x"), an_image(sha256="x")]
    duplicate = (PROBLEM, "duplicate", (0, 1))
    assert findings_about(*same, groups=("p", "p")) == [(NOTE, "duplicate", (0, 1))]
    assert findings_about(*same, groups=("p", "q")) == [duplicate]
    assert findings_about(*same, groups=("", ""))[0] == duplicate
    assert findings_about(*same, groups=None)[0] == duplicate
    in_two_classes = findings_about(*same, labels=("a", "b"), groups=("p", "p"))
    assert in_two_classes[0] == (PROBLEM, "conflict", (0, 1))


def test_a_class_of_one_group_cannot_be_held_out():
    images = [an_image(sha256=str(i)) for i in range(3)]
    one_group = findings_about(*images, labels=("a", "a", "b"), groups=("p", "q", "r"))
    assert one_group == [(PROBLEM, "group", ())]
    unknown_group = findings_about(*images, labels=("a", "a", "a"), groups=("p", "q", ""))
    assert unknown_group == [(NOTE, "group", (2,))]


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
    images = [an_image(sha256=str(i), mpp=mpp) for i, mpp in enumerate(mpps)]
    findings = findings_about(*images, target_mpp=target)
    about_size = [(severity, i) for severity, kind, i in findings if kind == "pixel size"]
    assert about_size == expected


def test_images_that_a_view_in_microns_cannot_take_are_named():
    images = [an_image(sha256=str(i), mpp=mpp) for i, mpp in enumerate((0.25, None, 0.8, 0.55))]
    image_set = ImageSet(tuple("abcd"), images, ("",) * 4, None)
    extraction = Extraction(views=(View.in_microns(0.5, 224),))
    found = [f for f in checks.run_checks(image_set, extraction) if f.kind == "pixel size"]
    assert [(finding.severity, finding.indices) for finding in found] == [
        (PROBLEM, (2,)),
        (PROBLEM, (1,)),
    ]
    assert "view of 0.5mpp would enlarge more than 1.2 x" in found[0].message
    assert "which 0.5mpp-224 needs: pass --mpp" in found[1].message
