"""Compiled programs against the protocol step by step, for any padding, step and devices.

Tests plans.py, preparation.py, hybrid.py, encoding.py and (with test_devices.py) engine.py too.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import Tap, weights
from histojax.extraction import encoding, engine, hybrid, manifests, plans, preparation
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.images.padding import bucket, scaled_size
from histojax.images.reader import read
from histojax.ops import crops, pooling, resize, stain
from tests.samples import tissue

pytestmark = pytest.mark.usefixtures("narrow_vgg")

VIEWS = (View(0.5, 48), View(0.5, 64))
EXTRACTION = Extraction(
    encoders=("VGG",), views=VIEWS, augmentations=5, crops=3, weights="random", seed=4
)
HYBRID = dataclasses.replace(EXTRACTION, crop_mode="hybrid", pool_crops=7)
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
    fill=None,
):
    """Descriptors by view name, through the programs."""
    encoder, variables = loaded(name, extraction.precision)
    machine = engine.Engine(plans.mesh_of(jax.devices()[:devices]), step, kernel, tmp_path)
    on_devices = LoadedEncoder(encoder, machine.replicate(variables), "", "")
    size, small = rgb.shape[:2], scaled_size(rgb.shape, 0.5)
    padded = np.pad(rgb, [(0, bucket(side) - side) for side in size] + [(0, 0)])
    whole = scaled_size(padded.shape, 0.5)
    sizes = (np.array(size, np.int32), np.array(small, np.int32))
    planes, _ = preparation.prepare(
        machine.replicate(padded),
        *sizes,
        scale=0.5,
        canvas=canvas or whole,
        augmentation=stain.AUGMENTATIONS[extraction.stain_augmentation],
    )
    if fill is not None:
        inside = preparation.inside(np.array(small), planes.shape[1:])
        planes = jnp.where(inside[None], planes, fill)
    key = machine.replicate(crops.image_key(extraction.seed, NAME))
    image = encoding.PreparedImage(planes, small, whole, key)
    described = {}
    for _, views in engine.passes([(name, view) for view in extraction.views], extraction):
        described |= encoding.encode(machine, on_devices, extraction, views, image)
    return {view: np.asarray(rows) for view, rows in described.items()}


def assert_close(found, expected, most=1e-5):
    assert set(found) == set(expected)
    for view, rows in expected.items():
        assert found[view].shape == rows.shape
        assert np.linalg.norm(found[view] - rows) <= most * np.linalg.norm(rows), view


@pytest.fixture(scope="module")
def exactly(tmp_path_factory):
    return describe(EXTRACTION, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def by_pool(tmp_path_factory):
    return describe(HYBRID, tmp_path_factory.mktemp("cache"))


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
    {"canvas": (200, 160), "fill": 0.7},
    {"step": 3, "kernel": True},
    {"step": 12, "kernel": True, "devices": 1},
]


@pytest.mark.parametrize("change", EXACT_CHANGES, ids=str)
def test_exact_descriptors_depend_on_neither_devices_steps_padding_nor_kernel(
    exactly, change, tmp_path
):
    # A program has one view; the views take turns.
    view = VIEWS[EXACT_CHANGES.index(change) % 2]
    one = dataclasses.replace(EXTRACTION, views=(view,))
    assert_close(describe(one, tmp_path, **change), {view.name: exactly[view.name]})


@pytest.mark.parametrize(
    "change", [{"step": 4, "fill": 0.7}, {"devices": 1, "step": 3, "canvas": (128, 200)}], ids=str
)
def test_hybrid_descriptors_depend_on_neither_devices_steps_nor_padding(by_pool, change, tmp_path):
    view = VIEWS["canvas" in change]
    one = dataclasses.replace(HYBRID, views=(view,))  # Nor on the views that share its passes.
    assert_close(describe(one, tmp_path, **change), {view.name: by_pool[view.name]})


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


def turned(square, turn):
    """A square [S, S, 3] turned as `crops.Turn` says."""
    square = square.swapaxes(0, 1) if turn.transpose else square
    square = square[::-1] if turn.reverse_rows else square
    return square[:, ::-1] if turn.reverse_columns else square


@functools.cache
def maps_program(name):
    return jax.jit(loaded(name)[0].maps)


def hybrid_in_numpy(extraction, view, normalized, name):
    """The formula of `hybrid`, a loop over everything, in float64: [A, D]."""
    (encoder, variables), maps_of = loaded(name), maps_program(name)
    key, size = crops.image_key(extraction.seed, NAME), np.array(normalized.shape[:2])
    places = [
        crops.pool_corner_and_turn(key, crop, size, view.crop_size)
        for crop in range(extraction.pool_crops)
    ]

    def exact(gains, crop):
        (top, left), turn = places[crop]
        image = np.asarray(stain.augment(normalized, jnp.array(gains)))
        square = image[top : top + view.crop_size, left : left + view.crop_size]
        maps = maps_of(variables, turned(square, turn)[None])
        return [np.asarray(maps[tap.layer][0], np.float64) for tap in encoder.outputs]

    def windows(gains):
        maps = maps_of(variables, np.asarray(stain.augment(normalized, jnp.array(gains)))[None])
        return [
            np.concatenate(
                [
                    window_averages_in_numpy(
                        np.asarray(maps[tap.layer][0], np.float64),
                        *(float(side) / tap.stride for side in corner),
                        cells,
                    )
                    for tap, cells in zip(encoder.outputs, sides, strict=True)
                ]
            )
            for corner, _ in places
        ]

    count, low, high = extraction.gain_nodes, extraction.gain_low, extraction.gain_high
    middle, reach = (low + high) / 2, (high - low) / 2
    along = [middle - reach * np.cos((2 * k + 1) * np.pi / (2 * count)) for k in range(count)]
    nodes = list(itertools.product(range(count), repeat=2))
    # Around the square of nodes: a crop has three corners in a row.
    corners = [(0, 0), (count - 1, 0), (count - 1, count - 1), (0, count - 1)]
    known = [
        (c, corners[(1 + 2 * c + i) % 4]) for i in range(3) for c in range(extraction.pool_crops)
    ]

    def gains_of(node):
        return along[node[0]], along[node[1]]

    of_crops = [exact((middle, middle), crop) for crop in range(extraction.pool_crops)]
    again = [exact(gains_of(node), crop) for crop, node in known]
    sides = [len(tap) for tap in of_crops[0]]
    at_node = {node: np.stack(windows(gains_of(node))) for node in nodes}

    def polynomial(k, gain):
        return np.prod([(gain - along[m]) / (along[k] - along[m]) for m in range(count) if m != k])

    def interpolated(h, e):
        return sum(polynomial(i, h) * polynomial(j, e) * at_node[i, j] for i, j in at_node)

    pool, pool_again = (
        np.stack([np.concatenate([tap.mean((0, 1)) for tap in maps]) for maps in each])
        for each in (of_crops, again)
    )
    base = interpolated(middle, middle)

    def changes(h, e):
        return interpolated(h, e) - base

    drifts = np.stack(
        [
            other - pool[crop] - changes(*gains_of(node))[crop]
            for (crop, node), other in zip(known, pool_again, strict=True)
        ]
    )

    def drift(h, e, tap):
        """Regression on a Gaussian process, whose covariance is a product of two, of one tap."""
        borders = (pool - base)[:, tap]
        alike = borders @ borders.T
        alike += 0.1 * np.mean(np.diag(alike)) * np.eye(len(alike))

        def covariance(one, c, other, d):
            return np.sum(changes(*one)[:, tap] * changes(*other)[:, tap]) * alike[c, d]

        def with_known(gains, crop):
            return [covariance(gains, crop, gains_of(node), other) for other, node in known]

        between = np.array([with_known(gains_of(node), crop) for crop, node in known])
        between += 1e-4 * np.mean(np.diag(between)) * np.eye(len(between))
        towards = [with_known((h, e), crop) for crop in range(len(pool))]
        return towards @ np.linalg.solve(between, drifts[:, tap])

    bounds = np.cumsum([0, *(tap.channels for tap in encoder.outputs)])
    taps = [slice(*pair) for pair in itertools.pairwise(bounds)]
    rows = []
    for augmentation in range(extraction.augmentations):
        h, e = np.asarray(crops.gains(key, augmentation, low, high), np.float64)
        drifted = np.concatenate([drift(h, e, tap) for tap in taps], axis=1)
        descriptors = pool + changes(h, e) + drifted
        chosen = crops.choose(key, augmentation, extraction.crops, extraction.pool_crops)
        rows.append(np.mean(np.maximum(descriptors[chosen], 0) ** 3, axis=0) ** (1 / 3))
    return np.stack(rows)


@pytest.mark.parametrize(
    "name",
    [
        "VGG",
        pytest.param("ResNet", marks=pytest.mark.slow),
        pytest.param("Inception", marks=pytest.mark.slow),
    ],
)
def test_hybrid_descriptors_are_those_of_the_formula(name, tmp_path):
    # Inception sees no less than 75 px; whole buckets, so no padding.
    view, sides = (View(0.5, 48), (128, 160)) if name == "VGG" else (View(0.5, 80), (192, 224))
    extraction = dataclasses.replace(
        HYBRID, encoders=(name,), views=(view,), augmentations=3, pool_crops=4
    )
    rgb = tissue(5, *sides)
    normalized = stain.normalize(resize.downscale(rgb, 0.5))
    expected = hybrid_in_numpy(extraction, view, normalized, name)
    assert_close(describe(extraction, tmp_path, rgb, name=name), {view.name: expected})


def test_hybrid_descriptors_of_a_real_field_are_those_of_the_formula(shared_data, tmp_path):
    rgb = read(shared_data / "fields" / "mitkovetta_example1.tif")[256:384, 512:672]
    view = View(0.5, 48)
    extraction = dataclasses.replace(HYBRID, views=(view,), pool_crops=4, gain_nodes=2)
    normalized = stain.normalize(resize.downscale(rgb, 0.5))
    expected = hybrid_in_numpy(extraction, view, normalized, "VGG")
    assert_close(describe(extraction, tmp_path, rgb), {view.name: expected})


def test_hybrid_descriptors_are_near_exact_ones_of_the_same_crops(by_pool, tmp_path):
    """Which the run itself measures; and each augmentation has gains and crops of its own."""
    encoder, variables = loaded()
    machine = engine.Engine(plans.mesh_of(jax.devices()), None, False, tmp_path)
    planes, _ = preparation.prepare(
        np.pad(RGB, ((0, 10), (0, 26), (0, 0))),
        np.array([150, 230]),
        np.array([75, 115]),
        scale=0.5,
        canvas=(80, 128),
    )
    key = machine.replicate(crops.image_key(HYBRID.seed, NAME))
    image = encoding.PreparedImage(machine.replicate(planes), (75, 115), (80, 128), key)
    on_devices = LoadedEncoder(encoder, machine.replicate(variables), "", "")
    exact = np.asarray(encoding.encode_first_exactly(machine, on_devices, HYBRID, VIEWS[0], image))
    found = by_pool[VIEWS[0].name]
    assert 0 < np.linalg.norm(found[0] - exact) < 0.1 * np.linalg.norm(exact)
    others = np.linalg.norm(found[1:] - exact, axis=1)
    assert (others > np.linalg.norm(found[0] - exact)).all()
    assert len({row.tobytes() for row in found}) == HYBRID.augmentations


@pytest.mark.parametrize(
    "change", [{"gain_low": 1.2, "gain_high": 1.2}, {"stain_augmentation": "none"}], ids=str
)
def test_where_no_colour_varies_hybrid_crops_are_exact_ones(change, tmp_path):
    extraction = dataclasses.replace(HYBRID, views=VIEWS[:1], pool_crops=2, crops=8, **change)
    hybrid_rows = describe(extraction, tmp_path)[VIEWS[0].name]
    key, size = crops.image_key(extraction.seed, NAME), jnp.array([75, 115])
    normalized = stain.normalize(resize.downscale(RGB, 0.5))
    if "gain_low" in change:
        normalized = stain.augment(normalized, jnp.array([1.2, 1.2]))
    encoder, variables = loaded()
    squares = []
    for crop in range(2):
        (top, left), turn = crops.pool_corner_and_turn(key, crop, size, 48)
        squares.append(turned(np.asarray(normalized)[top : top + 48, left : left + 48], turn))
    pool = np.asarray(encoder.descriptors(variables, np.stack(squares)), np.float64)
    drawn = [np.asarray(crops.choose(key, a, 8, 2)) for a in range(extraction.augmentations)]
    expected = np.stack([np.mean(pool[chosen] ** 3, axis=0) ** (1 / 3) for chosen in drawn])
    assert_close({"rows": hybrid_rows}, {"rows": expected}, most=1e-4)


# Two crops, four nodes, and four channels.
SMALLEST = dataclasses.replace(HYBRID, pool_crops=2, gain_nodes=2, crops=1, p=1.0)
TAPS = Tap("relu", 1), Tap("token", 3, signed=True)
# By version of `manifests.HYBRID`: two descriptors; corners and turns of a pool's first crops.
GOLDEN = {
    3: (
        [[0.0, 0.0, 0.375523, 2.692748], [1.703865, 2.258648, 0.073120, 0.628757]],
        [[10, 10, 0, 0, 0], [6, 27, 1, 1, 0], [1, 14, 0, 1, 1]],
    )
}


def test_the_numbers_of_crop_mode_hybrid_are_those_of_its_version():
    """Descriptors of two versions are never mixed, so a change of these needs a new version."""
    assert manifests.HYBRID in GOLDEN, "HYBRID has a new version: put its numbers here"
    descriptors, pool = GOLDEN[manifests.HYBRID]
    extraction = dataclasses.replace(SMALLEST, pool_crops=4)
    encoded, windows = np.arange(64) * 5 % 23, np.arange(64) * 7 % 31
    arrays = (jnp.float32(encoded.reshape(16, 4) / 9), jnp.float32(windows.reshape(4, 4, 4) / 9))
    key = crops.image_key(0, NAME)
    rows = hybrid.assemble(*arrays, key, taps=TAPS, extraction=extraction)
    np.testing.assert_allclose(rows[:2], descriptors, atol=1e-4)
    drawn = [crops.pool_corner_and_turn(key, c, jnp.array([42, 54]), 24) for c in range(3)]
    assert [[*map(int, (*corner, *turn))] for corner, turn in drawn] == pool


@pytest.mark.parametrize(
    ("gains", "rows"),
    [
        (1, ["+ + + + +", "- - - - -"]),
        (2, ["+- -+ +- -+ +-", "++ -- ++ -- ++", "-+ +- -+ +- -+"]),
        (3, ["+-- -+- +++ --+ +--", "++- -++ +-+ --- ++-", "-+- +++ --+ +-- -+-"]),
    ],
)
def test_crops_of_the_pool_are_encoded_at_the_middle_and_up_to_three_corners(
    gains, rows, monkeypatch
):
    monkeypatch.setitem(stain.AUGMENTATIONS, "made", stain.Augmentation(None, None, gains))
    extraction = dataclasses.replace(HYBRID, stain_augmentation="made", pool_crops=5)
    made, along = preparation.pool_gains(extraction), preparation.gain_nodes(extraction)[:, -1]
    np.testing.assert_array_equal(made[0], np.ones((5, gains)))
    for found, signs in zip(made[1:], rows, strict=True):
        expected = [along.max() if sign == "+" else along.min() for sign in signs.replace(" ", "")]
        np.testing.assert_array_equal(found.ravel(), expected)
    constant = dataclasses.replace(extraction, gain_low=1.2, gain_high=1.2)
    np.testing.assert_array_equal(
        preparation.pool_gains(constant), np.full((1, 5, gains), 1.2, np.float32)
    )


def test_only_what_is_never_negative_is_cut_off_at_zero():
    extraction = dataclasses.replace(SMALLEST, augmentations=200)
    by_node = jnp.array([2.0, 1.91, 2.09, 2.0])[:, None, None] * jnp.ones((4, 2, 1))
    # The middle is 2, but of what is negative in all windows.
    windows = jnp.concatenate([by_node, by_node, by_node - 5, 4 - by_node], axis=-1)
    # What colour changes is as in the windows, so that nothing drifts.
    first = jnp.array([[0.1, -0.9, 0.1, 0.05]] * 2)
    corners = jnp.array(preparation.pool_gains(extraction)[1:].reshape(-1, 2))
    at_corners = [hybrid.node_weights(gains, extraction) @ windows[:, 0] for gains in corners]
    pool = jnp.concatenate([first, first[:1] + jnp.stack(at_corners)])
    key = crops.image_key(0, NAME)
    rows = np.asarray(hybrid.assemble(pool, windows, key, taps=TAPS, extraction=extraction))
    gains = jax.vmap(lambda a: preparation.gains(key, a, extraction))(jnp.arange(200))
    weights_ = jax.vmap(lambda g: hybrid.node_weights(g, extraction))(gains)
    changes = np.asarray(weights_ @ windows[:, 0, 0])
    assert min(changes) < -0.11
    assert max(changes) > 0.11
    np.testing.assert_allclose(rows[:, 0], np.maximum(0.1 + changes, 0), atol=1e-5)
    # Of the others the pool's crops at the middle are negative, all windows, or a crop elsewhere.
    np.testing.assert_allclose(rows[:, 1], -0.9 + changes, atol=1e-5)
    np.testing.assert_allclose(rows[:, 2], 0.1 + changes, atol=1e-5)
    np.testing.assert_allclose(rows[:, 3], 0.05 - changes, atol=1e-5)


def test_what_drifts_with_the_border_and_the_colour_is_found_again():
    """A drift that is bilinear in both; and a tap in which nothing happens stays as it is."""
    extraction = dataclasses.replace(HYBRID, pool_crops=24, gain_nodes=3, crops=24, p=1.0)
    nodes = preparation.gain_nodes(extraction)
    rng = np.random.default_rng(0)
    contents, strength = rng.uniform(5, 6, (24, 3)), rng.uniform(1, 2, (24, 1))
    borders = strength * rng.uniform(0.5, 1, 3)
    mix = 0.1 * rng.normal(size=3)

    def window(gains):
        return contents * (1 + 0.2 * (gains[0] - 1) + 0.5 * (gains[0] - 1) * (gains[1] - 1))

    def exact(gains):  # Colour changes all windows by one factor, but for what is added here.
        change = np.mean(window(gains) - window(np.ones(2)), axis=0)
        return window(gains) + borders * (1 + change @ mix)

    def both(rows):
        return jnp.array(np.concatenate([rows, np.ones_like(rows[..., :1])], axis=-1), jnp.float32)

    windows = both(np.stack([window(node) for node in nodes]))
    gains = preparation.pool_gains(extraction)
    pool = both(np.array([exact(gains[i, c])[c] for i in range(4) for c in range(24)]))
    key = crops.image_key(0, NAME)
    taps = (Tap("relu", 3), Tap("constant", 1))
    rows = np.asarray(hybrid.assemble(pool, windows, key, taps=taps, extraction=extraction))
    for a, row in enumerate(rows):
        gains = np.asarray(preparation.gains(key, a, extraction), np.float64)
        chosen = np.asarray(crops.choose(key, a, 24, 24))
        expected = exact(gains)[chosen].mean(axis=0)
        without = (exact(np.ones(2)) + window(gains) - window(np.ones(2)))[chosen].mean(axis=0)
        np.testing.assert_array_less(np.abs(row[:3] - expected), 0.1 * np.abs(without - expected))
        np.testing.assert_allclose(row[3], 1, rtol=1e-6)


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


@pytest.mark.parametrize("mode", ["exact", "hybrid"])
def test_bfloat16_descriptors_are_near_and_float32(mode, tmp_path, exactly, by_pool):
    extraction = EXTRACTION if mode == "exact" else HYBRID
    expected = exactly if mode == "exact" else by_pool
    expected = {VIEWS[0].name: expected[VIEWS[0].name]}
    changed = dataclasses.replace(extraction, precision="bfloat16", views=VIEWS[:1])
    found = describe(changed, tmp_path)
    assert_close(found, expected, most=3e-2)
    assert all(
        rows.dtype == np.float32 and not np.array_equal(rows, expected[view])
        for view, rows in found.items()
    )
