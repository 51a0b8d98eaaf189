"""Crops come from anywhere in the image, turned as by NumPy; what their keys depend on."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc

from histojax.ops import crops
from tests import samples

# Every pixel of this image is different, so that a crop tells where it came from.
IMAGE = np.arange(30 * 41 * 3, dtype=np.int32).reshape(30, 41, 3)


def key(seed=0, name="b001"):
    return crops.image_key(seed, name)


@functools.partial(jax.jit, static_argnames="size")
def cut_from_canvas(planes, image_size, image_key, augmentations, numbers, size):
    def crop(augmentation, number):
        corner, turn = crops.corner_and_turn(image_key, augmentation, number, image_size, size)
        return jnp.moveaxis(crops.cut(planes, corner, turn, size), 0, -1)

    return jax.vmap(crop)(augmentations, numbers)


def cut(image, image_key, augmentations, numbers, size) -> np.ndarray:
    """Crops of an image, which lies on a canvas so that one program serves all images."""
    canvas = np.full((3, 41, 41), -1, np.int32)
    canvas[:, : image.shape[0], : image.shape[1]] = np.moveaxis(image, -1, 0)
    image_size = np.array(image.shape[:2], np.int32)
    return np.asarray(cut_from_canvas(canvas, image_size, image_key, augmentations, numbers, size))


def many(count: int = 6000, size: int = 12, image: np.ndarray = IMAGE) -> np.ndarray:
    """Crops 0 to 19 of augmentation 0, of 1, and so on."""
    return cut(image, key(), np.arange(count) // 20, np.arange(count) % 20, size)


def one(augmentation: int, crop: int, seed: int = 0, name: str = "b001") -> np.ndarray:
    return cut(IMAGE, key(seed, name), np.array([augmentation]), np.array([crop]), 12)[0]


@pytest.mark.parametrize(
    ("k", "up_down", "left_right"), list(itertools.product(range(4), [False, True], [False, True]))
)
def test_turns_and_flips_are_numpys(k, up_down, left_right):
    planes = np.moveaxis(IMAGE, -1, 0)
    for corner in ((0, 0), (3, 5)):
        square = planes[:, corner[0] : corner[0] + 12, corner[1] : corner[1] + 12]
        expected = np.rot90(square, k, (1, 2))
        expected = expected[:, ::-1] if up_down else expected
        expected = expected[:, :, ::-1] if left_right else expected
        turn = crops._quarter_turn(*jnp.array([k]), *jnp.array([up_down, left_right]))
        np.testing.assert_array_equal(
            crops.cut(jnp.array(planes), jnp.array(corner), turn, 12), expected
        )


@pytest.mark.parametrize("image", [IMAGE, IMAGE.swapaxes(0, 1)], ids=["wide", "tall"])
def test_a_crop_is_a_window_of_the_image_turned_and_flipped(image):
    windows = set()
    for top, left in itertools.product(range(image.shape[0] - 11), range(image.shape[1] - 11)):
        window = image[top : top + 12, left : left + 12]
        turns = [np.rot90(window, k) for k in range(4)]
        windows |= {
            np.ascontiguousarray(way).tobytes() for turn in turns for way in (turn, np.flipud(turn))
        }
    assert all(crop.tobytes() in windows for crop in many(image=image))


def corners(cropped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns of IMAGE that crops begin at."""
    return np.divmod(cropped[..., 0].min(axis=(1, 2)) // 3, IMAGE.shape[1])


def test_all_positions_that_fit_are_reached_and_equally_likely():
    for found, places in zip(corners(many()), (30 - 12 + 1, 41 - 12 + 1), strict=True):
        counts = np.bincount(found, minlength=places)
        assert len(counts) == places
        assert counts[0] > 0
        assert counts[-1] > 0
        assert stats.chisquare(counts).pvalue > 1e-4


def test_rows_and_columns_are_chosen_independently():
    rows, columns = corners(many())
    table = np.histogram2d(rows, columns, bins=(6, 6))[0]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_all_eight_orientations_are_equally_likely_and_independent_of_the_crop_number():
    square = many(8000, 4, IMAGE[:4, :4])
    found = np.unique(square.reshape(8000, -1), axis=0, return_inverse=True)[1].ravel()
    counts = np.bincount(found)
    assert len(counts) == 8
    assert stats.chisquare(counts).pvalue > 1e-4
    assert (
        stats.chi2_contingency(np.histogram2d(found, np.arange(8000) % 20, bins=(8, 20))[0]).pvalue
        > 1e-4
    )


@pytest.mark.parametrize(("height", "width"), [(30, 30), (30, 41), (41, 30)])
def test_an_exact_fit_uses_every_pixel_of_the_short_side(height, width):
    image = np.arange(height * width * 3, dtype=np.int32).reshape(height, width, 3)
    for crop in many(20, 30, image):
        rows, columns = np.divmod(crop[..., 0] // 3, width)
        assert len(np.unique(rows)) == len(np.unique(columns)) == 30
        assert len(np.unique(crop)) == 30 * 30 * 3


def test_the_images_own_type_is_kept():
    planes = np.zeros((3, 9, 9), np.uint8)
    turn = crops.Turn(*np.ones(3, bool))
    cropped = jax.eval_shape(lambda planes: crops.cut(planes, (0, 0), turn, 4), planes)
    assert cropped.dtype == np.uint8


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"name": "b002"}, {"augmentation": 1}, {"crop": 1}], ids=str
)
def test_crops_depend_on_seed_name_augmentation_and_crop(change):
    asked = {"seed": 0, "name": "b001", "augmentation": 0, "crop": 0}
    changed = [one(**asked | change | {"crop": change.get("crop", 0) + 2 * i}) for i in range(3)]
    same = [one(**asked | {"crop": 2 * i}) for i in range(3)]
    assert np.array_equal(same[0], one(**asked))
    assert not any(np.array_equal(a, b) for a, b in zip(same, changed, strict=True))


