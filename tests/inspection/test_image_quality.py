"""Measures of an image: by hand, by the stain step itself, and the same whether read by region."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter

from histojax.images import resampling
from histojax.inspection import image_quality
from histojax.ops import stain
from tests import samples, slides
from tests.inspection.conftest import HEIGHT, WIDTH


def test_a_large_image_is_read_by_region_and_measures_the_same(tissue, tmp_path, monkeypatch):
    path = tmp_path / "field.tif"
    big = np.tile(tissue[0], (4, 4, 1))
    tifffile.imwrite(path, big, photometric="rgb", tile=(128, 128), compression="deflate")
    whole = image_quality.inspect_image(path)
    monkeypatch.setattr(image_quality, "_LARGEST_WHOLE", 1000)
    monkeypatch.setattr(image_quality.reader, "read", None)  # Reading it whole would fail.
    by_region = image_quality.inspect_image(path)
    fingerprints = [image.quality.fingerprint for image in (by_region, whole)]
    np.testing.assert_array_equal(*(known.features.descriptors for known in fingerprints))
    np.testing.assert_array_equal(*(known.picture.levels for known in fingerprints))
    assert fingerprints[0].size == fingerprints[1].size
    assert by_region.size == (4 * HEIGHT, 4 * WIDTH)
    assert by_region.quality.clipped == whole.quality.clipped


def test_a_slide_is_measured_and_too_large_a_one_is_told(tissue, tmp_path, monkeypatch):
    size, big = (2 * HEIGHT, 2 * WIDTH), np.tile(tissue[0], (2, 2, 1))
    path = slides.aperio(tmp_path / "a.svs", slides.pyramid(big, 2))
    image = image_quality.inspect_image(path)
    assert (image.error, image.size, image.mpp) == ("", size, slides.MPP)
    assert image.file_format == ("Aperio", "RGB")
    assert image.quality.tissue_fraction > 0.5
    monkeypatch.setattr(resampling, "LARGEST_FIELD", big.size // 3 - 1)
    image = image_quality.inspect_image(path)
    assert "a slide of" in image.error
    assert image.quality is not None


def test_what_cannot_be_decoded_has_a_reason_and_no_measures(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    image = image_quality.inspect_image(tmp_path / "text.jpg")
    assert "is no TIFF, PNG, JPEG, BMP or WebP image" in image.error
    assert (image.size, image.file_format, image.quality) == (None, ("", ""), None)


def test_tissue_and_status_are_those_of_the_stain_step(tissue):
    fraction, status, angle, _ = image_quality.stain_measures(tissue[3])
    quality = stain.normalize_with_quality(tissue[3])[1]
    assert fraction == pytest.approx(float(quality.tissue_fraction), abs=1e-6)
    assert (status, angle) == (
        int(quality.status),
        pytest.approx(float(quality.stain_angle), abs=0.01),
    )
    blank = np.full((40, 50, 3), 250, np.uint8)
    assert image_quality.stain_measures(blank) == (0.0, 1, None, None)


def test_colours_by_hand():
    picture = np.full((20, 20, 3), 255, np.uint8)
    picture[:10] = [120, 60, 200]
    picture[10, :3] = [240, 60, 60]  # No tissue: red is hardly absorbed.
    assert image_quality.background_colour(picture) == (255, 255, 255)
    density = np.log(240 / np.array([121, 61, 201]))
    absorbed = image_quality.stain_measures(picture)[-1]
    assert absorbed == pytest.approx(density / density.sum(), abs=1e-6)
    assert image_quality.stain_measures(picture[10:])[-1] is None
    picture[0, :5, 0], picture[1, :3, 1] = 255, 0
    assert image_quality.clipped_fraction(picture) == 8 / 400


def test_blur_tells_sharp_fields_from_blurred_ones():
    sharp = samples.tissue(0, 512, 512)
    soft = np.array(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(4)))
    blur_of_sharp, blur_of_soft = (
        image_quality.measure(rgb, rgb, "").blur for rgb in (sharp, soft)
    )
    assert blur_of_soft > blur_of_sharp + 0.1
