"""Centre crops of resized images against torchvision's own outputs, and their sizes."""

import numpy as np
import pytest

from histojax.images.centre_crop import CentreCrop

# torchvision 0.29.1 (torch 2.14.1), channel by channel, of `image()`: of a tensor and of a Pillow
# image alike by v2.Resize(5) and v2.CenterCrop(5).
RESIZED_TO_5 = [
    [
        [124, 167, 123, 99, 132],
        [126, 148, 140, 117, 101],
        [123, 97, 122, 134, 125],
        [111, 94, 119, 129, 132],
        [104, 131, 105, 101, 153],
    ],
    [
        [142, 135, 121, 124, 140],
        [129, 96, 126, 120, 121],
        [153, 127, 108, 134, 100],
        [122, 133, 104, 123, 110],
        [109, 98, 100, 129, 107],
    ],
    [
        [154, 140, 114, 124, 124],
        [75, 123, 128, 157, 140],
        [124, 99, 121, 120, 105],
        [169, 133, 127, 122, 135],
        [105, 159, 132, 145, 129],
    ],
]
# Its red channel, of a Pillow image by Resize(7, BICUBIC) and CenterCrop(5).
RED_RESIZED_TO_7 = [
    [196, 180, 119, 100, 70],
    [139, 99, 155, 123, 129],
    [93, 114, 131, 129, 129],
    [61, 121, 165, 121, 78],
    [138, 77, 135, 109, 168],
]


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (13, 18, 3), dtype=np.uint8)


def test_crops_are_those_of_torchvision():
    of_five, of_seven = CentreCrop(5, 5)(image()), CentreCrop(7, 5, "bicubic")(image())
    assert np.moveaxis(of_five, -1, 0).tolist() == RESIZED_TO_5
    assert of_seven[..., 0].tolist() == RED_RESIZED_TO_7


@pytest.mark.parametrize("shape", [(96, 128), (128, 96), (15, 20)])
def test_the_middle_of_the_longer_side_is_taken(shape):
    """Of BACH's proportions, 37 of 298 columns are left out on either side."""
    columns = np.linspace(0, 255, max(shape))
    ramp = np.broadcast_to(columns if shape[1] > shape[0] else columns[:, None], shape)
    made = CentreCrop()(np.repeat(ramp[..., None], 3, axis=2).round().astype(np.uint8))
    assert made.shape == (224, 224, 3)
    line = (made[112] if shape[1] > shape[0] else made[:, 112])[:, 0].astype(float)
    centres = np.array([37.5, 260.5]) * max(shape) / 298 - 0.5
    ends = np.interp(centres, np.arange(max(shape)), columns)
    assert line[[0, -1]] == pytest.approx(ends, abs=2)
