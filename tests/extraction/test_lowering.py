"""Every program of extraction and heat maps, lowered for a GPU and a TPU where there is neither.

One trace a program and configuration: test_extract.py. The fused kernel: test_pooling_pallas.py.
"""

import functools
import math

import jax
import numpy as np
import pytest

from histojax.encoders import ENCODERS
from histojax.encoders.precision import PRECISIONS
from histojax.extraction import engine, hybrid, preparation, programs
from histojax.extraction.plans import Part
from histojax.heatmap import border_correction, crop_pass, tile_features, typicality
from histojax.ops import crops, pooling_pallas, stain
from tests import lowering
from tests.lowering import CANVAS, PLATFORMS, VIEW, Operation

WHOLE = f"3x{CANVAS[0]}x{CANVAS[1]}xf32"
CHANNELS_LAST = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
OF_THE_HOST = ("send", "recv", "infeed", "outfeed")
TRITON = '"__gpu$xla.gpu.triton"'
# What is fast: one encoder with convolutions and matrix products, and each part of another. The
# rest is slow.
FAST = [("ResNet", Part.EXACT), *(("VGG", part) for part in Part)]
CASES = [pytest.param(*case, "bfloat16", "cuda", id=f"{case[0]}-{case[1].value}") for case in FAST]
CASES += [
    pytest.param(name, part, precision, platform, marks=pytest.mark.slow)
    for name in ENCODERS
    if not ENCODERS[name].vectors
    for part in Part
    for precision in PRECISIONS
    for platform in PLATFORMS
]


@functools.cache
def program(name: str, part: Part, precision: str, platform: str) -> list[Operation]:
    return lowering.program(lowering.plan(name, precision, part), platform)


def named(operations: list[Operation], *names: str) -> list[Operation]:
    return [operation for operation in operations if operation.name in names]


def large(operations: list[Operation]) -> list[Operation]:
    """Those with results of more than 100,000 numbers."""
    return [each for each in operations if any(elements(kind) > 100_000 for kind in each.outputs)]


def elements(kind: str) -> int:
    """How many numbers a tensor has: `3x400x400xf32`."""
    return math.prod(int(side) for side in kind.split("x")[:-1])


@pytest.mark.parametrize(("name", "part", "precision", "platform"), CASES)
def test_layers_multiply_in_the_precision_and_nothing_is_moved_between_them(
    name, part, precision, platform
):
    chosen = lowering.plan(name, precision, part)
    network = [each for each in program(name, part, precision, platform) if each.is_of_network]
    products = named(network, "convolution", "dot_general")
    counted = engine.layers(chosen.workload, lowering.variables(chosen.workload.encoder))
    assert len(products) == len(counted)
    dtype = "bf16" if precision == "bfloat16" else "f32"
    assert {frozenset(product.dtypes) for product in products} == {frozenset([dtype])}
    for product in products:
        asked = PRECISIONS[precision].multiply.name
        # For XLA's Triton kernels TF32 is the default alone, and HIGH is float32.
        if (precision, platform, product.name) == ("tf32", "cuda", "dot_general"):
            asked = "DEFAULT"
        assert product.attributes["precision_config"].count(f"precision {asked}>") == 2
    assert not named(network, "transpose", "gather", "scatter", "dynamic_slice", "reverse", "while")
    # Channels are last from the first layer to the last.
    for convolution in named(network, "convolution"):
        assert CHANNELS_LAST in convolution.attributes["dimension_numbers"]
    for product in named(network, "dot_general"):
        assert "lhs_contracting_dimensions = [3]" in product.attributes["dot_dimension_numbers"]


@pytest.mark.parametrize(("name", "part", "precision", "platform"), CASES)
def test_a_step_gathers_and_transposes_its_crops_once_and_asks_nothing_of_the_host(
    name, part, precision, platform
):
    operations = program(name, part, precision, platform)
    before = large([each for each in operations if not each.is_of_network])
    gathers = [(each.inputs[0], each.outputs[0]) for each in named(before, "gather")]
    # A turned crop is no slice: its rows may be columns, and the last first.
    crop = f"x3x{VIEW.crop_size}x{VIEW.crop_size}xf32"
    cut = [result.endswith(crop) for source, result in gathers if source == WHOLE]
    assert cut == [True] * (part is not Part.WINDOWS)
    # How many tiles an augmentation has is data, and so is where its descriptors begin.
    assert len(gathers) - len(cut) == (part is Part.TILES)
    # To channels last, as the augmentation ends. (That of an axis of one moves nothing.)
    transposes = [each.outputs[0] for each in named(before, "transpose")]
    (images,) = [result for result in transposes if not result.startswith("1x3x")]
    assert images.endswith("x3xf32")
    assert len(named(operations, "while")) == 1, "steps take turns, and nothing else"
    assert not named(operations, *OF_THE_HOST, "custom_call", "sort")


