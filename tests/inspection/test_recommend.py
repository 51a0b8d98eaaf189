"""What is recommended: the paper's protocol, or its proportions, and a split that can be made."""

from pathlib import Path

import pytest
from PIL import Image

from histojax.config import PAPER_VIEWS, View
from histojax.datasets import Dataset, folds
from histojax.inspection import recommend

BACH = (1536, 2048)


def recommended(sizes, mpps=None, target_mpp=None, dataset=None, most_folds=10):
    return recommend.recommend(
        sizes, mpps or [None] * len(sizes), target_mpp, dataset, most_folds, 0
    )


def labelled(*labels, groups=None) -> Dataset:
    images = {str(i): Path(f"{i}.png") for i in range(len(labels))}
    return Dataset(images, labels, ("a", "b"), groups)


def test_the_papers_images_get_the_papers_protocol():
    advice = recommended([BACH] * 3, [0.42] * 3)
    assert (advice.views, advice.target_mpp, advice.folds) == (PAPER_VIEWS, 0.0, None)
    assert "paper's, 0.42 µm: nothing is resampled" in advice.why[0]


@pytest.mark.parametrize(
    ("mpp", "target"), [(0.401, 0.0), (0.439, 0.0), (0.395, 0.84), (0.445, 0.84), (0.25, 0.84)]
)
def test_images_of_another_pixel_size_are_resampled(mpp, target):
    assert recommended([BACH], [mpp]).target_mpp == target


def test_crops_go_by_the_resampled_size():
    # 2048 x 1536 px of 0.21 um are 1024 x 768 of 0.42, and 512 x 384 at scale 0.5.
    assert recommended([BACH], [0.21]).views == (View(0.5, 192), View(0.5, 320))
    assert recommended([(700, 700)], [0.84]).views == PAPER_VIEWS
    assert "adds no detail" in recommended([(700, 700)], [1.0]).why[0]
    assert "adds no detail" not in recommended([(700, 700)], [0.84]).why[0]


def test_pixel_sizes_of_some_images_are_of_no_use():
    advice = recommended([BACH, BACH], [0.25, None])
    assert (advice.views, advice.target_mpp) == (PAPER_VIEWS, 0.0)
    assert "not known of every image" in advice.why[0]


def test_what_is_asked_for_is_kept():
    advice = recommended([BACH], [0.25], target_mpp=0.5)
    # As large as they are.
    assert (advice.views, advice.target_mpp) == (PAPER_VIEWS, 0.5)
    assert "as asked for" in advice.why[0]
    advice = recommended([BACH], [0.21], target_mpp=0.0)
    assert (advice.views, advice.target_mpp) == (PAPER_VIEWS, 0.0)
    assert "as they are, as asked for" in advice.why[0]


@pytest.mark.parametrize(
    ("side", "views"),
    [
        (1300, PAPER_VIEWS),
        (1298, (View(0.5, 320), View(0.5, 544))),
        (768, (View(0.5, 192), View(0.5, 320))),
        (370, (View(0.5, 96), View(0.5, 128))),
        # At scale 0.5 the smaller crop would be too small.
        (368, (View(1.0, 160), View(1.0, 288))),
        (185, (View(1.0, 96), View(1.0, 128))),
        (150, (View(1.0, 96),)),
        (96, (View(1.0, 96),)),
        (95, ()),
    ],
)
def test_smaller_images_get_the_papers_proportions(side, views):
    advice = recommended([(side, side + 50)])
    assert advice.views == views
    assert all(view.crop_size <= round(side * view.scale) for view in views)


def test_an_odd_image_decides_nothing_and_is_named():
    advice = recommended([BACH] * 4 + [(700, 900)])
    assert advice.views == PAPER_VIEWS
    assert "Leave out 1 smaller image, which these crops do not fit into." in advice.why
    # More than half: it decides.
    assert recommended([BACH] * 4 + [(900, 900)]).views == (View(0.5, 224), View(0.5, 352))


@pytest.mark.parametrize(("most", "expected"), [(10, 4), (4, 4), (3, 3)])
def test_folds_are_as_many_as_the_smallest_class_has_images(most, expected):
    dataset = labelled(*[0] * 9, *[1] * 4)
    advice = recommended([BACH] * 13, dataset=dataset, most_folds=most)
    assert advice.folds == expected
    assert ("Fewer images than the 10 folds in class a (9)" in advice.why[-1]) == (most == 10)
    assert "--folds" not in advice.why[-1]
    assert folds.make(dataset, expected, 0).count == expected


def test_two_folds_are_the_least():
    assert recommended([BACH] * 4, dataset=labelled(0, 0, 1, 1)).folds == 2


def test_folds_are_no_more_than_groups():
    dataset = labelled(*[0, 1] * 10, groups=tuple("abcde"[i // 4] for i in range(20)))
    advice = recommended([BACH] * 20, dataset=dataset)
    assert advice.folds == 5
    assert "by whole groups (5 are known)" in advice.why[-1]


def test_where_no_split_can_be_made_none_is_recommended():
    advice = recommended([BACH] * 4, dataset=labelled(0, 0, 0, 1))
    assert advice.folds is None
    assert advice.why[-1].startswith("No split can be made: fewer images than")


def test_files_are_judged_by_what_they_state_and_unreadable_ones_left_out(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths[:2]:
        Image.new("RGB", (896, 768)).save(path)
    paths[2].write_text("no image")
    assert recommend.recommend_for_files(paths, None, None) == recommended([(768, 896)] * 2)
    resampled = recommend.recommend_for_files(paths, 0.21, None)
    assert resampled == recommended([(768, 896)] * 2, [0.21] * 2)
    assert resampled.target_mpp == 0.84
    assert recommend.recommend_for_files(paths[2:], None, None) is None
