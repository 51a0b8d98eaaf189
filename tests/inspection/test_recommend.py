"""The suggestion: the paper's protocol where it fits, else its proportions, and a split that can be made."""

from pathlib import Path

import pytest

from histojax.config import PAPER_VIEWS, View
from histojax.datasets import Dataset, folds
from histojax.inspection import recommend

BACH = (1536, 2048)


def suggest(sizes, mpps=None, target_mpp=0.0, dataset=None, most_folds=10):
    return recommend.recommend(
        sizes, mpps or [None] * len(sizes), target_mpp, dataset, most_folds, 0
    )


def labelled(*labels, groups=None) -> Dataset:
    return Dataset(tuple(Path(f"{i}.png") for i in range(len(labels))), labels, ("a", "b"), groups)


def test_the_papers_images_get_the_papers_protocol():
    found = suggest([BACH] * 3, [0.42] * 3)
    assert (found.views, found.target_mpp, found.folds) == (PAPER_VIEWS, 0.0, None)
    assert "paper's, 0.42 µm: nothing is resampled" in found.why[0]


@pytest.mark.parametrize(
    ("mpp", "target"), [(0.401, 0.0), (0.439, 0.0), (0.395, 0.84), (0.445, 0.84), (0.25, 0.84)]
)
def test_images_of_another_pixel_size_are_resampled(mpp, target):
    assert suggest([BACH], [mpp]).target_mpp == target


def test_crops_go_by_the_resampled_size():
    # 2048 x 1536 px of 0.21 um are 1024 x 768 of 0.42, and 512 x 384 at scale 0.5.
    assert suggest([BACH], [0.21]).views == (View(0.5, 192), View(0.5, 320))
    assert suggest([(700, 700)], [0.84]).views == PAPER_VIEWS
    assert "adds no detail" in suggest([(700, 700)], [1.0]).why[0]
    assert "adds no detail" not in suggest([(700, 700)], [0.84]).why[0]


def test_pixel_sizes_of_some_images_are_of_no_use():
    found = suggest([BACH, BACH], [0.25, None])
    assert (found.views, found.target_mpp) == (PAPER_VIEWS, 0.0)
    assert "not known of every image" in found.why[0]


def test_what_is_asked_for_is_kept():
    found = suggest([BACH], [0.25], target_mpp=0.5)
    assert (found.views, found.target_mpp) == (PAPER_VIEWS, 0.5)  # As large as it is.
    assert "as asked for" in found.why[0]


@pytest.mark.parametrize(
    ("side", "views"),
    [
        (1300, PAPER_VIEWS),
        (1298, (View(0.5, 320), View(0.5, 544))),
        (768, (View(0.5, 192), View(0.5, 320))),
        (370, (View(0.5, 96), View(0.5, 128))),
        (
            368,
            (View(1.0, 160), View(1.0, 288)),
        ),  # At scale 0.5 the smaller crop would be too small.
        (185, (View(1.0, 96), View(1.0, 128))),
        (150, (View(1.0, 96),)),
        (96, (View(1.0, 96),)),
        (95, ()),
    ],
)
def test_smaller_images_get_the_papers_proportions(side, views):
    found = suggest([(side, side + 50)])
    assert found.views == views
    assert all(view.crop_size <= round(side * view.scale) for view in views)


def test_an_odd_image_decides_nothing_and_is_named():
    found = suggest([BACH] * 4 + [(700, 900)])
    assert found.views == PAPER_VIEWS
    assert "Leave out 1 smaller image, which these crops do not fit into." in found.why
    assert suggest([BACH] * 4 + [(900, 900)]).views == (
        View(0.5, 224),
        View(0.5, 352),
    )  # More than half: it decides.


@pytest.mark.parametrize(("most", "found"), [(10, 4), (4, 4), (3, 3)])
def test_folds_are_as_many_as_the_smallest_class_has_images(most, found):
    dataset = labelled(*[0] * 9, *[1] * 4)
    suggested = suggest([BACH] * 13, dataset=dataset, most_folds=most)
    assert suggested.folds == found
    assert ("10 are too many: fewer images than the 10 folds" in suggested.why[-1]) == (most == 10)
    assert folds.make(dataset, found, 0).count == found


def test_two_folds_are_the_least():
    assert suggest([BACH] * 4, dataset=labelled(0, 0, 1, 1)).folds == 2


def test_folds_are_no_more_than_groups():
    dataset = labelled(*[0, 1] * 10, groups=tuple("abcde"[i // 4] for i in range(20)))
    suggested = suggest([BACH] * 20, dataset=dataset)
    assert suggested.folds == 5
    assert "by whole groups (5 are known)" in suggested.why[-1]


def test_where_no_split_can_be_made_none_is_suggested():
    suggested = suggest([BACH] * 4, dataset=labelled(0, 0, 0, 1))
    assert suggested.folds is None
    assert suggested.why[-1].startswith("No split can be made.")
