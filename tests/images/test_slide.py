"""An image read by windows equals the image read whole, within memory; the size of its pixels."""

import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st
from PIL import Image

from histojax.errors import InputError
from histojax.images import reader, slide
from tests import samples

RGB = samples.tissue(0, 150, 210)
GREY = RGB[..., 0].copy()
ALPHA = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(GREY.shape)
TILED = {"tile": (64, 48), "photometric": "rgb"}


@pytest.fixture(scope="session")
def kinds(tmp_path_factory) -> Path:
    """A folder with a file of each format."""
    folder = tmp_path_factory.mktemp("kinds")
    for name in ("rgb.png", "rgb.jpg"):
        Image.fromarray(RGB).save(folder / name)
    Image.fromarray(np.dstack([RGB, ALPHA])).save(folder / "rgba.png")
    Image.fromarray(RGB).quantize(64).save(folder / "palette.png")
    tifffile.imwrite(folder / "tiles.tif", RGB, **TILED)
    return folder


@pytest.mark.parametrize("name", ["rgb.png", "rgb.jpg", "rgba.png", "palette.png", "tiles.tif"])
@hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(st.data())
def test_every_window_is_a_slice_of_the_image_read_whole(kinds, name, data):
    whole = reader.read(kinds / name)
    with slide.open_slide(kinds / name) as field:
        height, width = field.size
        assert whole.shape == (height, width, 3)
        top, left, down, across = samples.draw_window(data, height, width)
        read = field.read(top, left, down, across)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, whole[top : top + down, left : left + across])


def test_an_array_is_a_field_and_a_window_of_it_a_copy():
    with slide.open_slide(RGB) as field:
        assert (field.size, field.mpp) == ((150, 210), None)
        read = field.read(10, 20, 30, 40)
        np.testing.assert_array_equal(read, RGB[10:40, 20:60])
        assert not np.shares_memory(read, RGB)


@pytest.mark.parametrize(
    "array", [RGB.astype(float), GREY, np.dstack([RGB, ALPHA]), RGB[:0], RGB[None]]
)
def test_other_arrays_are_refused(array):
    with (
        pytest.raises(InputError, match=r"expected uint8 RGB \[height, width, 3\]"),
        slide.open_slide(array),
    ):
        pass


@pytest.mark.parametrize(
    "window",
    [
        (-1, 0, 5, 5),
        (0, -1, 5, 5),
        (0, 0, 0, 5),
        (0, 0, 5, 0),
        (140, 0, 11, 5),
        (0, 200, 5, 11),
        (0, 0, -2, 5),
    ],
)
@pytest.mark.parametrize("name", ["tiles.tif", "rgb.png"])
def test_a_window_that_is_not_inside_is_refused(kinds, name, window):
    with (
        slide.open_slide(kinds / name) as field,
        pytest.raises(InputError, match=f"{name}.* 150 x 210 .*inside"),
    ):
        field.read(*window)


@pytest.mark.parametrize("name", ["tiles.tif", "rgb.png"])
def test_a_thumbnail_is_the_image_averaged(kinds, monkeypatch, name):
    monkeypatch.setattr(slide, "_BLOCK", 50)
    with slide.open_slide(kinds / name) as field:
        whole = Image.fromarray(field.read(0, 0, 150, 210))
        for longest, size in (
            (210, (210, 150)),
            (500, (210, 150)),
            (105, (105, 75)),
            (33, (33, 24)),
            (1, (1, 1)),
        ):
            actual = field.thumbnail(longest)
            assert (actual.dtype, actual.shape) == (np.uint8, (size[1], size[0], 3))
            expected = np.array(whole.resize(size, Image.Resampling.BICUBIC))
            assert np.abs(actual.astype(int) - expected).max() <= (0 if size == whole.size else 12)


