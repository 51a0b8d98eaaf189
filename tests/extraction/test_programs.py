"""Compiled programs against the protocol step by step, for any padding, step and devices.

Tests plans.py, preparation.py, shared_crops.py and (with test_devices.py) engine.py too.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import weights
from histojax.extraction import engine, plans, preparation, shared_crops
from histojax.images.padding import bucket, scaled_size
from histojax.ops import crops, pooling, resize, stain
from tests.samples import tissue

pytestmark = pytest.mark.usefixtures("narrow_vgg")

VIEWS = (View(0.5, 48), View(0.5, 64))
EXTRACTION = Extraction(
    encoders=("VGG",), views=VIEWS, augmentations=5, crops=3, weights="random", seed=4
)
SHARED = dataclasses.replace(EXTRACTION, crop_mode="shared")
NAME = "image"
RGB = tissue(3, 150, 230)


@functools.cache
def loaded(name: str = "VGG", precision: str = "float32"):
    encoder = encoders.ENCODERS[name]
    return encoder.folded(precision), encoder.fold_variables(weights.random(name, 0), precision)


def describe(
    extraction: Extraction,
    tmp_path,
    rgb=RGB,
    devices=2,
    canvas=None,
    step=None,
    kernel=False,
    name="VGG",
):
    """Descriptors by view name, through the programs."""
    encoder, variables = loaded(name, extraction.precision)
    machine = engine.Engine(plans.mesh_of(jax.devices()[:devices]), step, kernel, tmp_path)
    variables = machine.replicate(variables)
    size, small = rgb.shape[:2], scaled_size(rgb.shape, 0.5)
    padded = np.pad(rgb, [(0, bucket(side) - side) for side in size] + [(0, 0)])
    canvas = canvas or scaled_size(padded.shape, 0.5)
    sizes = (np.array(size, np.int32), np.array(small, np.int32))
    density, _ = preparation.prepare(machine.replicate(padded), *sizes, scale=0.5, canvas=canvas)
    views = extraction.views
    described = {}
    for group in (views,) if extraction.crop_mode == "shared" else [(view,) for view in views]:
        program = machine.program(plans.Workload(encoder, extraction, group, canvas), variables)
        key = machine.replicate(crops.image_key(extraction.seed, NAME))
        pooled = program.run(variables, density, small, key)
        described |= {
            view: np.asarray(rows)[: extraction.augmentations] for view, rows in pooled.items()
        }
    return described


def assert_close(found, expected, most=1e-5):
    assert set(found) == set(expected)
    for view, rows in expected.items():
        assert found[view].shape == rows.shape
        assert np.linalg.norm(found[view] - rows) <= most * np.linalg.norm(rows), view


@pytest.fixture(scope="module")
def exactly(tmp_path_factory):
    return describe(EXTRACTION, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def in_one_pass(tmp_path_factory):
    return describe(SHARED, tmp_path_factory.mktemp("cache"))


def test_a_padded_image_is_prepared_as_itself():
    padded = np.pad(RGB, ((0, 42), (0, 26), (0, 0)))
    density, quality = preparation.prepare(
        padded, np.array([150, 230]), np.array([75, 115]), scale=0.5, canvas=(120, 160)
    )
    alone, expected = stain.normalize_with_quality(resize.downscale(RGB, 0.5))
    found = np.round(240 * 10 ** -np.asarray(density)[:, :75, :115] - 1)
    assert np.abs(found - np.moveaxis(np.asarray(alone, int), -1, 0)).max() <= 1
    assert np.mean(found == np.moveaxis(np.asarray(alone, int), -1, 0)) > 0.999
    for ours, theirs in zip(quality, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize("fill", [0, 255])
def test_what_an_image_is_padded_with_is_never_seen(fill):
    sizes = np.array([150, 230]), np.array([75, 115])
    prepared = []
    for value in (0, fill):
        padded = np.pad(RGB, ((0, 42), (0, 26), (0, 0)), constant_values=value)
        density, quality = preparation.prepare(padded, *sizes, scale=0.5, canvas=(96, 128))
        prepared.append((density[:, :75, :115], *quality))
    jax.tree.map(np.testing.assert_array_equal, *prepared)


EXACT_CHANGES = [
    {"devices": 1},
    {"step": 7},
    {"canvas": (200, 160)},
    {"step": 3, "kernel": True},
    {"step": 12, "kernel": True, "devices": 1},
]


@pytest.mark.parametrize("change", EXACT_CHANGES, ids=str)
def test_exact_descriptors_depend_on_neither_devices_steps_canvas_nor_kernel(
    exactly, change, tmp_path
):
    # A program has one view; the views take turns.
    view = VIEWS[EXACT_CHANGES.index(change) % 2]
    one = dataclasses.replace(EXTRACTION, views=(view,))
    assert_close(describe(one, tmp_path, **change), {view.name: exactly[view.name]})


@pytest.mark.parametrize("change", [{"step": 4}, {"devices": 1, "step": 3}], ids=str)
def test_shared_descriptors_depend_on_neither_devices_nor_steps(in_one_pass, change, tmp_path):
    assert_close(describe(SHARED, tmp_path, **change), in_one_pass)


def window_averages_in_numpy(maps, top, left, cells):
    """Area-weighted mean, cell by cell, in float64."""
    total, area = np.zeros(maps.shape[-1]), 0.0
    for i in range(maps.shape[0]):
        for j in range(maps.shape[1]):
            height = min(i + 1, top + cells) - max(i, top)
            width = min(j + 1, left + cells) - max(j, left)
            if height > 0 and width > 0:
                total += height * width * maps[i, j]
                area += height * width
    return total / area


@pytest.mark.parametrize(
    "name",
    [
        "VGG",
        pytest.param("ResNet", marks=pytest.mark.slow),
        pytest.param("Inception", marks=pytest.mark.slow),
    ],
)
def test_shared_descriptors_are_windows_of_the_turned_images_maps(name, tmp_path):
    view = View(0.5, 80)
    extraction = dataclasses.replace(
        SHARED, encoders=(name,), views=(view,), augmentations=3, crops=2
    )
    rgb = tissue(5, 192, 224)  # Whole buckets: no padding.
    encoder, variables = loaded(name)
    normalized = stain.normalize(resize.downscale(rgb, 0.5))
    key, size = crops.image_key(extraction.seed, NAME), np.array([96, 112])
    rows, forms = [], set()
    for a in range(extraction.augmentations):
        augmented = np.asarray(stain.augment(normalized, crops.gains(key, a, 0.7, 1.3)))
        turn = [bool(part) for part in crops.image_turn(key, a)]
        forms.add(tuple(turn))

        def turned(image, turn=turn):
            image = image.swapaxes(0, 1) if turn[0] else image
            image = image[::-1] if turn[1] else image
            return image[:, ::-1] if turn[2] else image

        maps = jax.jit(encoder.maps)(variables, turned(augmented)[None])
        by_crop = []
        for c in range(extraction.crops):
            corner, _ = crops.corner_and_turn(key, a, c, size, view.crop_size)
            # Where the crop is after the turn, found by marking it.
            marked = np.zeros((96, 112))
            marked[int(corner[0]) :, int(corner[1]) :][: view.crop_size, : view.crop_size] = 1
            top, left = (int(where.min()) for where in np.nonzero(turned(marked)))
            alone = jax.eval_shape(
                encoder.maps, variables, jax.ShapeDtypeStruct((1, 80, 80, 3), jnp.float32)
            )
            by_crop.append(
                np.concatenate(
                    [
                        window_averages_in_numpy(
                            np.asarray(maps[tap.layer][0], np.float64),
                            top / tap.stride,
                            left / tap.stride,
                            alone[tap.layer].shape[1],
                        )
                        for tap in encoder.outputs
                    ]
                )
            )
        rows.append((np.mean(np.stack(by_crop) ** 3, axis=0)) ** (1 / 3))
    assert {form[0] for form in forms} == {True, False}, "the seed must try both ways"
    assert_close(describe(extraction, tmp_path, rgb, name=name), {view.name: np.stack(rows)})


def test_a_crop_as_large_as_the_image_is_the_same_in_both_modes_but_for_its_turn(tmp_path):
    rgb = tissue(6, 128, 128)
    rgb = np.concatenate([rgb[:64], rgb[:64][::-1]])
    rgb = np.concatenate([rgb[:, :64], rgb[:, :64][:, ::-1]], axis=1)
    rgb = np.maximum(rgb, rgb.swapaxes(0, 1))  # The same whichever way it is turned.
    view = View(0.5, 64)
    extraction = dataclasses.replace(EXTRACTION, views=(view,), crops=2)
    shared = dataclasses.replace(extraction, crop_mode="shared")
    assert_close(describe(shared, tmp_path, rgb), describe(extraction, tmp_path, rgb), most=1e-4)


def test_shared_descriptors_are_close_to_exact_ones_and_not_the_same(exactly, in_one_pass):
    for view, rows in exactly.items():
        assert (
            np.corrcoef(rows.ravel(), in_one_pass[view].ravel())[0, 1] > 0.8
        )  # Crops smaller than VGG sees.
        assert np.linalg.norm(rows - in_one_pass[view]) > 1e-3 * np.linalg.norm(rows)
        assert (in_one_pass[view] >= 0).all()
        assert len({row.tobytes() for row in in_one_pass[view]}) == SHARED.augmentations


def test_a_shared_image_that_is_padded_gives_finite_descriptors(tmp_path):
    described = describe(SHARED, tmp_path)
    for view in VIEWS:
        assert np.isfinite(described[view.name]).all()
        assert (described[view.name].max(axis=1) > 0).all()


by_turn = jax.jit(shared_crops.by_turn, static_argnums=1)
window_weights = jax.jit(pooling.window_weights, static_argnums=(1, 2))
window_averages = jax.jit(pooling.window_averages, static_argnums=2)


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 5))
@settings(deadline=None, max_examples=12)
def test_batches_by_turn_hold_every_item_once_among_its_kind(turned, size):
    turned = np.array(turned)
    batches, are_turned, places = map(np.asarray, by_turn(jnp.array(turned), size))
    flat = batches.reshape(-1)
    np.testing.assert_array_equal(flat[places], np.arange(len(turned)))
    assert len(set(places)) == len(turned)
    kinds = np.repeat(are_turned, size)
    np.testing.assert_array_equal(kinds[places], turned)
    for batch, kind in zip(batches, are_turned, strict=True):
        if (turned == kind).any():
            assert (turned[batch] == kind).all()


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
        window_averages_in_numpy(maps.astype(np.float64), top, left, 5) for top, left in corners
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    whole = window_averages(jnp.array(maps), jnp.zeros((1, 2)), (9, 12))
    np.testing.assert_allclose(whole[0], maps.mean(axis=(0, 1)), rtol=1e-5)


def test_the_accumulator_is_donated(tmp_path):
    encoder, variables = loaded()
    machine = engine.Engine.of(Runtime(cache=tmp_path))
    workload = plans.Workload(encoder, EXTRACTION, VIEWS[:1], (96, 128))
    program = machine.program(workload, machine.replicate(variables))
    pooled = program.plan.empty()
    density = machine.replicate(np.zeros((3, 96, 128), np.float32))
    key = machine.replicate(crops.image_key(0, NAME))
    program.compiled(
        pooled,
        machine.replicate(variables),
        density,
        np.array([96, 128], np.int32),
        key,
        np.int32(0),
    )
    assert all(rows.is_deleted() for rows in pooled.values())


@pytest.mark.parametrize("mode", ["exact", "shared"])
def test_bfloat16_descriptors_are_near_and_float32(mode, tmp_path, exactly, in_one_pass):
    extraction = dataclasses.replace(EXTRACTION, crop_mode=mode, precision="bfloat16")
    expected = exactly if mode == "exact" else in_one_pass
    found = describe(extraction, tmp_path)
    assert_close(found, expected, most=3e-2)
    assert all(
        rows.dtype == np.float32 and not np.array_equal(rows, expected[view])
        for view, rows in found.items()
    )
