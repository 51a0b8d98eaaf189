"""What tells the classes apart without a look at the tissue is a problem."""

import re

import pytest

from histojax.inspection import confounding
from histojax.inspection.findings import NOTE, PROBLEM, ImageSet
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


def of_sites(sites: dict[str, str], labels: str, groups=None) -> list[tuple[str, str, str]]:
    names = tuple(f"{i}.png" for i in range(len(labels)))
    images = ImageSet(
        names,
        tuple(an_image() for _ in names),
        tuple(label.strip() for label in labels),
        groups,
        {column: tuple(each.strip() for each in of) for column, of in sites.items()},
    )
    return [(one.severity, one.kind, one.message) for one in confounding.check_sites(images)]


def test_a_class_that_goes_with_the_scanner_is_a_problem_and_any_other_a_note():
    labels = "a" * 12 + "b" * 12
    (scanner, day) = of_sites({"scanner": "S" * 11 + "T" * 13, "day": "xy" * 12}, labels)
    assert scanner[:2] == (PROBLEM, "confounded")
    assert re.match(r"The class goes with scanner \(Cramér's V 0.92, by chance 0.\d\d;", scanner[2])
    assert day[:2] == (NOTE, "site")
    assert day[2].startswith("The class does not go with day beyond chance")
    (alone,) = of_sites({"scanner": "S" * 12 + "T" * 12}, labels)
    assert alone[2].startswith("Each value of scanner has images of one class alone")


def test_patients_exchange_their_scanners_whole():
    labels, scanner = "a" * 12 + "b" * 12, "S" * 12 + "T" * 12
    few = tuple("pq"[i // 6] for i in range(12)) + tuple("rs"[i // 6] for i in range(12))
    (found,) = of_sites({"scanner": scanner}, labels, few)
    assert found[:2] == (PROBLEM, "confounded")  # Perfect, so it is said all the same.
    assert "though so few may be arranged so by chance" in found[2]
    (found,) = of_sites({"scanner": "S" * 11 + "T" * 13}, labels, few)
    assert found[:2] == (NOTE, "site")


def test_nothing_is_said_of_one_scanner_one_class_or_no_labels():
    assert of_sites({"scanner": "S" * 8}, "abababab") == []
    assert of_sites({"scanner": "STSTSTST"}, "a" * 8) == []
    assert of_sites({"scanner": "STSTSTST"}, " " * 8) == []
    assert of_sites({}, "abababab") == []