def others(platform: str) -> dict[str, list[Operation]]:
    """The operations of every program beside the encoder's."""
    of, shape = functools.partial(lowering.operations, platform=platform), jax.ShapeDtypeStruct
    key, mesh = crops.image_key(0, ""), lowering.mesh()
    extraction = lowering.protocol("VGG", "bfloat16", Part.POOL)
    encoder = ENCODERS["VGG"].folded("bfloat16")
    variables = lowering.variables(encoder)
    pixel, size = shape((2,), np.int32), 640
    axis = (shape((size, 4), np.int32), shape((size, 4), np.float32))
    tiles, gains = shape((2, size, size, 3), np.uint8), shape((2, 2), np.float32)
    fitted = stain.Stains(shape((3, 2), np.float32), shape((2,), np.float32))
    stains = tile_features.FieldStain(fitted, stain.MACENKO, stain.HEMATOXYLIN_EOSIN)
    windows = tuple((tap, 12.5) for tap in encoder.outputs)
    crop_program = border_correction._CropProgram(encoder, mesh, 128, VIEW.crop_size - 16, 2)
    return {
        "prepare": of(
            preparation.prepare,
            shape((1536, 2048, 3), np.uint8),
            pixel,
            pixel,
            scale=0.5,
            canvas=CANVAS,
        ),
        "assemble": of(
            hybrid.assemble,
            shape((4 * extraction.pool_crops, encoder.width), np.float32),
            shape((9, extraction.pool_crops, encoder.width), np.float32),
            key,
            taps=encoder.outputs,
            extraction=extraction,
        ),
        "tile": of(tile_features.resample_tile, shape((1300, 1300, 3), np.uint8), axis, axis),
        "stains": of(
            tile_features.fit_normalizer,
            stain.MACENKO,
            shape((9000, 3), np.uint8),
            shape((9000,), bool),
        ),
        "cells": of(
            tile_features.feature_cells, variables, tiles, stains, gains, encoder=encoder, mesh=mesh
        ),
        "crops": of(
            crop_pass._descriptors,
            variables,
            stains,
            shape((4, 224, 224, 3), np.uint8),
            shape((4, 2), np.float32),
            encoder=encoder,
            mesh=mesh,
        ),
        "border": of(
            border_correction._crop_descriptors,
            variables,
            stains,
            key,
            tiles,
            gains,
            program=crop_program,
        ),
        "positions": of(
            tile_features.position_descriptors,
            shape((40, 5, 60, encoder.width), np.float32),
            shape((encoder.width,), np.float32),
            shape((3,), np.float32),
            shape((7, 3), np.float32),
            taps=windows,
            p=3.0,
        ),
        "stain qc": of(typicality._measure, shape((300, 300, 3), np.uint8)),
    }


@pytest.mark.parametrize("platform", ["cuda", pytest.param("tpu", marks=pytest.mark.slow)])
def test_preparation_assembly_and_heat_maps_gather_whole_rows_and_ask_nothing_of_the_host(platform):
    for name, operations in others(platform).items():
        assert not named(operations, *OF_THE_HOST, "sort"), name
        calls = [each.attributes["call_target_name"] for each in named(operations, "custom_call")]
        # Eigenvectors of a 3 x 3 matrix, and factors of one of 3 Q x 3 Q, by a library of the
        # device; on a TPU the second is an operation of XLA.
        if name == "assemble" and platform == "cuda":
            assert {*calls} == {'"cusolver_potrf_ffi"'}
        else:
            assert {*calls} <= {'"cusolver_syevd_ffi"', '"Eigh"'}, name
            assert bool(calls) == (name in ("prepare", "stains", "stain qc"))
        network = [each for each in operations if each.is_of_network]
        products = named(network, "convolution", "dot_general")
        assert len(products) == (13 if name in ("cells", "crops", "border") else 0), name
        assert all(each.dtypes == {"bf16"} for each in products), name
        assert not named(network, "transpose", "gather"), name
        for gather in named(large(operations), "gather"):
            if name != "border":  # That cuts a turned crop.
                (length, *row) = (
                    gather.attributes["slice_sizes"].partition(": ")[2][:-1].split(", ")
                )
                assert (length, row) == ("1", gather.inputs[0].split("x")[1:-1]), name


def test_the_kernel_takes_maps_as_the_last_layer_leaves_them(monkeypatch):
    """Nothing is moved for it, and a tap is one call."""
    real = pooling_pallas.pool
    monkeypatch.setattr(pooling_pallas, "pool", lambda maps, p, interpret: real(maps, p))
    chosen = lowering.plan("VGG", "bfloat16", kernel=True)
    encoder, images = chosen.workload.encoder, (40, VIEW.crop_size, VIEW.crop_size, 3)
    variables = lowering.variables(encoder)
    with lowering.as_for_a_gpu():
        operations = lowering.operations(
            jax.jit(functools.partial(programs._pool_by_kernel, chosen)),
            variables,
            jax.ShapeDtypeStruct(images, np.float32),
            platform="cuda",
        )
    calls = [each.attributes["call_target_name"] for each in named(operations, "custom_call")]
    assert calls == [TRITON] * len(encoder.outputs)
    outside = [each for each in operations if not each.is_of_network]
    assert not named(outside, "transpose", "slice", "gather", "convert")
