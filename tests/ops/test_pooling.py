"""The p-norm against equation 1 in float64, and its edges; averages of windows of maps."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax.ops import pooling
from tests import references

FIXED = [1.0, 2.0, 3.0, 7.5, np.inf]
EXPONENTS = st.sampled_from(FIXED) | st.floats(1, 50)
CROPS = st.integers(1, 20)


pnorm = jax.jit(pooling.pnorm, static_argnums=1)


def drawn(seed: int, crops: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1, 2, (crops, 8)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), CROPS, EXPONENTS)
@settings(max_examples=60, deadline=None)
def test_the_pnorm_is_equation_1(seed, crops, p):
    descriptors = drawn(seed, crops)
    np.testing.assert_allclose(pnorm(descriptors, p), references.pnorm(descriptors, p), rtol=2e-5)


@pytest.mark.parametrize("p", FIXED)
def test_the_usual_exponents_are_equation_1(p):
    descriptors = drawn(3, 20)
    ours = pnorm(descriptors, p)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, references.pnorm(descriptors, p), rtol=1e-5)


def test_one_is_the_mean_infinity_the_maximum_and_one_crop_itself():
    descriptors = drawn(2, 4)
    np.testing.assert_allclose(pnorm(descriptors, 1), descriptors.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(pnorm(descriptors, np.inf), descriptors.max(axis=0))
    np.testing.assert_allclose(pnorm(descriptors[:1], 3), descriptors[0], rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(1, 30), st.floats(0, 20))
@settings(max_examples=40, deadline=None)
def test_it_grows_with_p_from_the_mean_to_the_maximum(seed, p, more):
    descriptors = drawn(seed, 4)
    low, high = (np.asarray(pooling.pnorm(descriptors, q)) for q in (p, p + more))
    assert (low <= high * (1 + 1e-5)).all()
    assert (descriptors.mean(axis=0) <= low * (1 + 1e-5)).all()
    assert (high <= descriptors.max(axis=0) * (1 + 1e-6)).all()


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("p", [*FIXED, 50])
def test_neither_large_nor_small_descriptors_are_lost(scale, p):
    descriptors = drawn(0, 4)
    scaled = descriptors * np.float32(scale)
    expected = references.pnorm(scaled.astype(np.float64) / scale, p) * scale
    np.testing.assert_allclose(pnorm(scaled, p), expected, rtol=1e-5)


def test_large_floats_are_not_lost_when_compiled():
    pooled = jax.jit(pooling.pnorm, static_argnums=1)(np.full((4, 8), 8e37, np.float32), 3)
    np.testing.assert_allclose(pooled, 8e37, rtol=1e-5)


@pytest.mark.parametrize("p", FIXED)
def test_a_channel_of_zeros_stays_zero_beside_one_that_is_not(p):
    descriptors = drawn(4, 4)
    descriptors[:, 2] = 0
    pooled = np.asarray(pnorm(descriptors, p))
    assert pooled[2] == 0
    assert (np.delete(pooled, 2) > 0).all()


def test_zeros_stay_zero_and_negative_values_count_by_size():
    assert np.array_equal(pnorm(np.zeros((4, 8), np.float32), 3), np.zeros(8))
    descriptors = drawn(1, 4)
    np.testing.assert_array_equal(pnorm(-descriptors, 3), pnorm(descriptors, 3))


@pytest.mark.parametrize("p", [0.99, 0, -1, -float("inf"), float("nan")])
def test_exponents_below_one_are_refused(p):
    with pytest.raises(ValueError, match="at least 1"):
        pooling.pnorm(drawn(0, 3), p)


@pytest.mark.parametrize("p", [1.0, 3.0, np.inf])
def test_leading_axes_vmap_and_jit_agree(p):
    batch = np.stack([drawn(seed, 4) for seed in range(6)]).reshape(2, 3, 4, 8)
    one_by_one = np.stack([[pooling.pnorm(crops, p) for crops in row] for row in batch])
    assert one_by_one.shape == (2, 3, 8)
    np.testing.assert_allclose(pooling.pnorm(batch, p), one_by_one, rtol=1e-6)
    np.testing.assert_allclose(
        jax.jit(pooling.pnorm, static_argnums=1)(batch, p), one_by_one, rtol=1e-6
    )
    mapped = jax.vmap(jax.vmap(lambda d: pooling.pnorm(d, p)))
    np.testing.assert_allclose(jax.jit(mapped)(batch), one_by_one, rtol=1e-6)


def test_the_global_average_is_the_mean_of_each_channel():
    maps = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(
        pooling.global_average(maps), maps.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("p", [1.0, 3.0, math.inf])
def test_crops_that_do_not_count_change_nothing(p):
    descriptors = np.random.default_rng(1).random((2, 5, 4)).astype(np.float32)
    counted = np.array([[True] * 3 + [False] * 2, [True] * 5])
    found = pnorm(descriptors, p, counted)
    np.testing.assert_allclose(found[0], pnorm(descriptors[0, :3], p), rtol=1e-6)
    np.testing.assert_allclose(found[1], pnorm(descriptors[1], p), rtol=1e-6)


window_weights = jax.jit(pooling.window_weights, static_argnums=(1, 2))
window_averages = jax.jit(pooling.window_averages, static_argnums=2)


@given(
    st.integers(1, 40),
    st.floats(0.3, 30),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=12)
def test_window_weights_are_shares(cells, length, places, seed):
    length = min(length, cells)
    starts = np.array(places, np.float32) * np.float32(cells - length)
    weights_ = np.asarray(window_weights(jnp.array(starts), length, cells))
    assert (weights_ >= 0).all()
    np.testing.assert_allclose(weights_.sum(axis=1), 1, rtol=1e-5)
    # A linear ramp averages to its value in the middle of the window.
    ramp = np.arange(cells) + 0.5
    inside = (starts % 1 == 0) & (length % 1 == 0)
    np.testing.assert_allclose((weights_ @ ramp)[inside], (starts + length / 2)[inside], rtol=1e-4)


def test_window_averages_are_the_means_under_the_windows():
    rng = np.random.default_rng(0)
    maps = rng.random((9, 12, 4), np.float32)
    corners = np.array([[0, 0], [1.5, 2.25], [4, 6], [3.75, 5.5]], np.float32)
    found = np.asarray(window_averages(jnp.array(maps), jnp.array(corners), (5, 5)))
    expected = [
        references.window_average(maps.astype(np.float64), top, left, 5) for top, left in corners
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    whole = window_averages(jnp.array(maps), jnp.zeros((1, 2)), (9, 12))
    np.testing.assert_allclose(whole[0], maps.mean(axis=(0, 1)), rtol=1e-5)
