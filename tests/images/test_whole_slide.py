"""Slides of each scanner: pixels are OpenSlide's, the level is the one the pixel size needs."""

import shutil
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from histojax.errors import InputError
from histojax.images import resampling, slide, suffixes, whole_slide
from histojax.images.resampling import Resampling
from tests import samples, slides

RGB = samples.tissue(0, 256, 320)
LEVELS = slides.pyramid(RGB)
JPEG = {"compression": "jpeg", "compressionargs": {"level": 95}}
MAKERS = {
    "aperio.svs": slides.aperio,
    "aperio.tif": slides.aperio,
    "jpeg.svs": lambda path, levels: slides.aperio(path, levels, **JPEG),
    "jpeg2000_rgb.svs": lambda path, levels: slides.aperio(
        path, levels, compression=slides.JPEG2000["RGB"]
    ),
    "jpeg2000_ycbcr.svs": lambda path, levels: slides.aperio(
        path, levels, compression=slides.JPEG2000["YCbCr"]
    ),
    "philips.tiff": slides.philips,
    "leica.scn": slides.leica,
    "ventana.bif": slides.ventana,
    "hamamatsu.ndpi": slides.hamamatsu,
    "mirax.mrxs": slides.mirax,
    "dicom": slides.dicom,
}
# The most that a lossy compression changes a sample of this tissue by.
LOSS = {"jpeg.svs": 40, "hamamatsu.ndpi": 40, "jpeg2000_ycbcr.svs": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """A slide of each kind."""
    folder = tmp_path_factory.mktemp("slides")
    return {name: make(folder / name, LEVELS) for name, make in MAKERS.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_windows_of_every_level_are_what_openslide_reads(made, name):
    path = made[name]
    assert whole_slide.is_slide(path)
    assert slide.size(path) == RGB.shape[:2]
    with slide.open_slide(path) as field, openslide.OpenSlide(path) as reference:
        assert field.mpp == pytest.approx(slides.MPP)
        left, top = (int(reference.properties.get(f"openslide.bounds-{axis}", 0)) for axis in "xy")
        levels = (field.level_for(1), *field.coarser)[: len(LEVELS)]
        assert [level.size for level in levels] == [rgb.shape[:2] for rgb in LEVELS]
        for i, (level, rgb) in enumerate(zip(levels, LEVELS, strict=True)):
            y, x, height, width = 10, 20, 40, 50
            read = level.read_window(y, x, height, width)
            corner = left + x * 2**i, top + y * 2**i
            expected = np.array(reference.read_region(corner, i, (width, height)))
            assert (expected[..., 3] == 255).all()
            np.testing.assert_array_equal(read, expected[..., :3])
            loss = np.abs(read.astype(int) - rgb[y : y + height, x : x + width])
            assert loss.max() <= LOSS.get(name, 0)


@pytest.mark.parametrize(
    ("target_mpp", "level", "size"),
    [
        (0.0, 0, (256, 320)),
        (0.5, 0, (256, 320)),
        (0.9, 0, (142, 178)),  # 0.45 um per pixel: level 1 has 0.5.
        (0.995, 1, (129, 161)),  # Coarser by 0.5 %: within the tolerance.
        (1.0, 1, (128, 160)),
        (1.9, 1, (67, 84)),
        (2.0, 2, (64, 80)),
        (5.0, 2, (26, 32)),
        (0.3, 0, (427, 533)),
    ],
)
def test_the_level_is_the_coarsest_that_is_as_fine_as_the_target(made, target_mpp, level, size):
    path, scale = made["aperio.svs"], Resampling(target_mpp)
    with slide.open_slide(path) as field:
        assert field.level_for(scale.factor(path)).size == LEVELS[level].shape[:2]
    assert scale.size(path) == size
    read = scale.read(path)
    whole = Image.fromarray(LEVELS[level]).resize(size[::-1], Image.Resampling.BICUBIC)
    assert np.abs(read.astype(int) - np.array(whole)).max() <= 1
    if LEVELS[level].shape[:2] == size:
        np.testing.assert_array_equal(read, LEVELS[level])


def test_a_slide_is_read_whole_in_strips_and_pixel_size_may_be_given(made, monkeypatch):
    path = made["aperio.svs"]
    expected = Resampling(0.9).read(path)
    monkeypatch.setattr(resampling, "_STRIP", 50)
    assert np.abs(Resampling(0.9).read(path).astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(Resampling(1.0, mpp=0.5).read(path), RGB)
    assert Resampling(1.0).digest_suffix(path) == "@0.25um"


def test_a_slide_read_at_its_full_resolution_is_told(made, notices):
    Resampling(1.0).read(made["aperio.svs"])
    assert not notices
    Resampling().read(made["aperio.svs"])
    assert (
        "full resolution (0.25 um per pixel), since the protocol has no --target_mpp"
        in notices.pop()
    )


def test_a_thumbnail_is_read_from_a_coarse_level(made, monkeypatch):
    read = []
    read_region = openslide.OpenSlide.read_region

    def spy(self, location, level, size):
        read.append(level)
        return read_region(self, location, level, size)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", spy)
    with slide.open_slide(made["aperio.svs"]) as field:
        assert field.thumbnail(40).shape == (32, 40, 3)
        assert field.thumbnail(80).shape == (64, 80, 3)
        assert field.thumbnail(400).shape == RGB.shape
    assert read == [2, 1, 0]
    assert slide.read_small(made["aperio.svs"]).shape == RGB.shape


def test_what_was_not_scanned_is_white(tmp_path):
    path = slides.mirax(tmp_path / "a.mrxs", LEVELS, missing=frozenset({7}))  # Row 1, column 2.
    with slide.open_slide(path) as field:
        read = field.read(0, 0, 256, 320)
    expected = RGB.copy()
    expected[64:128, 128:192] = 255
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
    ("mpp", "expected"), [(None, None), (0.25, 0.25), ("0.0001", None), ("nonsense", None)]
)
def test_an_implausible_pixel_size_is_not_believed(tmp_path, mpp, expected):
    assert slide.pixel_size(slides.aperio(tmp_path / "a.svs", [RGB], mpp)) == expected
    if expected is None:
        with pytest.raises(InputError, match="a.svs does not say its pixel size.*pass --mpp"):
            Resampling(1.0).read(tmp_path / "a.svs")


def test_a_pixel_that_is_not_square_is_told(tmp_path, notices):
    path = slides.leica(tmp_path / "a.scn", LEVELS)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags["YResolution"].overwrite((20_000, 1))
    assert slide.pixel_size(path) is None
    assert "pixels of 0.25 x 0.5 um: not square" in notices.pop()


def text(path):
    path.write_text("no slide")


def cut(path):
    slides.aperio(path, LEVELS, **JPEG)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_file(path):
    pass


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (text, "a.svs", r"is no slide \(Aperio\) that OpenSlide reads: it is damaged"),
        (text, "a.mrxs", r"is no slide \(3DHISTECH\) that OpenSlide reads"),
        (text, "a.dcm", r"is no slide \(DICOM\) that OpenSlide reads"),
        (cut, "a.svs", "damaged"),
        (no_file, "a.svs", "is not there"),
    ],
)
def test_what_is_no_slide_is_refused_by_name(tmp_path, make, name, message):
    make(tmp_path / name)
    for use in (slide.size, slide.pixel_size, Resampling().read):
        with pytest.raises(InputError, match=message) as refusal:
            use(tmp_path / name)
        assert str(tmp_path / name) in str(refusal.value)