def test_a_thumbnail_of_a_fine_chequerboard_is_grey():
    board = np.repeat(
        (np.indices((301, 403)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2
    )
    with slide.open_slide(board) as field:
        assert np.abs(field.thumbnail(70).astype(int) - 127).max() <= 8


def text(path):
    path.write_text("II, but no TIFF")


def no_file(path):
    pass


def bomb(path):
    """A PNG that claims 100,000 x 100,000 pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text, "no TIFF, PNG, JPEG, BMP or WebP"),
        (no_file, "not there"),
        (Path.mkdir, "cannot be opened"),
        (bomb, "too many pixels"),
    ],
)
@pytest.mark.parametrize("use", [slide.pixel_size, lambda path: slide.open_slide(path).__enter__()])
def test_what_is_no_image_is_refused_by_name(tmp_path, make, message, use):
    make(tmp_path / "a.tif")
    with pytest.raises(InputError, match=f"a.tif .*{message}"):
        use(tmp_path / "a.tif")


OME = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels
SizeX="{width}" SizeY="150" PhysicalSizeX="{x}" PhysicalSizeY="{y}" {units} Type="uint8"/></Image>
</OME>"""


def ome(x, y, units="", width=210) -> dict:
    return {"description": OME.format(width=width, x=x, y=y, units=units).encode()}


MICRON_UNITS = 'PhysicalSizeXUnit="µm" PhysicalSizeYUnit="µm"'
NM_UNITS = 'PhysicalSizeXUnit="nm" PhysicalSizeYUnit="nm"'
PIXEL_UNITS = 'PhysicalSizeXUnit="pixel" PhysicalSizeYUnit="pixel"'
APERIO = (
    "Aperio Image Library v11.2.1\n46000x32914 [0,0 46000x32914] (256x256) JPEG/RGB Q=30"
    "|AppMag = 20|MPP = {}|Left = 25"
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (0.5, 0.5), "resolutionunit": "NONE"}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (118, 118), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (10**6, 10**6), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (40_000, 40_200), "resolutionunit": "CENTIMETER"}, 0.24938),
        ({"resolution": (40_000, 41_000), "resolutionunit": "CENTIMETER"}, "not square"),
        (ome(0.25, 0.25), 0.25),
        (ome(0.25, 0.25, MICRON_UNITS), 0.25),
        (ome(0.25, 0.25, MICRON_UNITS.replace("µ", "&#181;")), 0.25),
        (ome("2.5e2", "250", NM_UNITS), 0.25),
        (ome(1, 1, PIXEL_UNITS), None),
        (ome("?", 1), None),
        (ome(0.25, 0.25, width=99), None),  # That of another image of the file.
        (ome(0.25, 0.5), "not square"),
        (ome(0.25, 0.25) | {"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, 0.25),
        (ome(250, 250) | {"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, 0.5),
        ({"description": APERIO.format("0.4990")}, 0.499),
        ({"description": APERIO.format("0")}, None),
        ({"description": APERIO.format("0.4.9")}, None),
        (
            {
                "description": "ImageJ=1.53t\nunit=micron\n",
                "resolution": (4, 4),
                "resolutionunit": "NONE",
            },
            0.25,
        ),
        (
            {
                "description": "ImageJ=1.53t\nunit=\\u00B5m\n",
                "resolution": (4, 4),
                "resolutionunit": "NONE",
            },
            0.25,
        ),
        (
            {
                "description": "ImageJ=1.53t\nunit=mm\n",
                "resolution": (4000, 4000),
                "resolutionunit": "NONE",
            },
            0.25,
        ),
        (
            {
                "description": "ImageJ=1.53t\nunit=pixel\n",
                "resolution": (4, 4),
                "resolutionunit": "NONE",
            },
            None,
        ),
        (
            {
                "description": "ImageJ=1.53t\nimages=1\n",
                "resolution": (4, 4),
                "resolutionunit": "NONE",
            },
            None,
        ),
        ({"description": "unit=micron", "resolution": (4, 4), "resolutionunit": "NONE"}, None),
    ],
)
def test_the_size_of_a_pixel_is_what_a_tiff_says_if_it_is_plausible(
    tmp_path, notices, options, expected
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", metadata=None, **options)
    actual = slide.pixel_size(path)
    if expected == "not square":
        assert actual is None
        assert "not square" in notices.pop()
    else:
        assert actual == (expected if expected is None else pytest.approx(expected, rel=1e-4))
        assert not notices
    with slide.open_slide(path) as field:
        assert field.mpp == actual


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.png", {}, None),
        ("a.png", {"dpi": (50_800, 50_800)}, 0.5),
        ("a.png", {"dpi": (300, 300)}, None),
        ("a.jpg", {}, None),
        ("a.jpg", {"dpi": (50_800, 50_800)}, 0.5),
        ("a.jpg", {"dpi": (72, 72)}, None),
    ],
)
def test_the_size_of_a_pixel_in_png_and_jpeg(tmp_path, name, options, expected):
    Image.fromarray(RGB).save(tmp_path / name, **options)
    actual = slide.pixel_size(tmp_path / name)
    assert actual == (expected if expected is None else pytest.approx(expected, rel=1e-4))
    with slide.open_slide(tmp_path / name) as field:
        assert field.mpp == actual


def test_ome_tiff_as_tifffile_writes_it(tmp_path):
    sizes = {
        "PhysicalSizeX": 0.42,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.42,
        "PhysicalSizeYUnit": "µm",
    }
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(RGB, subifds=1, metadata=sizes, **TILED)
        writer.write(RGB[::2, ::2], subfiletype=1, **TILED)
    assert slide.pixel_size(tmp_path / "a.ome.tif") == pytest.approx(0.42)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """10,000 x 10,000 pixels in tiles of 256, which repeat three that are compressed once."""
    tiles = [samples.tissue(seed, 256, 256) for seed in range(3)]
    coded = [zlib.compress(tile.tobytes(), 1) for tile in tiles]
    path = tmp_path_factory.mktemp("large") / "large.tif"
    tifffile.imwrite(
        path,
        (coded[i % 3] for i in range(40 * 40)),
        shape=(10_000, 10_000, 3),
        dtype=np.uint8,
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
    )
    return path


def test_a_large_image_is_read_by_windows_within_memory(large):
    code = f"""
        import resource, sys
        from pathlib import Path
        from histojax.images import slide
        assert "jax" not in sys.modules
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with slide.open_slide(Path({str(large)!r})) as field:
            for top in range(0, 10_000, 2_000):
                for left in range(0, 10_000, 2_000):
                    assert field.read(top, left, 2_000, 2_000).shape == (2_000, 2_000, 3)
            assert field.thumbnail(500).shape == (500, 500, 3)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 150, f"{done.stdout} MiB; the whole would be 286"


def test_a_large_image_has_its_pixels_where_they_belong(large):
    with slide.open_slide(large) as field:
        read = field.read(9_950, 9_900, 50, 100)
    row, column = 9_950 // 256, 9_900 // 256
    tile = samples.tissue((row * 40 + column) % 3, 256, 256)
    edge = (column + 1) * 256 - 9_900
    np.testing.assert_array_equal(read[:34, :edge], tile[222:, -edge:])
