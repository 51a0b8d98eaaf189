"""What tells the classes apart without a look at the tissue is a problem."""

import re

import pytest

from histojax.inspection import confounding
from histojax.inspection.findings import PROBLEM, ImageSet
from tests.inspection.test_checks import an_image

LABELS = ("a",) * 8 + ("b",) * 8


def messages(of_a: list[dict], of_b: list[dict], labels=LABELS, groups=None) -> list[str]:
    images = tuple(an_image(**known) for known in (*of_a, *of_b))
    names = tuple(f"{i}.png" for i in range(len(images)))
    found = confounding.check(ImageSet(names, images, labels, groups))
    assert all((one.severity, one.kind) == (PROBLEM, "confounded") for one in found)
    return [one.message for one in found]


@pytest.mark.parametrize(
    ("of_a", "of_b", "start"),
    [
        ({"size": (10, 20)}, {"size": (30, 40)}, "The size alone .*a: 20 x 10 px; b: 40 x 30 px"),
        ({"mpp": 0.25}, {"mpp": 0.5}, "The pixel size alone .*a: 0.25 µm; b: 0.5 µm"),
        ({"file_format": ("JPEG", "RGB")}, {}, "The file format alone .*a: JPEG, RGB; b: PNG, RGB"),
        ({"blur": 0.3}, {"blur": 0.6}, r"The blur alone .*a: 0.3 to 0.3; b: 0.6 to 0.6"),
        ({"white": (200, 230, 200)}, {}, "The brightness of the background alone"),
    ],
)
def test_a_property_that_no_two_classes_share_is_told(of_a, of_b, start):
    (message,) = messages([of_a] * 8, [of_b] * 8)
    assert re.match(start, message)
    # One image of the other kind, and it tells no more; nor do few images, which may by chance.
    assert messages([of_a] * 7 + [of_b], [of_b] * 8) == []
    assert messages([of_a] * 3, [of_b] * 3, ("a",) * 3 + ("b",) * 3) == []


def test_images_that_all_differ_tell_nothing():
    sizes = [{"size": (100 + i, 200)} for i in range(16)]
    assert messages(sizes[:8], sizes[8:]) == []


def test_one_class_or_none_has_nothing_to_tell_apart():
    assert messages([{}] * 8, [{"mpp": 0.5}] * 8, ("a",) * 16) == []
    assert messages([{}] * 8, [{"mpp": 0.5}] * 8, ("",) * 16) == []


def test_images_of_a_patient_are_alike_by_themselves():
    of_a, of_b = [{"blur": 0.3}] * 8, [{"blur": 0.6}] * 8
    assert messages(of_a, of_b, groups=("p", "q") * 4 + ("r", "s") * 4) == []
    assert len(messages(of_a, of_b, groups=tuple(f"p{i}" for i in range(16)))) == 1
    assert len(messages(of_a, of_b, groups=("",) * 16)) == 1
