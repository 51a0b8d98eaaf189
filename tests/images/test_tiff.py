"""A TIFF of any layout read by windows equals the TIFF read whole; damaged files are refused.

tiff_segments.py is tested here too.
"""

import struct
import time
from concurrent import futures
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st
from PIL import Image

from histojax.errors import InputError
from histojax.images import reader, slide, tiff, tiff_segments
from tests import samples

RGB = samples.tissue(0, 150, 210)
GREY = RGB[..., 0].copy()
ALPHA = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(GREY.shape)
TILED = {"tile": (64, 48), "photometric": "rgb"}
PLANES = {"photometric": "rgb", "planarconfig": "separate"}


def pillow(path: Path, array: np.ndarray, **options) -> None:
    Image.fromarray(array).save(path, **options)


KINDS = {
    "rows.tif": lambda path: tifffile.imwrite(path, RGB, photometric="rgb"),
    "strips.tif": lambda path: tifffile.imwrite(path, RGB, photometric="rgb", rowsperstrip=32),
    "lzw_strips.tif": lambda path: pillow(path, RGB, compression="tiff_lzw"),
    "packbits.tif": lambda path: pillow(path, RGB, compression="packbits"),
    "jpeg_strips.tif": lambda path: tifffile.imwrite(
        path, RGB, photometric="rgb", rowsperstrip=32, compression="jpeg"
    ),
    "tiles.tif": lambda path: tifffile.imwrite(path, RGB, **TILED),
    "big_endian.tif": lambda path: tifffile.imwrite(path, RGB, byteorder=">", **TILED),
    "bigtiff.tif": lambda path: tifffile.imwrite(path, RGB, bigtiff=True, **TILED),
    # YCbCr; quantization tables apart from the strips.
    "jpeg_tables.tif": lambda path: pillow(path, RGB, compression="jpeg"),
    "deflate.tif": lambda path: tifffile.imwrite(path, RGB, compression="zlib", **TILED),
    "predictor.tif": lambda path: tifffile.imwrite(
        path, RGB, compression="zlib", predictor=True, **TILED
    ),
    "lzw.tif": lambda path: tifffile.imwrite(path, RGB, compression="lzw", predictor=True, **TILED),
    "jpeg.tif": lambda path: tifffile.imwrite(path, RGB, compression="jpeg", **TILED),
    "planes.tif": lambda path: tifffile.imwrite(path, np.moveaxis(RGB, 2, 0), **PLANES),
    "plane_strips.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(RGB, 2, 0), rowsperstrip=32, **PLANES
    ),
    "plane_tiles.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(RGB, 2, 0), tile=(64, 48), compression="zlib", **PLANES
    ),
    "grey.tif": lambda path: tifffile.imwrite(path, GREY, tile=(64, 48)),
    "grey_jpeg.tif": lambda path: tifffile.imwrite(path, GREY, tile=(64, 48), compression="jpeg"),
    "negative.tif": lambda path: tifffile.imwrite(
        path, GREY, photometric="miniswhite", rowsperstrip=32
    ),
    "palette.tif": lambda path: Image.fromarray(RGB).quantize(64).save(path),
    "rgba.tif": lambda path: tifffile.imwrite(
        path, np.dstack([RGB, ALPHA]), extrasamples=["unassalpha"], **TILED
    ),
    "rgba_premultiplied.tif": lambda path: tifffile.imwrite(
        path,
        np.dstack([np.minimum(RGB, ALPHA[..., None]), ALPHA]),
        extrasamples=["assocalpha"],
        **TILED,
    ),
    "rgbx.tif": lambda path: tifffile.imwrite(
        path, np.dstack([RGB, ALPHA]), extrasamples=["unspecified"], **TILED
    ),
    "grey_alpha.tif": lambda path: pillow(path, np.dstack([GREY, ALPHA])),
}