@pytest.mark.parametrize("options", [JPEG, {"compression": slides.JPEG2000["RGB"]}])
def test_a_damaged_tile_is_refused(tmp_path, options):
    path = slides.aperio(tmp_path / "a.svs", [RGB], **options)
    with tifffile.TiffFile(path) as file:
        offset, count = (file.pages.first.dataoffsets[0], file.pages.first.databytecounts[0])
    content = bytearray(path.read_bytes())
    content[offset : offset + count // 2] = bytes(count // 2)
    path.write_bytes(content)
    with slide.open_slide(path) as field, pytest.raises(InputError, match="a.svs is damaged: 9 x"):
        field.read(0, 0, 9, 9)


def test_a_slide_too_large_for_one_field_is_sent_to_the_heat_map(made, monkeypatch):
    monkeypatch.setattr(resampling, "LARGEST_FIELD", 128 * 160)
    path = made["aperio.svs"]
    for use in (Resampling().size, Resampling().read):
        with pytest.raises(
            InputError,
            match="aperio.svs is a slide of 320 x 256 px at full size, expected at most 20,480 px "
            "in all to take it as one field: cut fields from it, or map it with histojax heatmap",
        ):
            use(path)
    assert Resampling(1.0).size(path) == (128, 160)
    with pytest.raises(InputError, match="142 px at 0.45 um"):
        Resampling(0.9).size(path)


@pytest.mark.parametrize("error", [ImportError("no openslide"), OSError("no library")])
def test_without_openslide_slides_say_what_to_install_and_all_else_is_read(
    made, tmp_path, monkeypatch, error
):
    def missing():
        raise error

    monkeypatch.setattr(whole_slide, "_openslide", missing)
    with pytest.raises(
        InputError, match=r"a.svs is a slide \(Aperio\), which .* pip install openslide-python"
    ):
        slide.size(tmp_path / "a.svs")
    assert not whole_slide.is_slide(made["aperio.tif"])
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb")
    np.testing.assert_array_equal(Resampling().read(tmp_path / "a.tif"), RGB)


def test_a_plain_tiled_tiff_is_no_slide(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64), photometric="rgb")
    assert not whole_slide.is_slide(tmp_path / "a.tif")
    assert not whole_slide.is_slide(tmp_path / "a.png")


