"""The algebra of similarity transforms, and images moved by them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histojax.inspection.similarity import Similarity, corners, scaling, warp

POINTS = np.array([[0.0, 0.0], [3.0, -1.0], [10.0, 7.0], [-4.0, 2.5]])
_shifts = st.floats(-300, 300)
similarities = st.builds(
    Similarity,
    st.floats(0.3, 3),
    st.floats(-179.9, 180),
    st.booleans(),
    st.tuples(_shifts, _shifts),
)


@given(similarities)
def test_the_matrix_says_what_was_done(transform):
    again = Similarity.of(transform.linear, np.array(transform.shift))
    assert again.mirrored == transform.mirrored
    assert again.scale == pytest.approx(transform.scale)
    assert again.degrees == pytest.approx(transform.degrees, abs=1e-6)


@given(similarities, similarities)
def test_one_after_another_is_both_in_turn(first, second):
    both = second.after(first)
    np.testing.assert_allclose(both.apply(POINTS), second.apply(first.apply(POINTS)), atol=1e-6)
    assert both.scale == pytest.approx(first.scale * second.scale)
    assert both.mirrored == (first.mirrored != second.mirrored)


@given(similarities)
def test_the_inverse_undoes(transform):
    np.testing.assert_allclose(
        transform.inverse().apply(transform.apply(POINTS)), POINTS, atol=1e-6
    )


def test_degrees_are_anticlockwise_and_mirroring_comes_first():
    # To the right becomes up, where y falls.
    np.testing.assert_allclose(Similarity(degrees=90).apply(np.array([1, 0])), [0, -1], atol=1e-12)
    mirrored = Similarity(degrees=90, mirrored=True)
    np.testing.assert_allclose(mirrored.apply(np.array([1, 0])), [0, 1], atol=1e-12)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_a_warp_is_what_numpy_does(mirrored, quarters):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    expected = np.rot90(image[:, ::-1] if mirrored else image, quarters)
    turned = Similarity(degrees=90 * quarters, mirrored=mirrored)
    low = turned.apply(corners(image.shape[:2])).min(axis=0)
    transform = Similarity(1, 90 * quarters, mirrored, tuple(-low))
    moved = warp(image, transform, expected.shape[:2])
    # Pillow cuts off what is behind the point.
    np.testing.assert_allclose(moved.astype(int), expected, atol=1)


def test_a_warp_leaves_black_what_it_does_not_reach():
    image = np.full((10, 10), 200, np.uint8)
    moved = warp(image, scaling(0.5), (10, 10))
    assert (moved[:5, :5] == 200).all()
    assert (moved[6:] == 0).all()
    assert (moved[:, 6:] == 0).all()
