"""The vision transformers of the table against timm and transformers, stage by stage.

Weights and images are drawn by NumPy (`vit_references`). What timm gave for them is in
timm_tokens.npz (made by make_timm_tokens); transformers runs here, where it is installed:

  pip install torch==2.13.0 transformers==5.24.0
  python -m pytest -m slow tests/parity/test_vit.py

An error is the norm of the difference over the norm of the reference's numbers.
"""

import dataclasses
import functools
import importlib.util
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from histojax import encoders
from histojax.encoders import Encoder, foundation, vit, weights
from tests.parity import vit_references as references

GOLDEN = Path(__file__).with_name("timm_tokens.npz")
TOLERANCE = 1e-5
STAGES = ("embedded", "block0", "tokens", "class_token", "patch_mean")
# What a library has of itself: epsilon of the norms, and how positions are resampled.
LIBRARIES = {
    "timm": (1e-6, "antialiased"),
    "ViT": (1e-12, "plain"),
    "Dinov2": (1e-6, "plain"),
    "Dinov2WithRegisters": (1e-6, "antialiased"),
}
needs_transformers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers"))),
    reason="torch or transformers is not installed: they are in requirements-bench.txt alone",
)


def cut(name: str, **changes) -> Encoder:
    """A row of the table, its network of another depth or width, that takes images as they are."""
    row = encoders.get(name)
    changed = dataclasses.replace(row, module=row.module.clone(**changes), native=None)
    return changed.folded("float32")


def tiny(name: str) -> Encoder:
    module = encoders.get(name).module
    return cut(name, width=32, heads=2, depth=2, grid=4, hidden=module.hidden * 32 // module.width)


@functools.partial(jax.jit, static_argnums=0)
def stages(encoder: Encoder, variables, images) -> dict[str, jax.Array]:
    """The tokens before and after the first block, and what the module returns."""
    found = {}

    def watch(call, arguments, keywords, context):
        result = call(*arguments, **keywords)
        if context.module.name == "block0" and context.method_name == "__call__":
            found.update(embedded=arguments[0], block0=result)
        return result

    with nn.intercept_methods(watch):
        returned = encoder.maps(variables, images)
    return found | returned


def drawn(encoder: Encoder):
    shapes = weights.shapes(encoder)
    return weights.to_variables({name: references.draw(name, s) for name, s in shapes.items()})


def assert_equal(encoder: Encoder, size: tuple[int, int], expected, variables, pick) -> None:
    found = stages(encoder, variables, references.images(size))
    errors = {
        stage: references.relative(pick(np.asarray(found[stage])), expected[stage])
        for stage in STAGES
    }
    print(encoder.name, size, {stage: f"{error:.1e}" for stage, error in errors.items()})
    assert max(errors.values()) < TOLERANCE


def assert_equals_timm(encoder: Encoder, name: str, kind: str, sizes) -> None:
    variables = drawn(encoder)
    with np.load(GOLDEN) as golden:
        for height, width in sizes:
            expected = {s: golden[f"{name}/{kind}/{height}x{width}/{s}"] for s in STAGES}
            assert_equal(encoder, (height, width), expected, variables, references.sample)


def test_every_row_has_a_reference_and_its_settings():
    expected = {}
    for name, (s, _) in references.TIMM.items():
        sizes = s["embed_dim"], s["depth"], s["num_heads"], s["patch_size"]
        expected[name] = *sizes, s.get("reg_tokens", 0), *LIBRARIES["timm"]
    for name, (kind, s, _) in references.HUGGING_FACE.items():
        layers = s["num_hidden_layers"], s["num_attention_heads"]
        registers = 4 if kind.endswith("Registers") else 0
        expected[name] = s["hidden_size"], *layers, s["patch_size"], registers, *LIBRARIES[kind]
    found = {row.name: row.module for row in foundation.ROWS}
    assert expected == {
        name: (m.width, m.depth, m.heads, m.patch, m.registers, m.epsilon, m.resampling)
        for name, m in found.items()
    }
    for row in foundation.ROWS:
        *_, mean_and_deviation = (references.TIMM | references.HUGGING_FACE)[row.name]
        convention = row.convention.mean, row.convention.divisor
        np.testing.assert_allclose(
            convention, 255 * np.array(mean_and_deviation), 1e-7, err_msg=row.name
        )


@pytest.mark.parametrize("name", references.LAYOUTS)
def test_each_layout_of_tokens_is_timms(name):
    encoder = tiny(name)
    _, sizes = references.tiny(encoder.module.patch)
    assert_equals_timm(encoder, name, "tiny", sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", references.TIMM)
def test_tokens_and_descriptors_are_timms_at_the_width_of_each_row(name):
    encoder = cut(name, depth=2)
    assert_equals_timm(encoder, name, "cut", references.sizes(encoder.module.patch))


@pytest.mark.slow
@pytest.mark.parametrize("name", references.FULL)
def test_tokens_and_descriptors_are_timms_at_full_depth(name):
    encoder = cut(name)
    assert_equals_timm(encoder, name, "full", references.sizes(encoder.module.patch)[:1])


@needs_transformers
@pytest.mark.slow
@pytest.mark.parametrize("kind", vit.RESAMPLINGS)
def test_positions_are_resampled_as_pytorch_does_in_double_precision(kind):
    """In float32 it differs from that by up to 1.5e-5 here, since it rounds where it samples."""
    import torch

    for side, size in ((37, (16, 16)), (37, (12, 20)), (14, (12, 20)), (16, (7, 50))):
        square = references.draw("positions", (side, side, 64)).astype(np.float64)
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(square.transpose(2, 0, 1)[None].copy()),
            size=size,
            mode="bicubic",
            align_corners=False,
            antialias=kind == "antialiased",
        )
        ours = vit.resample_positions(square.reshape(-1, 64).astype(np.float32), *size, kind)
        expected = theirs[0].numpy().transpose(1, 2, 0).reshape(-1, 64)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def assert_equals_transformers(name: str, **changes) -> None:
    from tests.parity import vit_hugging_face

    kind, settings, convention = references.HUGGING_FACE[name]
    depth = changes.get("depth", settings["num_hidden_layers"])
    network = vit_hugging_face.model(kind, settings | {"num_hidden_layers": depth})
    encoder = cut(name, **changes)
    variables = drawn(encoder)
    for size in references.sizes(encoder.module.patch):
        inputs = references.inputs(references.images(size), *convention)
        expected = vit_hugging_face.stages(network, inputs)
        assert_equal(encoder, size, expected, variables, lambda array: array)


@needs_transformers
@pytest.mark.slow
@pytest.mark.parametrize("name", references.HUGGING_FACE)
def test_tokens_and_descriptors_are_those_of_transformers_at_the_width_of_each_row(name):
    assert_equals_transformers(name, depth=2)


@needs_transformers
@pytest.mark.slow
@pytest.mark.parametrize("name", ["Phikon", "Hibou-L", "Midnight-12k"])
def test_tokens_and_descriptors_are_those_of_transformers_at_full_depth(name):
    assert_equals_transformers(name)