def test_a_dicom_series_is_one_slide(made, tmp_path):
    other = slides.dicom(tmp_path, LEVELS[:2], "1.2.3.5")
    slides.dicom(tmp_path, LEVELS, "1.2.3.4")
    image = tmp_path / "b.png"
    files = [*sorted(tmp_path.glob("*.dcm")), image]
    assert whole_slide.first_files(files) == [tmp_path / "1.2.3.4-0.dcm", other, image]
    assert slide.size(tmp_path / "1.2.3.4-2.dcm") == RGB.shape[:2]
    digest = slide.digest(tmp_path / "1.2.3.4-0.dcm")
    assert digest == slide.digest(made["dicom"])
    other.unlink()
    assert slide.digest(tmp_path / "1.2.3.4-0.dcm") == digest
    (tmp_path / "1.2.3.4-1.dcm").unlink()
    assert slide.digest(tmp_path / "1.2.3.4-0.dcm") != digest


def test_the_folder_of_a_mirax_slide_belongs_to_it(tmp_path):
    path = slides.mirax(tmp_path / "a.mrxs", LEVELS)
    digest, data = slide.digest(path), tmp_path / "a" / "Data0000.dat"
    assert whole_slide.belongs_to_slide(data)
    assert not whole_slide.belongs_to_slide(path)
    for relative in ("notes.txt", "new/notes.txt", "/notes.txt"):
        assert not whole_slide.belongs_to_slide(Path(relative))
    data.write_bytes(data.read_bytes() + b"?")
    assert slide.digest(path) != digest
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(InputError, match=r"a.mrxs .*\(3DHISTECH\).*lacks"):
        slide.size(path)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("a.vsi", "slide"),
        ("A.ISYNTAX", "slide"),
        ("a.jp2", "image"),
        ("a.zip", "archive"),
        ("a.svs.part", "unfinished"),
        ("a.svs", None),
        ("a.tif", None),
        ("a.csv", None),
        ("a", None),
        (".a.zip", None),
    ],
)
def test_files_that_may_be_images_but_are_not_read(name, cause):
    found = suffixes.why_not_read(Path(name))
    assert found is None if cause is None else cause in found


def test_dicom_without_an_ending_is_told(tmp_path):
    path = slides.dicom(tmp_path, LEVELS[2:]).rename(tmp_path / "IMAGE1")
    assert suffixes.not_read([path]) == {
        path: "is a DICOM file whose name does not end in .dcm: rename it"
    }


def test_the_real_slide_has_openslides_pixels(shared_data):
    path = shared_data / "slides" / "cmu-1-small-region.svs"
    with slide.open_slide(path) as field, openslide.OpenSlide(path) as reference:
        assert (field.size, field.mpp) == ((2967, 2220), 0.499)
        for top, left in ((0, 0), (1500, 1000), (2467, 1720)):
            expected = np.array(reference.read_region((left, top), 0, (500, 500)).convert("RGB"))
            np.testing.assert_array_equal(field.read(top, left, 500, 500), expected)
    assert Resampling(2 * 0.998).read(path).shape == (1484, 1110, 3)
