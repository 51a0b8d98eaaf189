"""The error of crop mode hybrid: which images are checked, by hand, and when a run warns."""

import numpy as np
import pytest

from histojax.config import Extraction
from histojax.extraction import crop_errors, manifests
from histojax.utils import files

EXTRACTION = Extraction(encoders=("VGG",), crop_mode="hybrid")
(NAME, _) = EXTRACTION.configurations


def test_one_image_in_twenty_is_checked_but_at_least_three():
    names = [f"image{i:03d}" for i in range(100)]
    checked = crop_errors.to_check(reversed(names), 0.05)
    assert checked == {names[i] for i in (0, 20, 40, 60, 80)}
    assert len(crop_errors.to_check(names[:20], 0.05)) == 3
    assert crop_errors.to_check(names[:2], 0.05) == {*names[:2]}
    assert crop_errors.to_check(names, 1) == {*names}
    assert crop_errors.to_check(names, 0) == frozenset()
    assert crop_errors.to_check([], 0.05) == frozenset()


def test_errors_and_spread_are_those_by_hand():
    rows = np.array([[3, 4, 1], [5, 4, 1]], np.float32)
    measured = crop_errors.measure(rows, np.array([3, 4.5, 0], np.float32), {"low": 2, "high": 1})
    assert measured["low"]["error"] == pytest.approx(0.5 / np.hypot(3, 4.5))
    # Two rows differ by 2, their mean is (4, 4).
    assert measured["low"]["between_augmentations"] == pytest.approx(2 / np.hypot(4, 4))
    assert measured["high"] == {"error": 1.0, "between_augmentations": 0.0}
    alone = crop_errors.measure(rows[:1], rows[0], {"low": 3})["low"]
    assert alone == {"error": 0.0, "between_augmentations": None}  # Of one draw nothing is known.


def test_a_run_tells_the_worst_image_and_warns_above_the_bound(tmp_path, notices):
    assert crop_errors.summarize(tmp_path, NAME) is None
    weights = {"source": "random", "sha256": "0"}
    made, other = ({"protocol": {"pool_crops": n}, "weights": weights} for n in (24, 12))
    files.write_json(tmp_path / NAME / manifests.MANIFEST, made)
    # Of a run whose descriptors were removed.
    left = {"gone": {"error": 0.5, "between_augmentations": 0.2}}
    crop_errors.write(tmp_path, NAME, "c", other, left)
    assert crop_errors.summarize(tmp_path, NAME) is None
    for image, error in (("a", 0.02), ("slide 1/b", 0.07)):
        tap = {"error": error, "between_augmentations": 0.2}
        crop_errors.write(tmp_path, NAME, image, made, {"block5_conv3": tap})
    summary = crop_errors.summarize(tmp_path, NAME)
    expected = {"largest_error": 0.07, "mean_error": 0.045, "between_augmentations": 0.2}
    assert summary == {"images": 2, "taps": {"block5_conv3": expected}}
    assert manifests.read(tmp_path, NAME)["crop_error"] == summary
    table = crop_errors.table({NAME: summary})
    assert f"{NAME}, 2 images:" in table
    assert "block5_conv3    7.00%   4.50%  20.00%" in table
    hybrid = {"protocol": {"crop_mode": "hybrid"}, "crop_error": summary}
    assert "within 7.0 % of exact crops (the worst tap of 2 images)" in crop_errors.text([hybrid])
    better = {"images": 2, "taps": {"block5_conv3": expected | {"largest_error": 0.065}}}
    crop_errors.warn({NAME: summary, "other": better}, EXTRACTION)
    (notice,) = notices
    assert f"{NAME} are up to 7.0 % from exact crops (block5_conv3), those of 2 of 2" in notice
    assert "or more than --gain_nodes=3" in notice
    summary["taps"]["block5_conv3"]["largest_error"] = crop_errors.LARGEST_ERROR
    crop_errors.warn({NAME: summary}, EXTRACTION)
    assert len(notices) == 1
