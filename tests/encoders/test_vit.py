"""The vision transformer by itself: positions, batches, precisions, weights, what XLA is given.

tests/parity/test_vit.py compares it with timm's and Hugging Face's.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from histojax import encoders
from histojax.encoders import Encoder, Tap, foundation, vit, weights
from histojax.encoders.vit import VisionTransformer
from histojax.ops import flops
from tests import lowering

SIDE = 56
OUTPUTS = (Tap("class_token", 32, signed=True), Tap("patch_mean", 32, signed=True))
MODULE = VisionTransformer(
    width=32, depth=2, heads=2, patch=14, hidden=48, grid=4, swiglu=True, registers=2
)
TINY = Encoder("TinyTransformer", MODULE, OUTPUTS, encoders.TORCHVISION)


@pytest.fixture
def variables(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, TINY.name, TINY)
    return weights.random(TINY.name, 0)


def images(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def relative(ours, theirs) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def keys(distance: float, a: float) -> float:
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resampled_row(row: np.ndarray, size: int, kind: str) -> np.ndarray:
    """One axis, entry by entry, as the documentation of PyTorch's `interpolate` has it."""
    step, values = len(row) / size, []
    for i in range(size):
        centre = (i + 0.5) * step - 0.5
        if kind == "plain":  # Four neighbours, of which those beyond the edges are the edge.
            near = range(math.floor(centre) - 1, math.floor(centre) + 3)
            pairs = [(keys(centre - j, -0.75), row[min(max(j, 0), len(row) - 1)]) for j in near]
            values.append(sum(weight * value for weight, value in pairs))
        else:
            taps = [keys((j - centre) / max(step, 1.0), -0.5) for j in range(len(row))]
            values.append(np.dot(taps, row) / sum(taps))
    return np.array(values)


@pytest.mark.parametrize("kind", vit.RESAMPLINGS)
@pytest.mark.parametrize(("side", "rows", "columns"), [(7, 5, 9), (5, 5, 4), (6, 4, 9)])
def test_positions_are_resampled_as_pytorch_says(kind, side, rows, columns):
    square = np.random.default_rng(0).standard_normal((side, side, 3))
    expected = np.apply_along_axis(resampled_row, 1, square, columns, kind)
    expected = np.apply_along_axis(resampled_row, 0, expected, rows, kind)
    flat = square.reshape(-1, 3).astype(np.float32)
    found = vit.resample_positions(jnp.asarray(flat), rows, columns, kind)
    np.testing.assert_allclose(found, expected.reshape(-1, 3), atol=1e-6)


def test_a_crop_is_described_alike_in_any_batch(variables):
    crops = images(3)
    together = np.asarray(TINY.descriptors(variables, crops))
    alone = np.asarray(TINY.descriptors(variables, crops[1:2]))
    assert relative(alone, together[1:2]) < 1e-6


def test_random_weights_make_descriptors_that_differ_by_image(variables):
    descriptors = np.asarray(TINY.descriptors(variables, images(3)))
    assert descriptors.dtype == np.float32
    assert descriptors.shape == (3, TINY.width)
    for tap in np.split(descriptors, 2, axis=1):  # The class hears of the patches too.
        assert np.std(tap, axis=0).mean() > 0.1 * np.std(tap)
    for name in ("class_token", "register_tokens", "position_embedding"):
        assert np.std(variables["params"][name]) == pytest.approx(1, abs=0.25), name


def test_a_side_that_is_no_multiple_of_the_patch_is_refused(variables):
    with pytest.raises(ValueError, match="multiples of 14, got 60 x 60 px"):
        TINY.descriptors(variables, images(1, 60))


