"""Every kind of image file that is read is read exactly; every other kind is refused by name."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from histojax import images
from histojax.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def write(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_tiff_is_read_exactly(tmp_path, compression):
    path = write(tmp_path / "a.tif", RGB, compression=compression)
    np.testing.assert_array_equal(images.read(path), RGB)
    assert images.size(path) == (70, 90)


def test_tiled_tiff_is_read_exactly(tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", RGB, tile=(32, 32), photometric="rgb")
    np.testing.assert_array_equal(images.read(tmp_path / "a.tiff"), RGB)


def test_png_is_read_exactly_and_jpeg_nearly(tmp_path):
    np.testing.assert_array_equal(images.read(write(tmp_path / "a.png", RGB)), RGB)
    smooth = np.broadcast_to(np.linspace(0, 255, 90)[None, :, None], (70, 90, 3)).astype(np.uint8)
    read = images.read(write(tmp_path / "a.JPG", smooth, quality=95, format="JPEG"))
    assert np.abs(read.astype(int) - smooth).max() <= 4


@pytest.fixture
def notices():
    """What absl logs while a test runs."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def test_grey_becomes_three_channels_with_a_notice(tmp_path, notices):
    path = write(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(images.read(path), np.repeat(GREY[..., None], 3, axis=2))
    assert notices == [f"{path} is grey: converted to RGB"]


def test_transparency_is_laid_over_white_with_a_notice(tmp_path, notices):
    alpha = np.full((70, 90, 1), 255, np.uint8)
    alpha[:10] = 0
    alpha[10:20] = 128
    read = images.read(write(tmp_path / "a.png", np.concatenate([RGB, alpha], axis=2)))
    np.testing.assert_array_equal(read[20:], RGB[20:])
    assert (read[:10] == 255).all()
    expected = RGB[10:20] * (128 / 255) + 255 * (127 / 255)
    np.testing.assert_allclose(read[10:20], expected, atol=1.5)
    assert "alpha" in notices[0]


def test_a_palette_is_looked_up_with_a_notice(tmp_path, notices):
    palette = Image.fromarray(RGB // 64 * 64).quantize(64)
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), np.array(palette.convert("RGB")))
    assert "palette" in notices[0]


def deep_grey_png(path):
    write(path, GREY.astype(np.uint16) * 256)


def deep_rgb_png(path):
    cv2.imwrite(str(path), RGB.astype(np.uint16) * 256)


def deep_rgb_tiff(path):
    tifffile.imwrite(path, RGB.astype(np.uint16) * 256, photometric="rgb")


def float_tiff(path):
    tifffile.imwrite(path, GREY.astype(np.float32))


def multi_page_tiff(path):
    tifffile.imwrite(path, np.stack([RGB, RGB]), photometric="rgb")


def cut_tiff(path):
    write(path, RGB)
    path.write_bytes(path.read_bytes()[:9000])


def cut_png(path):
    write(path, RGB)
    path.write_bytes(path.read_bytes()[:9000])


def text_file(path):
    path.write_text("not an image")


def empty_file(path):
    path.touch()


def bitmap(path):
    write(path, RGB, format="BMP")


def cmyk_jpeg(path):
    Image.fromarray(RGB).convert("CMYK").save(path)


def no_file(path):
    pass


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (deep_grey_png, "a.png", "16 bits"),
        (deep_rgb_png, "a.png", "16 bits"),
        (deep_rgb_tiff, "a.tif", "16 bits"),
        (float_tiff, "a.tif", "32 bits"),
        (multi_page_tiff, "a.tif", "2 pages"),
        (cut_tiff, "a.tif", "damaged|cut short|cannot be opened"),
        (cut_png, "a.png", "cut short"),
        (text_file, "a.png", "no TIFF, PNG or JPEG"),
        (empty_file, "a.jpg", "no TIFF, PNG or JPEG"),
        (bitmap, "a.png", "no TIFF, PNG or JPEG"),
        (cmyk_jpeg, "a.jpg", "CMYK"),
        (no_file, "a.png", "not there"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, make, name, message):
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=message) as refusal:
        images.read(path)
    assert str(path) in str(refusal.value)


def test_the_real_images_are_read(shared_data):
    assert images.read(shared_data / "fields" / "histolab_medium_nuclei_level0.png").shape == (777, 1001, 3)
    assert images.read(shared_data / "fields" / "mitkovetta_example1.tif").shape == (1024, 1024, 3)