@pytest.fixture(scope="session")
def kinds(tmp_path_factory) -> Path:
    """A folder with a file of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, write in KINDS.items():
        write(folder / name)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_every_window_of_every_kind_is_a_slice_of_the_image_read_whole(kinds, notices, name):
    assert tiff.is_tiff(kinds / name)
    whole = reader.read(kinds / name)
    if not name.startswith(("jpeg", "grey", "negative", "palette", "rgba")):
        np.testing.assert_array_equal(whole, RGB)
    expected_notices = list(notices)
    notices.clear()
    height, width = whole.shape[:2]
    with slide.open_slide(kinds / name) as field:
        assert notices == expected_notices
        assert field.size == (height, width)

        @hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
        @hypothesis.given(st.data())
        def windows(data):
            top, left, down, across = samples.draw_window(data, height, width)
            read = field.read(top, left, down, across)
            assert read.dtype == np.uint8
            np.testing.assert_array_equal(read, whole[top : top + down, left : left + across])

        windows()
        np.testing.assert_array_equal(field.read(0, 0, height, width), whole)


def test_jpeg_tiles_have_the_colours_they_were_made_from(tmp_path):
    flat = np.full((64, 64, 3), (180, 60, 140), np.uint8)
    for options in ({}, {"compressionargs": {"outcolorspace": "rgb"}}):
        tifffile.imwrite(
            tmp_path / "a.tif",
            flat,
            tile=(32, 32),
            photometric="rgb",
            compression="jpeg",
            **options,
        )
        with slide.open_slide(tmp_path / "a.tif") as field:
            assert np.abs(field.read(0, 0, 64, 64).astype(int) - flat).max() <= 2


def test_the_first_page_is_read_wherever_the_levels_are(tmp_path):
    path, half = tmp_path / "a.tif", RGB[::2, ::2]
    orders = {
        "pages": [(RGB, {}), (half, {"subfiletype": 1}), (half[:40, :40], {})],
        "SubIFDs": [(RGB, {"subifds": 1}), (half, {"subfiletype": 1})],
    }
    for pages in orders.values():
        with tifffile.TiffWriter(path, ome=False) as writer:
            for array, options in pages:
                writer.write(array, **TILED, **options)
        with slide.open_slide(path) as field:
            np.testing.assert_array_equal(field.read(0, 0, 150, 210), RGB)
            (level,) = field.coarser  # The last page has another shape: a label.
            assert (level.size, field.level_for(0.5)) == ((75, 105), level)
            np.testing.assert_array_equal(level.read_window(5, 7, 40, 50), half[5:45, 7:57])
            assert field.level_for(0.51).size == field.size


def test_a_thumbnail_may_be_the_first_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(RGB[::2, ::2], **TILED)
        writer.write(RGB, **TILED)
    with slide.open_slide(tmp_path / "a.tif") as field:
        np.testing.assert_array_equal(field.read(0, 0, 150, 210), RGB)


def test_only_the_tiles_that_a_window_touches_are_decoded(kinds, monkeypatch):
    decoded = []
    monkeypatch.setattr(tiff_segments, "_check_jpeg", lambda data, shape: decoded.append(len(data)))
    with slide.open_slide(kinds / "jpeg.tif") as field:
        field.read(70, 50, 20, 20)
        assert len(decoded) == 1
        field.read(60, 50, 20, 20)
        assert len(decoded) == 2  # One more, above; the other is kept.


def test_a_big_endian_bigtiff_is_read_exactly(tmp_path):
    """Apart from the others, since Pillow cannot read it."""
    tifffile.imwrite(tmp_path / "a.tif", RGB, bigtiff=True, byteorder=">", **TILED)
    with slide.open_slide(tmp_path / "a.tif") as field:
        np.testing.assert_array_equal(field.read(0, 0, 150, 210), RGB)


def test_several_threads_may_read(kinds, monkeypatch):
    seek = tifffile.FileHandle.seek

    def slow_seek(*args):
        seek(*args)
        time.sleep(1e-3)  # Time for another thread to seek elsewhere.

    monkeypatch.setattr(tifffile.FileHandle, "seek", slow_seek)
    monkeypatch.setattr(tiff_segments, "_CACHE_BYTES", 0)
    corners = [(top, left) for top in range(0, 140, 20) for left in range(0, 200, 20)]
    with slide.open_slide(kinds / "deflate.tif") as field, futures.ThreadPoolExecutor(8) as threads:
        for (top, left), read in zip(
            corners, threads.map(lambda corner: field.read(*corner, 10, 10), corners), strict=True
        ):
            np.testing.assert_array_equal(read, RGB[top : top + 10, left : left + 10])


def change_tag(path: Path, tag: int, value) -> None:
    """Another value for a tag of a TIFF, written over the old one."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags[tag].overwrite(value)


