"""The fused kernel, interpreted, against equation 1 in float64 and XLA; it lowers for a GPU."""

import functools
import warnings

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, Mesh, PartitionSpec

from histojax.ops import pooling, pooling_pallas
from tests import references

FIXED = [1.0, 2.0, 3.0, 7.5, np.inf]


SHAPE = (1, 4, 3, 2, 4)  # Of tests of values: with one shape, one program for each exponent.


def drawn(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1, 2, shape).astype(dtype)


@functools.partial(jax.jit, static_argnames="p")
def pool(maps: jax.Array, p: float) -> jax.Array:
    return pooling_pallas.pool(maps, p, interpret=True)


def expected(maps: np.ndarray, p: float) -> np.ndarray:
    averages = np.asarray(maps, np.float64).mean(axis=(2, 3))
    return np.stack([references.pnorm(by_crop, p) for by_crop in averages])


@functools.partial(jax.jit, static_argnames="p")
def by_xla(maps: jax.Array, p: float) -> jax.Array:
    return pooling.pnorm(jax.vmap(pooling.global_average)(maps), p)


@pytest.mark.parametrize(("dtype", "p"), [*[("float32", p) for p in FIXED], ("bfloat16", 3.0)])
@pytest.mark.parametrize(
    "shape", [(2, 3, 1, 1, 1), (1, 4, 13, 13, 3), (3, 5, 7, 11, 64), (2, 2, 25, 25, 130)]
)
def test_it_is_equation_1_and_what_xla_computes(shape, dtype, p):
    maps = drawn(shape, dtype)
    pooled = pool(maps, p)
    assert pooled.shape == (shape[0], shape[-1])
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, expected(maps, p), rtol=1e-5)
    np.testing.assert_allclose(pooled, by_xla(maps, p), rtol=1e-5)


def test_a_map_of_several_tiles_is_averaged_whole():
    maps = drawn((1, 2, 70, 61, 8))
    assert pooling_pallas._blocks(1, 70 * 61, 8, 4)[0] < 70 * 61
    np.testing.assert_allclose(pool(maps, 3), expected(maps, 3), rtol=1e-5)


SIDES = st.integers(1, 9)


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 4), SIDES, SIDES, SIDES),
    st.integers(0, 2**32 - 1),
    st.floats(1, 50),
)
@settings(max_examples=12, deadline=None)
def test_any_shape_and_exponent_is_equation_1(shape, seed, p):
    maps = drawn(shape, seed=seed)
    np.testing.assert_allclose(pool(maps, p), expected(maps, p), rtol=3e-5)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("p", [*FIXED, 50.0])
def test_neither_large_nor_small_maps_are_lost(scale, p):
    maps = drawn(SHAPE) * np.float32(scale)
    wanted = expected(maps.astype(np.float64) / scale, p) * scale
    np.testing.assert_allclose(pool(maps, p), wanted, rtol=1e-5)


@pytest.mark.parametrize("p", FIXED)
def test_the_order_of_crops_does_not_matter(p):
    rising = np.sort(np.broadcast_to(drawn((1, 4, 1, 1, 4)), SHAPE), axis=1)
    rising[:, 0] = 0
    np.testing.assert_allclose(pool(rising, p), pool(rising[:, ::-1], p), rtol=1e-6)
    np.testing.assert_allclose(pool(rising, p), expected(rising, p), rtol=1e-5)


@pytest.mark.parametrize("p", FIXED)
def test_zeros_stay_zero_negative_averages_count_by_size_and_what_is_not_a_number_stays(p):
    maps = drawn(SHAPE)
    maps[..., 1] = 0
    pooled = np.asarray(pool(maps, p))
    assert pooled[0, 1] == 0
    assert (pooled[0, [0, 2, 3]] > 0).all()
    np.testing.assert_array_equal(pool(-maps, p), pooled)
    for crop in range(4):
        spoiled = maps.copy()
        spoiled[0, crop, 1, 0, 2] = np.nan
        np.testing.assert_array_equal(np.isnan(pool(spoiled, p)), [[False, False, True, False]])


def test_the_largest_floats_are_not_lost():
    np.testing.assert_allclose(pool(np.full((1, 4, 1, 1, 3), 3e38, np.float32), 3), 3e38, rtol=1e-5)


@pytest.mark.parametrize("p", [3.0, np.inf])
def test_under_jit_and_on_two_devices_it_is_the_same(p):
    maps = drawn((4, 3, 5, 4, 6))
    alone = pooling_pallas.pool(maps, p, interpret=True)
    np.testing.assert_allclose(pool(maps, p), alone, rtol=1e-6)
    # As programs.py calls it: steps, each on its share of the augmentations.
    spread = PartitionSpec(None, "devices")
    on_two = jax.shard_map(
        lambda steps: jax.lax.map(lambda step: pool(step, p), steps),
        mesh=Mesh(np.array(jax.devices()), ("devices",)),
        in_specs=spread,
        out_specs=spread,
        check_vma=False,
    )
    steps = jax.jit(on_two)(maps.reshape(2, 2, *maps.shape[1:]))
    np.testing.assert_allclose(steps.reshape(4, 6), alone, rtol=1e-6)


@pytest.mark.parametrize("p", [0.99, 0, -1, -float("inf"), float("nan")])
def test_exponents_below_one_are_refused(p):
    with pytest.raises(ValueError, match="at least 1"):
        pool(drawn((1, 1, 2, 2, 1)), p)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 2, 2, 4), "float32"), ((1, 3, 0, 2, 4), "float32"), ((1, 3, 2, 2, 4), "float16")],
)
def test_other_maps_are_refused(shape, dtype):
    with pytest.raises(ValueError, match=r"\[A, P, H, W, C\]"):
        pool(np.zeros(shape, dtype), 3)


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("channels", [1, 3, 64, 130, 2048])
@pytest.mark.parametrize("pixels", [1, 169, 40_000])
def test_tiles_are_powers_of_two_that_fit_a_program(pixels, channels, itemsize):
    for augmentations in (1, 3, 60):
        rows, columns, warps = pooling_pallas._blocks(augmentations, pixels, channels, itemsize)
        assert all(number & (number - 1) == 0 for number in (rows, columns, warps))
        assert rows * columns <= 16384
        assert 1 <= warps <= 16
        assert rows * columns <= 32 * 32 * warps


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("p", [1.0, 3.0, np.inf])
@pytest.mark.parametrize(
    "shape", [(3, 20, 200, 200, 128), (30, 20, 200, 200, 128), (2, 3, 7, 11, 130)]
)
def test_it_lowers_to_one_triton_kernel_for_cuda(shape, p, dtype):
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    mesh = AbstractMesh((1,), ("devices",), (AxisType.Explicit,), abstract_device=gpu)
    # Newer versions of jax ask what the GPU is, and call the Triton backend deprecated.
    with jax.sharding.use_abstract_mesh(mesh), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The Pallas Triton backend is deprecated", DeprecationWarning
        )
        traced = jax.jit(pooling_pallas.pool, static_argnums=1).trace(
            jax.ShapeDtypeStruct(shape, dtype), p
        )
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("@__gpu$xla.gpu.triton(") == 1
    others = [
        line
        for line in text.splitlines()
        if "stablehlo." in line and "stablehlo.reshape" not in line
    ]
    assert len(others) == 1
