"""Supported image files are read exactly; all others are refused by name."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from histojax.errors import InputError
from histojax.images import reader

RGB = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def write(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_tiff_is_read_exactly(tmp_path, compression):
    path = write(tmp_path / "a.tif", RGB, compression=compression)
    np.testing.assert_array_equal(reader.read(path), RGB)
    assert reader.size(path) == (70, 90)


def test_tiled_tiff_is_read_exactly(tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", RGB, tile=(32, 32), photometric="rgb")
    np.testing.assert_array_equal(reader.read(tmp_path / "a.tiff"), RGB)


def test_png_is_read_exactly_and_jpeg_nearly(tmp_path):
    np.testing.assert_array_equal(reader.read(write(tmp_path / "a.png", RGB)), RGB)
    smooth = np.broadcast_to(np.linspace(0, 255, 90)[None, :, None], (70, 90, 3)).astype(np.uint8)
    read = reader.read(write(tmp_path / "a.JPG", smooth, quality=95, format="JPEG"))
    assert np.abs(read.astype(int) - smooth).max() <= 4


def test_bmp_and_webp_are_read_exactly(tmp_path):
    np.testing.assert_array_equal(reader.read(write(tmp_path / "a.bmp", RGB)), RGB)
    np.testing.assert_array_equal(reader.read(write(tmp_path / "a.webp", RGB, lossless=True)), RGB)


@pytest.mark.parametrize(
    "others",
    [
        [(RGB[::2, ::2], {"subfiletype": 1})],
        [(RGB[:30, :20], {})],
        [(RGB[:69], {"subfiletype": 1}), (GREY[:30], {"photometric": "minisblack"})],
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_page_that_is_the_image_is_read_and_told(tmp_path, notices, others, first):
    path, image = tmp_path / "a.tif", [(RGB, {})]
    with tifffile.TiffWriter(path) as writer:
        for array, options in image + others if first else others + image:
            writer.write(array, metadata=None, **{"photometric": "rgb"} | options)
    assert reader.size(path) == (70, 90)
    np.testing.assert_array_equal(reader.read(path), RGB)
    page = 1 if first else len(others) + 1
    assert notices == [
        f"{path} has {len(others) + 1} pages: page {page}, of 90 x 70 px, is the image"
    ]


def test_grey_becomes_three_channels_with_a_notice(tmp_path, notices):
    path = write(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(reader.read(path), np.repeat(GREY[..., None], 3, axis=2))
    assert notices == [f"{path} is grey: converted to RGB"]


def test_transparency_is_laid_over_white_with_a_notice(tmp_path, notices):
    alpha = np.full((70, 90, 1), 255, np.uint8)
    alpha[:10] = 0
    alpha[10:20] = 128
    read = reader.read(write(tmp_path / "a.png", np.concatenate([RGB, alpha], axis=2)))
    np.testing.assert_array_equal(read[20:], RGB[20:])
    assert (read[:10] == 255).all()
    expected = RGB[10:20] * (128 / 255) + 255 * (127 / 255)
    np.testing.assert_allclose(read[10:20], expected, atol=1.5)
    assert "alpha" in notices[0]


def test_a_palette_is_looked_up_with_a_notice(tmp_path, notices):
    palette = Image.fromarray(RGB // 64 * 64).quantize(64)
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(reader.read(tmp_path / "a.png"), np.array(palette.convert("RGB")))
    assert "palette" in notices[0]


def test_a_transparent_colour_becomes_white_with_a_notice(tmp_path, notices):
    array = RGB.copy()
    array[:10] = (1, 2, 3)
    Image.fromarray(array).save(tmp_path / "a.png", transparency=(1, 2, 3))
    read = reader.read(tmp_path / "a.png")
    assert (read[:10] == 255).all()
    np.testing.assert_array_equal(read[10:], RGB[10:])
    assert "transparent colour" in notices[0]


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.tif", {}), ("a.tif", {"compression": "tiff_lzw"})]
)
def test_rgb_is_read_without_a_notice(tmp_path, notices, name, options):
    reader.read(write(tmp_path / name, RGB, **options))
    assert notices == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_transparent_grey_and_rgb_become_white(tmp_path, notices, suffix):
    clear = np.zeros_like(GREY)
    for name, array in (("grey", np.dstack([GREY, clear])), ("rgb", np.dstack([RGB, clear]))):
        path = write(tmp_path / f"{name}{suffix}", array)
        assert (reader.read(path) == 255).all()
        assert (
            notices.pop()
            == f"{path} is {'grey' if name == 'grey' else 'RGB'} with alpha: converted to RGB"
        )


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path, notices):
    palette = Image.fromarray(RGB // 64 * 64).quantize(16)
    palette.save(tmp_path / "a.png", transparency=3)
    clear = np.array(palette) == 3
    read = reader.read(tmp_path / "a.png")
    assert (read[clear] == 255).all()
    np.testing.assert_array_equal(read[~clear], np.array(palette.convert("RGB"))[~clear])
    assert len(notices) == 1


def test_tiff_of_other_layouts_is_read_exactly(tmp_path):
    planes, negative = tmp_path / "planes.tif", tmp_path / "negative.tif"
    tifffile.imwrite(
        planes, np.moveaxis(RGB, 2, 0).copy(), photometric="rgb", planarconfig="separate"
    )
    np.testing.assert_array_equal(reader.read(planes), RGB)
    tifffile.imwrite(negative, GREY, photometric="miniswhite")
    np.testing.assert_array_equal(
        reader.read(negative), np.repeat(255 - GREY[..., None], 3, axis=2)
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", True),
        ("a.TIFF", True),
        ("a.Png", True),
        ("a.jpeg", True),
        ("a.b.jpg", True),
        ("Thumbs.db", False),
        (".a.png", False),
        ("a.BMP", True),
        ("a.webp", True),
        ("a.gif", False),
        ("png", False),
        ("a.png.txt", False),
    ],
)
def test_images_are_known_by_their_ending(name, expected):
    assert reader.is_image_name(Path(name)) == expected


def deep_grey_png(path):
    write(path, GREY.astype(np.uint16) * 256)


def deep_rgb_png(path):
    cv2.imwrite(str(path), RGB.astype(np.uint16) * 256)


def deep_rgb_tiff(path):
    tifffile.imwrite(path, RGB.astype(np.uint16) * 256, photometric="rgb")


def deep_rgba_png(path):
    cv2.imwrite(str(path), np.dstack([RGB, GREY]).astype(np.uint16) * 256)


def deep_grey_tiff(path):
    tifffile.imwrite(path, GREY.astype(np.uint16) * 256)


def black_and_white(path):
    write(path, GREY > 100)


def float_tiff(path):
    tifffile.imwrite(path, GREY.astype(np.float32))


def multi_page_tiff(path):
    tifffile.imwrite(path, np.stack([RGB, RGB]), photometric="rgb")


def animated_png(path):
    write(path, RGB, save_all=True, append_images=[Image.fromarray(255 - RGB)])


def stereo_jpeg(path):
    write(path, RGB, format="MPO", save_all=True, append_images=[Image.fromarray(255 - RGB)])


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


def gif(path):
    write(path, RGB, format="GIF")


def cmyk_jpeg(path):
    Image.fromarray(RGB).convert("CMYK").save(path)


def cut_jpeg(path):
    write(path, RGB)
    path.write_bytes(path.read_bytes()[:2000])


def folder(path):
    path.mkdir()


def no_file(path):
    pass


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (deep_grey_png, "a.png", "16 bits"),
        (deep_rgb_png, "a.png", "16 bits"),
        (deep_rgba_png, "a.png", "16 bits"),
        (deep_rgb_tiff, "a.tif", "16 bits"),
        (deep_grey_tiff, "a.tif", "16 bits"),
        (black_and_white, "a.png", "mode 1"),
        (black_and_white, "a.tif", "1 bits"),
        (float_tiff, "a.tif", "32 bits"),
        (multi_page_tiff, "a.tif", "2 pages"),
        (animated_png, "a.png", "2 pages"),
        (stereo_jpeg, "a.jpg", "2 pages"),
        (cut_tiff, "a.tif", "damaged|cut short|cannot be opened"),
        (cut_png, "a.png", "cut short"),
        (cut_jpeg, "a.jpg", "cut short"),
        (text_file, "a.png", "no TIFF, PNG, JPEG, BMP or WebP"),
        (text_file, "a.tif", "no TIFF, PNG, JPEG, BMP or WebP"),
        (folder, "a.png", "cannot be opened"),
        (empty_file, "a.jpg", "no TIFF, PNG, JPEG, BMP or WebP"),
        (gif, "a.png", "no TIFF, PNG, JPEG, BMP or WebP"),
        (cmyk_jpeg, "a.jpg", "CMYK"),
        (no_file, "a.png", "not there"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, make, name, message):
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=message) as refusal:
        reader.read(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    "make", [deep_rgb_png, animated_png, black_and_white, text_file, folder, no_file]
)
def test_the_size_of_other_files_is_refused_too(tmp_path, make):
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(InputError, match="a.png"):
        reader.size(path)


def header_of_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_a_claim_of_too_many_pixels_is_refused_unread_and_a_large_one_raises_no_warning(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(header_of_png(100_000, 100_000))
    for read in (reader.size, reader.read):
        with pytest.raises(InputError, match="a.png has too many pixels to be read whole"):
            read(path)
    path.write_bytes(header_of_png(10_000, 10_000))
    assert reader.size(path) == (10_000, 10_000)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.jpg", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("tiled.tif", None),
    ],
)
def test_a_file_cut_anywhere_is_refused_or_has_all_its_pixels(tmp_path, name, options):
    path = tmp_path / name
    if options is None:
        tifffile.imwrite(path, RGB, tile=(32, 32), photometric="rgb")
    else:
        write(path, RGB, **options)
    whole, pixels = path.read_bytes(), reader.read(path)
    refusals = []
    for length in np.linspace(0, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:length])
        try:
            np.testing.assert_array_equal(reader.read(path), pixels)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert all(str(path) in refusal for refusal in refusals)


def test_the_real_images_are_read(shared_data):
    assert reader.read(shared_data / "fields" / "histolab_medium_nuclei_level0.png").shape == (
        777,
        1001,
        3,
    )
    assert reader.read(shared_data / "fields" / "mitkovetta_example1.tif").shape == (1024, 1024, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_bands_give_the_pixels_of_the_whole(tmp_path, monkeypatch, mode):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (37, 23, {"RGBA": 4, "LA": 2}.get(mode, 3)), np.uint8)
    image = Image.fromarray(pixels)
    image = image.quantize(7) if mode == "P" else image
    image.save(tmp_path / "a.png", transparency=3 if mode == "P" else None)
    whole = reader.read(tmp_path / "a.png")
    monkeypatch.setattr(reader, "_BAND", 50)
    np.testing.assert_array_equal(reader.read(tmp_path / "a.png"), whole)
    if mode == "RGB":
        np.testing.assert_array_equal(whole, pixels)
