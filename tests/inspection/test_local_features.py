"""Local features of an image that is mirrored or turned are its own, mirrored or turned."""

import numpy as np
import pytest

from experiments.measuring import copies
from histojax.datasets import synthetic
from histojax.inspection import local_features
from histojax.inspection.local_features import LocalFeatures


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return local_features.working_copy(synthetic.render("Benign", 1, 240, 300))


def paired(first: LocalFeatures, second: LocalFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Features at the same places with the same directions."""
    apart = np.abs(first.points[:, None] - second.points)
    apart += 5 * np.abs(
        np.exp(1j * first.directions)[:, None] - np.exp(1j * second.directions[None])
    )
    return np.flatnonzero(apart.min(axis=1) < 0.5), apart.argmin(axis=1)


def test_features_of_the_mirror_image_are_known_without_it(grey):
    features = local_features.extract(grey)
    mirrored = local_features.mirrored(features)
    expected = local_features.extract(np.ascontiguousarray(grey[:, ::-1]))
    width = grey.shape[1] / np.sqrt(grey.size) * local_features.SIDE
    shifted = LocalFeatures(
        mirrored.points + width, mirrored.sizes, mirrored.directions, mirrored.descriptors
    )
    known, places = paired(shifted, expected)
    assert len(known) > 0.9 * len(features.points) > 40
    apart = mirrored.descriptors[known].astype(int) - expected.descriptors[places[known]]
    assert np.abs(apart).mean() < 2  # Of 255.


def test_features_turn_with_the_image(grey):
    features = local_features.extract(grey)
    turned = local_features.extract(np.rot90(grey).copy())
    width = grey.shape[1] / np.sqrt(grey.size) * local_features.SIDE
    back = LocalFeatures(
        1j * turned.points + width, turned.sizes, turned.directions + np.pi / 2, turned.descriptors
    )
    known, places = paired(features, back)
    assert len(known) > 0.8 * len(features.points)
    likeness = local_features.normalized(features.descriptors[known]) * local_features.normalized(
        back.descriptors[places[known]]
    )
    assert np.median(likeness.sum(axis=1)) > 0.98


def test_images_of_any_size_have_one_area_and_one_unit():
    for height, width in ((100, 400), (1000, 700), (300, 200)):
        small = local_features.working_copy(np.zeros((height, width, 3), np.uint8))
        assert small.size == pytest.approx(local_features.SIDE**2, rel=0.02)
        assert local_features.unit((height, width)) == pytest.approx(
            np.sqrt(height * width / small.size), rel=0.01
        )
    assert local_features.unit((224, 224)) == 1


def test_one_colour_has_no_features_nor_has_the_edge_of_a_fill(grey):
    flat = np.full((224, 224), 200, np.uint8)
    assert len(local_features.extract(flat).points) == 0
    corner = flat.copy()
    corner[:80, :80] = 0
    assert len(local_features.extract(corner).points) == 0
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    turned = copies.turned(rgb, 30, 1, "black")[..., 0]
    points = local_features.extract(turned).points
    rows, columns = (points.imag - 0.5).round().astype(int), (points.real - 0.5).round().astype(int)
    assert len(points) > 20
    assert (
        turned[rows.clip(0, turned.shape[0] - 1), columns.clip(0, turned.shape[1] - 1)] > 0
    ).all()