def test_augmentation_and_crop_do_not_change_places():
    assert not np.array_equal(one(2, 5), one(5, 2))


def test_keys_differ_by_seed_and_by_each_letter_of_the_name():
    names = [*(f"b{i:03}" for i in range(200)), "", "B001", "b001 ", "a" * 500, "é"]
    keys = {
        tuple(jax.random.key_data(key(seed, name)).tolist()) for seed in (0, 1, 2) for name in names
    }
    assert len(keys) == 3 * len(names)


def test_crops_are_the_same_one_by_one_compiled_together_and_in_another_order():
    together = many()
    order = np.random.default_rng(0).permutation(6000)
    shuffled = cut(IMAGE, key(), order // 20, order % 20, 12)
    np.testing.assert_array_equal(shuffled, together[order])
    for i in (39, 0, 7):
        np.testing.assert_array_equal(together[i], one(i // 20, i % 20))
    alone = samples.random_crop(IMAGE, key(), 1, 19, 12)
    np.testing.assert_array_equal(together[39], alone)


@jax.jit
def gains_of(image_key, augmentations, low, high):
    return jax.vmap(lambda a: crops.gains(image_key, a, low, high))(augmentations)


def gains(low: float = 0.7, high: float = 1.3) -> np.ndarray:
    """The gains of 4000 augmentations."""
    return np.asarray(gains_of(key(), np.arange(4000), low, high))


def test_gains_are_independent_uniform_and_differ_by_augmentation():
    drawn = gains()
    assert drawn.shape == (4000, 2)
    assert drawn.min() >= np.float32(0.7)
    assert drawn.max() < np.float32(1.3)
    for column in drawn.T:
        assert stats.kstest(column, stats.uniform(0.7, 0.6).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.06


def test_gains_are_the_same_alone_and_among_others_and_follow_their_range():
    for augmentation in (0, 7):
        np.testing.assert_allclose(
            gains()[augmentation], crops.gains(key(), augmentation, 0.7, 1.3), rtol=1e-6
        )
    np.testing.assert_allclose(gains(0, 1) * 0.6 + 0.7, gains(), rtol=1e-6)
    np.testing.assert_array_equal(gains(1, 1), np.ones((4000, 2)))


def test_gains_are_independent_of_the_crops():
    rows, columns = corners(cut(IMAGE, key(), np.arange(6000), np.zeros(6000, int), 12))
    for gain, place in itertools.product(gains().T, (rows, columns)):
        assert abs(np.corrcoef(gain, place[:4000])[0, 1]) < 0.06


def test_crops_of_the_pool_are_each_uniform_and_together_cover_the_image():
    room = np.array([29, 39])
    place = functools.partial(crops.pool_corner_and_turn, image_size=jnp.array(room + 11), size=12)
    of_many = jax.jit(jax.vmap(place, (0, None)))
    keys = jax.vmap(jax.random.key)(np.arange(2000))
    for crop in (0, 3):
        corner, turn = jax.tree.map(np.asarray, of_many(keys, crop))
        for places, count in zip(corner.T, room, strict=True):
            assert stats.chisquare(np.bincount(places, minlength=count)).pvalue > 1e-4
        forms = np.unique(np.stack(turn, axis=1), axis=0, return_counts=True)[1]
        assert len(forms) == 8
        assert stats.chisquare(forms).pvalue > 1e-4
    pool = [place(key(), crop) for crop in range(24)]
    shares = np.stack([corner + 0.5 for corner, _ in pool]) / room
    # Of shares drawn apart 0.014, in the mean.
    assert qmc.discrepancy(shares) < 0.006
    for first in (0, 8, 16):
        assert len({tuple(map(int, turn)) for _, turn in pool[first : first + 8]}) == 8


def test_augmentations_choose_from_the_pool_with_replacement_and_apart():
    choose = jax.jit(jax.vmap(lambda a: crops.choose(key(), a, 20, 24)))
    chosen = np.asarray(choose(np.arange(400)))
    assert stats.chisquare(np.bincount(chosen.ravel(), minlength=24)).pvalue > 1e-4
    assert len({row.tobytes() for row in chosen}) == 400
    # 20 draws of 24 with replacement meet 24 (1 - (23/24)^20) = 13.7 of them.
    assert 13 < np.mean([len(set(row.tolist())) for row in chosen]) < 14.5


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 100), (32, 32), (33, 95)])
def test_tiles_cover_the_image_and_are_spread_evenly(height, width):
    size, image = 32, np.array([height, width], np.int32)
    rows, columns = crops.tile_counts((height, width), size)
    corners = jax.vmap(lambda i: crops.tile_corner(i, image, size))(jnp.arange(rows * columns))
    corners = np.asarray(corners).reshape(rows, columns, 2)
    for along, side in ((corners[:, 0, 0], height), (corners[0, :, 1], width)):
        assert len(along) == -(-side // size)
        assert (along[0], along[-1]) == (0, side - size)
        steps = np.diff(along)
        assert not len(steps) or (steps.max() <= size and np.ptp(steps) <= 1)
    assert (corners[..., 0] == corners[:, :1, 0]).all()
    assert (corners[..., 1] == corners[:1, :, 1]).all()