def deep(path):
    tifffile.imwrite(path, RGB.astype(np.uint16) * 256, photometric="rgb")


def signed(path):
    tifffile.imwrite(path, GREY.astype(np.int8))


def stack(path):
    tifffile.imwrite(path, np.stack([RGB, RGB]), photometric="rgb")


def circle(path):
    """Two pages, each of which names the other as the next."""
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, **TILED)
        writer.write(RGB[::2, ::2], **TILED)
    with tifffile.TiffFile(path) as file:
        first, second = (page.offset for page in file.pages)
    whole = bytearray(path.read_bytes())
    end = second + 2 + 12 * struct.unpack_from("<H", whole, second)[0]
    whole[end : end + 4] = struct.pack("<I", first)
    path.write_bytes(whole)


def turned(path):
    tifffile.imwrite(path, RGB, photometric="rgb", extratags=[(274, 3, 1, 6, True)])


def volume(path):
    tifffile.imwrite(
        path, np.stack([RGB] * 16), photometric="rgb", volumetric=True, tile=(16, 64, 48)
    )


def zstd(path):
    tifffile.imwrite(path, RGB, compression="zstd", **TILED)


def cmyk(path):
    tifffile.imwrite(path, np.dstack([RGB, ALPHA]), photometric="separated")


def raw_ycbcr(path):
    tifffile.imwrite(path, RGB, photometric="ycbcr", tile=(64, 48))


def directory_cut(path):
    tifffile.imwrite(path, RGB, **TILED)
    path.write_bytes(path.read_bytes()[:100])


def cut(path):
    tifffile.imwrite(path, RGB, compression="zlib", **TILED)
    path.write_bytes(path.read_bytes()[:-100])


def cut_row(path):
    tifffile.imwrite(path, RGB, photometric="rgb")
    path.write_bytes(path.read_bytes()[:-100])


def absurd_tiled(path):
    tifffile.imwrite(path, RGB, **TILED)
    for tag in (256, 257):
        change_tag(path, tag, 4_000_000_000)


def absurd_strip(path):
    tifffile.imwrite(path, RGB, photometric="rgb")
    for tag in (256, 257, 278):
        change_tag(path, tag, 4_000_000_000)


def absurd_compressed_strip(path):
    tifffile.imwrite(path, RGB, photometric="rgb", compression="zlib", rowsperstrip=150)
    for tag in (256, 257, 278):
        change_tag(path, tag, 100_000)


def absurd_offset(path):
    tifffile.imwrite(path, RGB, bigtiff=True, **TILED)
    with tifffile.TiffFile(path) as file:
        offsets = file.pages.first.dataoffsets
    change_tag(path, 324, (*offsets[:-1], 2**64 - 10))


def empty(path):
    tifffile.imwrite(path, RGB, **TILED)
    change_tag(path, 256, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (deep, "16 bits per sample .* expected 8-bit RGB"),
        (signed, "signed.* expected 8-bit RGB"),
        (cmyk, "SEPARATED .* expected 8-bit RGB"),
        (stack, r"has 2 pages \(210 x 150, 210 x 150 px\), and more than one could be the image"),
        (circle, "its list of pages has no end"),
        (turned, "Orientation 6"),
        (volume, "16 sections, expected one"),
        (zstd, "ZSTD, expected none, LZW, JPEG, deflate"),
        (raw_ycbcr, "YCBCR compressed as NONE"),
        (directory_cut, "damaged or cut short"),
        (cut, "cut short: 1 of its 15 tiles"),
        (cut_row, "cut short: 1 of its 1 strips"),
        (absurd_tiled, "claims 4000000000 x 4000000000 pixels, .* but has 15"),
        (
            absurd_strip,
            "claims 4000000000 x 4000000000 pixels, 48000000000000000000 bytes, but has 94500",
        ),
        (absurd_compressed_strip, "strips of 100000 x 100000 pixels, expected at most"),
        (absurd_offset, "cut short: 1 of its 15 tiles"),
        (empty, "has 150 x 0 pixels"),
    ],
)
def test_a_damaged_or_unreadable_file_is_refused_when_it_is_opened(tmp_path, make, message):
    path = tmp_path / "a.tif"
    make(path)
    with pytest.raises(InputError, match=message) as refusal, slide.open_slide(path):
        pass
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg", "packbits"])
def test_a_damaged_or_missing_tile_is_refused_when_it_is_read_and_no_other(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, compression=compression, **TILED)
    with tifffile.TiffFile(path) as file:
        offsets, counts = file.pages.first.dataoffsets, file.pages.first.databytecounts
    whole = bytearray(path.read_bytes())
    whole[offsets[0] : offsets[0] + counts[0]] = b"\x55" * counts[0]
    path.write_bytes(whole)
    change_tag(path, 325, (*counts[:-1], 0))
    with slide.open_slide(path) as field:
        field.read(64, 48, 60, 40)
        with pytest.raises(
            InputError, match=r"a.tif is damaged: tile 1 of 15 cannot be decoded: .* Copy it again"
        ):
            field.read(0, 0, 10, 10)
        with pytest.raises(InputError, match=r"a.tif has no pixels in tile 15 of 15"):
            field.read(149, 209, 1, 1)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg", "packbits"])
