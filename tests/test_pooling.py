"""The p-norm against equation 1 in float64, and its edges."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax import pooling
from tests import references

EXPONENTS = st.sampled_from([1.0, 2.0, 3.0, 7.5, np.inf]) | st.floats(1, 50)


def drawn(seed: int, crops: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1, 2, (crops, 8)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), EXPONENTS)
@settings(max_examples=60, deadline=None)
def test_the_pnorm_is_equation_1(seed, crops, p):
    descriptors = drawn(seed, crops)
    np.testing.assert_allclose(pooling.pnorm(descriptors, p), references.pnorm(descriptors, p), rtol=2e-5)


@given(st.integers(0, 2**32 - 1), st.floats(1, 30), st.floats(0, 20))
@settings(max_examples=40, deadline=None)
def test_it_grows_with_p_from_the_mean_to_the_maximum(seed, p, more):
    descriptors = drawn(seed, 6)
    low, high = (np.asarray(pooling.pnorm(descriptors, q)) for q in (p, p + more))
    assert (low <= high * (1 + 1e-5)).all()
    assert (descriptors.mean(axis=0) <= low * (1 + 1e-5)).all()
    assert (high <= descriptors.max(axis=0) * (1 + 1e-6)).all()


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("p", [1, 3, 7.5, np.inf])
def test_neither_large_nor_small_descriptors_are_lost(scale, p):
    descriptors = drawn(0, 5)
    ours = pooling.pnorm(descriptors * np.float32(scale), p)
    np.testing.assert_allclose(ours, np.asarray(pooling.pnorm(descriptors, p)) * scale, rtol=1e-5)


def test_zeros_stay_zero_and_negative_values_count_by_size():
    assert np.array_equal(pooling.pnorm(np.zeros((4, 3), np.float32), 3), np.zeros(3))
    descriptors = drawn(1, 4)
    np.testing.assert_array_equal(pooling.pnorm(-descriptors, 3), pooling.pnorm(descriptors, 3))


@pytest.mark.parametrize("p", [0.99, 0, -1, float("nan")])
def test_exponents_below_one_are_refused(p):
    with pytest.raises(ValueError, match="at least 1"):
        pooling.pnorm(drawn(0, 3), p)


def test_leading_axes_vmap_and_jit_agree():
    batch = np.stack([drawn(seed, 4) for seed in range(3)])
    one_by_one = np.stack([pooling.pnorm(each, 3.0) for each in batch])
    np.testing.assert_allclose(pooling.pnorm(batch, 3.0), one_by_one, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda d: pooling.pnorm(d, 3.0)))(batch), one_by_one, rtol=1e-6)


def test_the_global_average_is_the_mean_of_each_channel():
    maps = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(pooling.global_average(maps), maps.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
