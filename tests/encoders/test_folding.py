"""Folded encoders compute what the published ones do; each precision errs as much as it should."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from histojax import config, encoders
from histojax.encoders import folding, weights

ENCODERS = (*map(encoders.get, config.ENCODERS), encoders.RESNET_2018)
BY_NAME = pytest.mark.parametrize(
    "encoder", ENCODERS, ids=lambda e: f"{e.name} {getattr(e.module, 'variant', '')}"
)


@functools.cache
def trained(name: str) -> encoders.Variables:
    """Random variables whose batch norms are not the identity, as training leaves them."""
    rng = np.random.default_rng(5)

    def draw(path: tuple, array: jax.Array) -> np.ndarray:
        leaf = path[-1].key
        if leaf == "kernel":
            return np.asarray(array)
        low, high = {
            "scale": (0.7, 1.4),
            "var": (0.5, 2.0),
            "mean": (-0.5, 0.5),
            "bias": (-0.3, 0.3),
        }[leaf]
        return rng.uniform(low, high, array.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, weights.random(name, 0))


@functools.cache
def folded_variables(encoder: encoders.Encoder, precision: str = "float32") -> encoders.Variables:
    return encoder.fold_variables(trained(encoder.name), precision)


@pytest.fixture(scope="module")
def published(fields):
    """published(encoder): taps of an image by the unfolded encoder."""

    # The same program as of tests/parity/test_encoders.py.
    @functools.cache
    @jax.default_matmul_precision("highest")
    def taps(encoder: encoders.Encoder) -> dict[str, jax.Array]:
        return encoder.taps(trained(encoder.name), fields(205, 230))

    return taps


def error(found: jax.Array, expected: jax.Array) -> float:
    return float(
        np.linalg.norm(np.asarray(found) - np.asarray(expected))
        / np.linalg.norm(np.asarray(expected))
    )


@BY_NAME
def test_every_tap_of_a_folded_encoder_is_the_published_ones(encoder, published, fields):
    expected = published(encoder)
    found = encoder.folded().taps(folded_variables(encoder), fields(205, 230))
    assert list(found) == list(expected)
    for tap in expected:
        assert error(found[tap], expected[tap]) < 2e-6


NORM = {"params/a_bn/bias": (4,), "batch_stats/a_bn/mean": (4,), "batch_stats/a_bn/var": (4,)}
KERNEL, BIAS = {"params/a_conv/kernel": (1, 1, 3, 4)}, {"params/a_conv/bias": (4,)}


@pytest.mark.parametrize(
    "shapes",
    [
        KERNEL | BIAS,
        KERNEL | NORM,
        KERNEL | NORM | {"params/a_bn/scale": (4,)},
        KERNEL | BIAS | NORM | {"params/a_bn/scale": (4,)},
    ],
    ids=["no norm", "Inception", "TorchResNet", "ResNet"],
)
@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_folded_batch_norms_unfold_to_ones_that_change_nothing(shapes, epsilon):
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(0.5, 2, shape).astype("f") for name, shape in shapes.items()}
    folded = folding.fold_batch_norms(weights.to_variables(values), epsilon)
    flat = traverse_util.flatten_dict(folded, sep="/")
    assert flat.keys() == (KERNEL | BIAS).keys()
    unfolded = folding.unfold_batch_norms(flat, shapes, epsilon)
    assert {name: array.shape for name, array in unfolded.items()} == shapes
    again = folding.fold_batch_norms(weights.to_variables(unfolded), epsilon)
    for name, array in traverse_util.flatten_dict(again, sep="/").items():
        np.testing.assert_allclose(array, flat[name], rtol=3e-7)


def test_a_bias_that_the_network_has_no_place_for_is_refused():
    with pytest.raises(ValueError, match="no place for params/a_conv/bias"):
        folding.unfold_batch_norms(
            {"params/a_conv/bias": np.ones(2)}, {"params/a_conv/kernel": (1, 1, 3, 2)}, 0.0
        )


@BY_NAME
def test_no_batch_norm_is_left_and_every_convolution_has_a_bias(encoder):
    folded = folded_variables(encoder)
    joined = {"joined"} if encoder.name.startswith("Inception") else set()
    assert set(folded) == {"params", "transformed"} | joined
    assert set(folded["transformed"]) == {
        name
        for name, layer in folded["params"].items()
        if layer["kernel"].shape[:2] == (3, 3) and min(layer["kernel"].shape[2:]) >= 128
    }
    assert set(folded_variables(encoder, "bfloat16")) == {"params"} | joined
    assert all(set(layer) == {"kernel", "bias"} for layer in folded["params"].values())
    # Images as in the tests above, so that the network is traced once.
    image = jax.ShapeDtypeStruct((1, 205, 230, 3), jnp.uint8)
    assert "rsqrt" not in str(jax.make_jaxpr(encoder.folded().descriptors)(folded, image))


def test_the_heads_of_inceptions_blocks_are_joined_once_and_not_in_the_program():
    encoder = encoders.ENCODERS["Inception"]
    folded = folded_variables(encoder)
    heads = folded["joined"]["mixed10_heads"]
    assert heads.shape == (1, 1, 2048, 320 + 384 + 448 + 192)
    kernel = folded["params"]["mixed10_3x3_1_conv"]["kernel"]
    np.testing.assert_array_equal(heads[..., 320:704], kernel)
    program = jax.jit(encoder.folded().descriptors)
    image = jax.ShapeDtypeStruct((1, 205, 230, 3), jnp.uint8)
    copied = "-> tensor<1x1x2048x1344xf32>"
    assert copied not in program.lower(folded, image).as_text()
    assert copied in program.lower({"params": folded["params"]}, image).as_text()


def test_folding_changes_no_variable_it_was_given():
    variables = trained("ResNet")
    before = weights.checksum(variables)
    encoders.ENCODERS["ResNet"].fold_variables(variables)
    assert weights.checksum(variables) == before


def test_the_convention_is_folded_where_the_first_convolution_does_not_pad():
    assert encoders.ENCODERS["Inception"].folded().convention == encoders.RAW
    for name in ("ResNet", "VGG"):
        convention = encoders.ENCODERS[name].folded().convention
        assert not convention.bgr
        assert convention.mean == encoders.CAFFE.mean


@BY_NAME
@pytest.mark.parametrize(
    ("precision", "most"), [pytest.param("tf32", 3e-6, marks=pytest.mark.slow), ("bfloat16", 3e-2)]
)
def test_lower_precision_errs_little_and_still_averages_in_float32(
    encoder, precision, most, published, fields
):
    exact = published(encoder)
    short, folded = encoder.folded(precision), folded_variables(encoder, precision)
    found = short.taps(folded, fields(205, 230))
    maps = jax.eval_shape(short.maps, folded, jax.ShapeDtypeStruct((1, 205, 230, 3), jnp.uint8))
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    assert all(maps[tap.layer].dtype == dtype for tap in encoder.outputs)
    for tap in exact:
        assert found[tap].dtype == jnp.float32
        assert error(found[tap], exact[tap]) < most
        if precision == "bfloat16":
            assert error(found[tap], exact[tap]) > 1e-5, "bfloat16 was not used"


def test_float32_asks_for_the_highest_precision_and_tf32_for_less():
    for precision, asked in (("float32", "HIGHEST"), ("tf32", "HIGH")):
        encoder = encoders.ENCODERS["VGG"].folded(precision)
        image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        folded = folded_variables(encoders.ENCODERS["VGG"], precision)
        text = jax.jit(encoder.descriptors).lower(folded, image).as_text()
        assert (
            text.count(f"precision_config = [#stablehlo<precision {asked}>")
            + text.count(f"precision = [{asked}, {asked}]")
            >= 13
        ), text[:2000]


def test_the_precisions_of_the_protocol_are_those_of_the_encoders():
    assert tuple(encoders.PRECISIONS) == config.PRECISIONS


def test_an_unknown_precision_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="float32, tf32, bfloat16"):
        encoders.ENCODERS["VGG"].folded("float16")


@pytest.mark.parametrize("divisor", [50.0, (50.0, 60.0, 70.0)])
def test_scale_and_shift_are_folded_by_input_channel(divisor):
    rng = np.random.default_rng(0)
    layer = {
        "kernel": rng.normal(size=(3, 3, 3, 5)).astype("f"),
        "bias": rng.normal(size=5).astype("f"),
    }
    x, mean = rng.uniform(0, 255, (1, 9, 9, 3)).astype("f"), (10.0, 20.0, 30.0)
    apply = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(2, 2),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    expected = (
        apply(((x - np.array(mean)) / np.array(divisor)).astype("f"), layer["kernel"])
        + layer["bias"][None, None, None]
    )
    folded = folding.fold_scale_and_shift(layer, divisor, mean)
    found = apply(x, folded["kernel"]) + folded["bias"][None, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
