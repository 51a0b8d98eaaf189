"""Encoders that make a vector of an image: crops of a lattice, one by one, in place of windows."""

import dataclasses

import jax
import numpy as np
import pytest

from histojax.config import View
from histojax.errors import InputError
from histojax.heatmap import crop_pass, heatmap, passes, sliding_window, typicality
from histojax.heatmap.crop_pass import CropAxis
from histojax.heatmap.heatmap import HeatmapOptions
from histojax.ops import crops, stain
from tests import samples
from tests.heatmap import tiny

VIEW = View(1.0, 32)
EXTRACTION = tiny.protocol(VIEW, encoders=("Tokens",))


@pytest.mark.parametrize(("size", "step"), [(1000, 112), (1024, 112), (225, 112), (224, 112)])
def test_crops_reach_from_edge_to_edge_and_the_nearest_are_taken(size, step):
    axis = CropAxis(size, 224, step)
    assert axis.starts[0] == 0
    assert axis.starts[-1] == size - 224
    assert (np.diff(axis.starts) > 0).all()
    assert (np.diff(axis.starts) <= step).all()
    centres = np.arange(20, size, 50)
    windows = np.clip(centres[:, None] + 224 * np.array([-0.75, -0.5, -0.25]), 0, size - 224)
    nearest = axis.starts[axis.nearest(centres)]
    assert nearest.shape == (len(centres), 3)
    expected = np.abs(axis.starts - windows[..., None]).min(axis=-1)
    np.testing.assert_allclose(np.abs(nearest - windows), expected, atol=1e-4)


def test_a_position_is_the_mean_over_the_crops_nearest_to_its_windows():
    """Each normalised and augmented with the field, and through the network by itself."""
    rgb, axes = samples.tissue(11, 90, 128), (CropAxis(90, 32, 16), CropAxis(128, 32, 16))
    descriptors, scored = tiny.descriptors_of(rgb, EXTRACTION, 16, 2)
    loaded = tiny.encoder_set(EXTRACTION).encoders["Tokens"]
    draw = jax.jit(lambda augmentation: crops.gains(key, augmentation, 0.7, 1.3))
    augmented = jax.jit(lambda gains: stain.augment(stain.normalize(rgb), gains))
    key = crops.image_key(0, "a")
    for augmentation in range(2):
        image = np.asarray(augmented(draw(augmentation)))
        alone = [
            image[top : top + 32, left : left + 32]
            for top in axes[0].starts
            for left in axes[1].starts
        ]
        vectors = np.asarray(loaded.encoder.descriptors(loaded.variables, np.stack(alone)))
        vectors = vectors.reshape(len(axes[0].starts), len(axes[1].starts), -1)
        assert (vectors < 0).any()
        rows, columns = (
            axis.nearest(16 * (np.arange(count) + 0.5))
            for axis, count in zip(axes, scored.shape, strict=True)
        )
        expected = vectors[rows[:, None, :, None], columns[None, :, None]].mean(axis=(2, 3))
        found = descriptors["Tokens-1.0-32"][:, augmentation].reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_blocks_and_memory_decide_no_descriptor(monkeypatch):
    rgb = samples.tissue(5, 90, 128)
    at_once, _ = tiny.descriptors_of(rgb, EXTRACTION, 16, 2)
    monkeypatch.setattr(sliding_window, "_MEMORY_LIMIT", 1)
    monkeypatch.setattr(crop_pass, "_READ", 48)  # By two and two, the last row by itself.
    several, _ = tiny.descriptors_of(rgb, EXTRACTION, 16, 2)
    (expected,), (found,) = at_once.values(), several.values()
    first, second = np.split(found, 2)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=1e-5)


def test_crops_of_glass_do_not_go_through_the_network(monkeypatch):
    rgb, encoded = np.full((90, 128, 3), 245, np.uint8), []
    rgb[:, :32] = samples.tissue(8, 90, 32)
    encode = crop_pass.CropPass.encode

    def counted(self, pieces, gains):
        encoded.append(len(pieces))
        return encode(self, pieces, gains)

    monkeypatch.setattr(crop_pass.CropPass, "encode", counted)
    descriptors, scored = tiny.descriptors_of(rgb, EXTRACTION, 16)
    assert scored[:, :2].all()
    assert not scored[:, 3:].any()
    assert {*encoded} == {6}  # Three for each device, whatever is left for the last.
    assert sum(encoded) == 18  # For 5 x 3 crops of 5 x 7
    assert len(descriptors["Tokens-1.0-32"]) == scored.sum()


def test_networks_of_both_kinds_share_a_map():
    """The mean of each's own, on the same positions, of which places are compared as well."""
    rgb, both = samples.tissue(7, 90, 128), tiny.protocol(VIEW, encoders=("Tiny", "Tokens"))

    def score(_, descriptors):
        first = descriptors[..., :1].mean(axis=1)
        return np.concatenate([first, 1 - first], axis=1)

    seen = []
    together = tiny.scores_of(
        rgb, both, score, 16, observe=lambda *found: seen.append((found[0], found[2].shape))
    )
    alone = [
        tiny.scores_of(rgb, tiny.protocol(VIEW, encoders=(name,)), score, 16)
        for name in both.encoders
    ]
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-6)
    assert {name for name, _ in seen} == {*both.configurations}
    assert sum(shape[0] for name, shape in seen if name == "Tokens-1.0-32") == 6


def test_a_map_says_that_windows_do_not_apply_and_how_far_crops_are_apart():
    bundle = tiny.bundle(EXTRACTION, tiny.darkness)
    bundle.score = lambda _, descriptors: np.full((len(descriptors), 2), 0.5)
    options = HeatmapOptions(stride=16, crop_step=1.0)
    loaded = tiny.encoder_set(EXTRACTION)
    result = heatmap.map_image(bundle, samples.tissue(2, 90, 128), options, encoder_set=loaded)
    assert result.made_with["crop_by_crop"] == ["Tokens"]
    assert result.made_with["crop_step_crops"] == 1
    assert result.reach == pytest.approx(1.25 * 32)
    assert "described with --crop_step=0.5, not 1" in typicality.uncompared(object(), 1.0)
    assert not typicality.uncompared(object(), crop_pass.CROP_STEP)


def test_a_step_that_is_impossible_or_of_no_use_is_refused():
    with pytest.raises(InputError, match="--crop_step is 1.5, expected above 0 and at most 1"):
        HeatmapOptions(crop_step=1.5).check()
    maps = tiny.encoder_set(tiny.protocol(VIEW))
    with pytest.raises(InputError, match="make a vector of a crop, but Tiny make maps"):
        passes.check_encoders(maps, 0.5)
    passes.check_encoders(tiny.encoder_set(EXTRACTION), 0.5)
    passes.check_encoders(dataclasses.replace(maps, extraction=EXTRACTION))