def test_a_tile_cut_short_within_the_file_is_refused(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, compression=compression, **TILED)
    with tifffile.TiffFile(path) as file:
        counts = file.pages.first.databytecounts
    change_tag(path, 325, (counts[0] * 9 // 10, *counts[1:]))
    with (
        slide.open_slide(path) as field,
        pytest.raises(InputError, match="tile 1 of 15 cannot be decoded"),
    ):
        field.read(0, 0, 10, 10)


@pytest.mark.parametrize("compression", ["zlib", "jpeg"])
def test_a_tile_that_holds_a_larger_image_is_refused_unread(tmp_path, compression):
    """A tile of 64 x 48 pixels whose data are 4096 x 4096, in a file with a modest header."""
    inner, path = tmp_path / "inner.tif", tmp_path / "a.tif"
    tifffile.imwrite(
        inner,
        np.zeros((4096, 4096, 3), np.uint8),
        tile=(4096, 4096),
        photometric="rgb",
        compression=compression,
    )
    with tifffile.TiffFile(inner) as file:
        page = file.pages.first
        data = inner.read_bytes()[page.dataoffsets[0] :][: page.databytecounts[0]]
    tifffile.imwrite(
        path, iter([data] * 15), shape=RGB.shape, dtype=np.uint8, compression=compression, **TILED
    )
    with slide.open_slide(path) as field:
        if compression == "jpeg":
            with pytest.raises(InputError, match="claims 4096 x 4096 pixels, expected 64 x 48"):
                field.read(0, 0, 10, 10)
        else:
            with pytest.raises(
                InputError, match="tile 1 of 15 cannot be decoded: .*INSUFFICIENT_SPACE"
            ):
                field.read(0, 0, 10, 10)


@pytest.mark.parametrize(
    "name",
    ["rows.tif", "strips.tif", "lzw_strips.tif", "jpeg.tif", "bigtiff.tif", "plane_tiles.tif"],
)
def test_a_file_cut_anywhere_is_refused(kinds, tmp_path, name):
    whole = (kinds / name).read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(InputError, match=name), slide.open_slide(tmp_path / name) as field:
            field.read(0, 0, 150, 210)


def test_a_file_with_any_byte_changed_is_read_or_refused_by_name(kinds, tmp_path):
    """Nothing but InputError gets out, whatever a header says."""
    rng, refusals = np.random.default_rng(0), []
    for name in ("strips.tif", "deflate.tif", "jpeg.tif"):
        whole = (kinds / name).read_bytes()
        for place in rng.integers(0, 400, 100):
            changed = bytearray(whole)
            changed[place] ^= int(rng.integers(1, 256))
            (tmp_path / "a.tif").write_bytes(changed)
            try:
                with slide.open_slide(tmp_path / "a.tif") as field:
                    field.read(0, 0, *(min(side, 200) for side in field.size))
            except InputError as error:
                refusals.append(str(error))
    assert 30 < len(refusals) < 270
    assert all("a.tif" in refusal for refusal in refusals)
