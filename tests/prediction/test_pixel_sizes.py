"""The pixel sizes of the training images, and --mpp far from them."""

import pytest

from histojax.config import STAIN_OK
from histojax.extraction import store
from histojax.prediction import pixel_sizes


def record(root, sizes: dict[str, str]) -> None:
    """Writes stain_qc.csv of images whose checksums end as given."""
    rows = {
        (name, "0.5"): store.StainQCRow(
            name, "0.5", 0.5, 30.0, 1.0, 1.0, STAIN_OK, "a" * 64 + ending
        )
        for name, ending in sizes.items()
    }
    store.write_stain_qc(root, rows)


def test_those_of_the_training_images_are_recorded_where_they_are_known(tmp_path):
    record(tmp_path, {"a": "@0.5um", "b": "@0.25um", "c": "", "other": "@2um"})
    found = pixel_sizes.of_training(tmp_path, ["a", "b", "c"])
    assert found == {pixel_sizes.KEY: [0.25, 0.5]}
    assert pixel_sizes.of_training(tmp_path, ["c"]) == {}
    assert pixel_sizes.of_training(None, ["a"]) == {}


@pytest.mark.parametrize("mpp", [2.5, 1.01, 0.12])
def test_a_pixel_size_far_from_them_is_doubted(mpp, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        pixel_sizes.warn_if_far(mpp, {pixel_sizes.KEY: [0.25, 0.5]})
        pixel_sizes.warn_if_far(mpp, {pixel_sizes.KEY: [0.3, 0.3]})
    first, second = caplog.messages
    assert f"--mpp={mpp:g} is far from the pixel size of the training images, 0.25 to 0.5" in first
    assert "0.3 um:" in second


@pytest.mark.parametrize(("mpp", "of_training"), [(1.0, True), (0.125, True), (None, True), (9, 0)])
def test_nothing_is_said_of_near_ones_or_where_nothing_is_known(mpp, of_training, caplog):
    about = {pixel_sizes.KEY: [0.25, 0.5]} if of_training else {}
    with caplog.at_level("WARNING", logger="absl"):
        pixel_sizes.warn_if_far(mpp, about)
    assert not caplog.messages