@pytest.mark.parametrize("row", foundation.ROWS[::6], ids=lambda row: row.name)
def test_shapes_are_those_of_the_module(row):
    module = row.module.clone(depth=2)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    tree = jax.eval_shape(lambda image: module.init(jax.random.key(0), image), image)
    assert module.shapes() == {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_kernels_alone_take_the_precision(variables):
    folded = weights._flattened(TINY.fold_variables(variables, "bfloat16"))
    for name, array in folded.items():
        assert array.dtype == (jnp.bfloat16 if name.endswith("kernel") else jnp.float32), name
    half = TINY.folded("bfloat16")
    exact = np.asarray(TINY.descriptors(variables, images(3)))
    found = np.asarray(half.descriptors(TINY.fold_variables(variables, "bfloat16"), images(3)))
    assert 1e-4 < relative(found, exact) < 2e-2


def operations(
    precision: str, platform: str = "cuda", row: Encoder = TINY
) -> list[lowering.Operation]:
    encoder, shape = row.folded(precision), jax.ShapeDtypeStruct
    dtype = encoder.module.precision.dtype
    flat = {
        name: shape(axes, dtype if name.endswith("kernel") else jnp.float32)
        for name, axes in MODULE.shapes().items()
    }
    variables = weights.flax.traverse_util.unflatten_dict(flat, sep="/")
    program = jax.jit(lambda variables, crops: encoder.descriptors(variables, crops))
    return lowering.operations(
        program, variables, shape((3, SIDE, SIDE, 3), jnp.uint8), platform=platform
    )


PRODUCTS = 1 + MODULE.depth * 6  # The patches; of a block qkv, two of attention, three more.
OF_THE_HOST = {"send", "recv", "infeed", "outfeed", "custom_call"}


@pytest.mark.parametrize(
    ("precision", "asked"), [("float32", "HIGHEST"), ("tf32", "DEFAULT"), ("bfloat16", None)]
)
def test_a_gpu_multiplies_in_the_precision_and_adds_and_norms_in_float32(precision, asked):
    lowered = operations(precision)
    products = [each for each in lowered if each.name == "dot_general"]
    assert len(products) == PRODUCTS
    kind = "bf16" if precision == "bfloat16" else "f32"
    for product in products:
        assert {each.rpartition("x")[2] for each in product.inputs} == {kind}
        if asked:
            assert product.attributes["precision_config"].count(f"precision {asked}>") == 2
    for name in ("exponential", "rsqrt", "logistic"):
        found = [each for each in lowered if each.name == name]
        assert {kind for each in found for kind in each.dtypes} <= {"f32"}, name
    assert not {each.name for each in lowered} & OF_THE_HOST


def test_a_gpu_with_cudnn_attends_by_it_in_bfloat16_alone(monkeypatch):
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91_100)
    traced_anew = dataclasses.replace(TINY, name="WithCudnn")
    for precision, platform, calls in (
        ("bfloat16", "cuda", MODULE.depth),
        ("bfloat16", "cpu", 0),
        ("float32", "cuda", 0),
    ):
        targets = [
            each.attributes["call_target_name"]
            for each in operations(precision, platform, traced_anew)
            if each.name == "custom_call"
        ]
        assert targets == ['"__cudnn$fmhaSoftmax"'] * calls


def test_operations_are_counted_with_those_of_attention():
    module, tokens = MODULE, 1 + MODULE.registers + MODULE.grid**2
    variables = jax.eval_shape(lambda: weights.to_variables(_zeros(module)))
    counted = flops.layers(
        TINY.descriptors, variables, jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.uint8)
    )
    block = 4 * module.width**2 + 3 * module.width * module.hidden + 2 * tokens * module.width
    patches = module.grid**2 * module.patch**2 * 3 * module.width
    expected = 2 * (patches + module.depth * tokens * block)
    assert flops.total_operations(counted) == expected


def _zeros(module: VisionTransformer) -> dict[str, jax.Array]:
    return {name: jnp.zeros(shape) for name, shape in module.shapes().items()}


@pytest.mark.slow
def test_crops_are_described_alike_in_batches_of_1_3_and_64_padded_or_not_on_one_or_two_devices():
    row = encoders.get("DINOv2-S")
    row = dataclasses.replace(row, module=row.module.clone(depth=3), native=None).folded()
    variables, crops = weights.random("DINOv2-S", 0), images(64, 224)
    mesh = lowering.mesh()
    spread = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    together = np.asarray(row.descriptors(variables, crops))
    padded = np.concatenate([crops[:3], np.zeros_like(crops[:5])])
    for found, expected in (
        (row.descriptors(variables, crops[7:8]), together[7:8]),
        (row.descriptors(variables, crops[:3]), together[:3]),
        (row.descriptors(variables, padded)[:3], together[:3]),
        (row.descriptors(variables, jax.device_put(crops, spread)), together),
        (row.descriptors(variables, jax.device_put(padded, spread))[:3], together[:3]),
    ):
        worst = max(map(relative, np.asarray(found), expected))
        print(f"{len(expected)} crops: largest relative difference {worst:.1e}")
        assert worst < 1e-5
