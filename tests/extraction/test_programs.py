"""Compiled programs against the protocol step by step, for any padding, step and devices.

Tests plans.py, preparation.py, encoding.py and (with test_hybrid.py and test_devices.py) hybrid.py
and engine.py too.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import weights
from histojax.extraction import encoding, engine, plans, preparation, programs
from histojax.extraction.loaded_encoders import LoadedEncoder
from histojax.images.padding import bucket, scaled_size
from histojax.images.reader import read
from histojax.ops import crops, resize, stain
from tests import references
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
                    references.window_average(
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


def test_a_crop_that_is_checked_is_the_one_that_its_augmentation_draws():
    extraction = dataclasses.replace(HYBRID, stain_augmentation="none")
    image = np.random.default_rng(0).uniform(size=(75, 115, 3)).astype(np.float32)
    key, size = crops.image_key(4, NAME), jnp.array([75, 115])
    arrays = jnp.array(image.transpose(2, 0, 1)), size, key
    cut = jax.jit(lambda n: programs._CROPS[plans.Part.CHECKED](*arrays, n, VIEWS[0], extraction))
    for augmentation, crop in itertools.product(range(2), range(3)):
        chosen = crops.choose(key, augmentation, 3, 7)[crop]
        (top, left), turn = crops.pool_corner_and_turn(key, chosen, size, 48)
        expected = turned(image[top : top + 48, left : left + 48], turn)
        np.testing.assert_array_equal(cut(3 * augmentation + crop), expected)


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
