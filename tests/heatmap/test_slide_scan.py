"""A field before any encoder: tiles are pieces of it, stains come from tissue, sizes fit."""

import jax
import numpy as np
import openslide
import pytest
from PIL import Image

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.heatmap import slide_scan
from histojax.heatmap.slide_scan import Grid
from histojax.images import slide
from histojax.ops import resize, stain
from tests import samples, slides
from tests.heatmap import tiny


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37])
def test_tiles_are_pieces_of_the_field_scaled_whole(scale):
    rgb = samples.tissue(0, 203, 171)
    whole = np.asarray(resize.downscale(rgb, scale))
    around = np.pad(whole, ((200, 200), (200, 200), (0, 0)), "symmetric")
    height, width = 64, 96
    with slide.open_slide(rgb) as field:
        for top, left in ((0, 0), (-24, 17), (40, 30), (170, -90)):
            tile = slide_scan.read_tile(field, scale, (top, left), (height, width))
            expected = around[200 + top : 200 + top + height, 200 + left : 200 + left + width]
            np.testing.assert_array_equal(tile, expected)


def test_a_small_field_is_normalised_as_an_image_is():
    rgb, extraction = samples.tissue(1, 192, 256), Extraction(views=(View(0.5, 32),))
    with slide.open_slide(rgb) as field:
        read = slide_scan.at_target(field, extraction, None)
        scan = slide_scan.scan(read, Grid(field.size, 50), extraction)
    assert scan.scored.all()
    assert scan.scales["0.5"].sample.shape == (96, 128, 3)
    stains = scan.stains("0.5", extraction)
    small = resize.downscale(rgb, 0.5)
    transformed = np.asarray(stains.normalizer.transform(small, stains.fitted)).astype(int)
    expected = np.asarray(stain.normalize(small)).astype(int)
    assert abs(transformed - expected).max() <= 1
    assert (transformed == expected).mean() > 0.99


def test_stains_of_a_large_field_come_from_a_sample_and_not_from_glass(monkeypatch):
    monkeypatch.setattr(slide_scan, "_SAMPLE", 4000)
    monkeypatch.setattr(slide_scan, "_TILE", 64)
    monkeypatch.setattr(slide_scan, "LEAST_TISSUE", 0.5)
    extraction = Extraction(views=(View(1.0, 32),))
    tissue = samples.tissue(2, 192, 160)
    with_glass = np.concatenate([tissue, np.full((192, 300, 3), 245, np.uint8)], axis=1)
    fits = []
    for rgb in (tissue, with_glass):
        with slide.open_slide(rgb) as field:
            read = slide_scan.at_target(field, extraction, None)
            scan = slide_scan.scan(read, Grid(field.size, 32), extraction)
        sampled = scan.scales["1.0"]
        assert sampled.step > 1
        np.testing.assert_array_equal(sampled.sample, rgb[:: sampled.step, :: sampled.step])
        fits.append(jax.tree.map(np.asarray, scan.stains("1.0", extraction).fitted))
    cosine = np.sum(fits[0].vectors * fits[1].vectors, axis=0)
    assert (cosine > 0.999).all()
    np.testing.assert_allclose(fits[0].factors, fits[1].factors, rtol=0.1)


def test_a_field_smaller_than_a_crop_is_refused():
    protocol = tiny.protocol(View(0.5, 48))
    with (
        slide.open_slide(samples.tissue(9, 200, 90)) as field,
        pytest.raises(
            InputError,
            match=r"array.* is 90 x 200 px, 45 x 100 at scale 0.5: smaller than the 48 px crop",
        ),
    ):
        slide_scan.scan(slide_scan.at_target(field, protocol, None), Grid(field.size, 20), protocol)


def test_a_field_of_another_pixel_size_is_resampled_piece_by_piece():
    rgb, extraction = samples.tissue(10, 120, 150), tiny.protocol(View(0.5, 48), target_mpp=1.0)
    with slide.open_slide(rgb) as field:
        for mpp in (0.3, 0.8):
            read = slide_scan.at_target(field, extraction, mpp)
            resampled = read.readings["0.5"].field
            assert (read.factor, read.size) == (pytest.approx(2 * mpp), resampled.size)
            size = resampled.size[::-1]
            whole = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
            for top, left, height, width in (
                (0, 0, *resampled.size),
                (7, 11, 40, 30),
                (3, 0, 20, resampled.size[1]),
            ):
                piece = resampled.read(top, left, height, width).astype(int)
                expected = whole[top : top + height, left : left + width].astype(int)
                assert abs(piece - expected).max() <= 1
        for protocol, mpp in ((extraction, 0.5), (tiny.protocol(View(0.5, 48)), 0.3)):
            read = slide_scan.at_target(field, protocol, mpp)
            assert (read.readings["0.5"].field, read.factor) == (field, 1.0)


def test_a_field_is_read_at_each_pixel_size_from_the_file():
    rgb = samples.tissue(10, 240, 300)
    views = View(0.5, 48), View.in_microns(0.5, 32), View.in_microns(1.0, 32)
    with slide.open_slide(rgb) as field:
        read = slide_scan.at_target(field, tiny.protocol(*views), 0.25)
        scan = slide_scan.scan(read, Grid(read.size, 32), tiny.protocol(*views))
        for name, factor in (("0.5mpp", 0.5), ("1.0mpp", 0.25)):
            reading, size = scan.scales[name][:2]
            assert (reading.scale, reading.on_grid) == (1.0, factor)
            whole = Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BICUBIC)
            piece = reading.field.read(0, 0, *size).astype(int)
            assert size == (240 * factor, 300 * factor)
            assert abs(piece - np.asarray(whole)).max() <= 1
        assert (read.size, read.smallest(tiny.protocol(*views))) == ((240, 300), views[1])
        # Without a view by scale, the pixels of the grid are those of the finest one in microns.
        read = slide_scan.at_target(field, tiny.protocol(*views[1:]), 0.25)
        assert (read.size, read.factor) == ((120, 150), 0.5)
        assert [read.window(view) for view in views[1:]] == [32, 64]
        with pytest.raises(InputError, match="would be enlarged 1.6 x for a view of 0.5mpp"):
            slide_scan.at_target(field, tiny.protocol(*views), 0.8)


def test_a_slide_is_read_at_the_level_of_the_target_and_no_other(tmp_path, monkeypatch):
    levels = slides.pyramid(samples.tissue(11, 256, 320))
    path, read = slides.aperio(tmp_path / "a.svs", levels), []
    read_region = openslide.OpenSlide.read_region

    def spy(self, location, level, size):
        read.append(level)
        return read_region(self, location, level, size)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", spy)
    protocol = tiny.protocol(View(0.5, 48), target_mpp=4 * slides.MPP)
    with slide.open_slide(path) as field:
        read_field = slide_scan.at_target(field, protocol, None)
        resampled = read_field.readings["0.5"].field
        assert (resampled.size, read_field.factor) == ((128, 160), 0.5)
        np.testing.assert_array_equal(resampled.read(7, 11, 40, 30), levels[1][7:47, 11:41])
        scan = slide_scan.scan(read_field, Grid(resampled.size, 50), protocol)
    assert scan.scales["0.5"].size == (64, 80)
    assert set(read) == {1}
