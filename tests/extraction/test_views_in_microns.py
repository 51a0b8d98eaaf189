"""Views in microns, grids of crops and native views: what is read, cut, refused and recorded."""

import dataclasses
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from histojax import encoders
from histojax.config import PAPER_VIEWS, Extraction, Runtime, View
from histojax.encoders import MINUS_ONE_TO_ONE, Encoder, NativeView, Tap, native
from histojax.errors import InputError
from histojax.extraction import (
    dry_run,
    extract,
    loaded_encoders,
    manifests,
    mixing,
    notices,
    pending,
    programs,
    store,
)
from histojax.images import slide
from histojax.ops import crops, resize, stain
from tests import samples

MPP = 0.25  # Of the image files.


class Token(nn.Module):
    """A vector of an image, with signs: the colours of its squares of 8 px, mixed."""

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        squares = nn.avg_pool(images, (8, 8), (8, 8))
        return {"token": jnp.tanh(4 * nn.Dense(5)(squares)).mean((1, 2))}


TOKEN = Encoder(
    name="Token-S",
    module=Token(),
    outputs=(Tap("token", 5, signed=True),),
    convention=MINUS_ONE_TO_ONE,
    native=NativeView(mpp=0.5, crop_size=16, input_size=16, resize_filter="bicubic"),
)
COARSE = dataclasses.replace(
    TOKEN, name="Token-C", native=NativeView(1.0, 20, 16, "bilinear", resized=18)
)
GRID = Extraction(
    encoders=("Token-S",),
    views=(View.in_microns(0.5, 20),),
    augmentations=2,
    crop_layout="grid",
    weights="random",
    stain_normalizer="none",
)
RANDOM = dataclasses.replace(GRID, crop_layout="random", augmentations=1, crops=2)


@pytest.fixture(autouse=True, scope="module")
def known():
    """Both encoders are in the table."""
    with pytest.MonkeyPatch.context() as patched:
        for encoder in (TOKEN, COARSE):
            patched.setitem(encoders.ENCODERS, encoder.name, encoder)
        yield


def save(path: Path, rgb: np.ndarray, mpp: float | None = MPP) -> Path:
    """A TIFF that states its pixel size, if it has one."""
    stated = {}
    if mpp:
        stated = {"resolution_unit": 3, "x_resolution": 1e4 / mpp, "y_resolution": 1e4 / mpp}
    Image.fromarray(rgb).save(path, **stated)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("microns")
    sizes = [(130, 140), (150, 180), (96, 200)]
    return [save(folder / f"a{i}.tif", samples.tissue(i, *size)) for i, size in enumerate(sizes)]


@pytest.fixture(scope="module")
def gridded(files, tmp_path_factory) -> tuple[Path, list[str]]:
    """Descriptors of grids of crops, and the views of the programs that were traced."""
    root, traced = tmp_path_factory.mktemp("grid"), []
    encode = programs._encode_tiles

    def watched(*arguments):
        traced.append(arguments[-1].workload.views[0].name)
        return encode(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(programs, "_encode_tiles", watched)
        extract.run(files, GRID, root, runtime=Runtime(crops_per_step=4))
    return root, traced


def tiles(rgb: np.ndarray, size: int) -> np.ndarray:
    """The squares that cover an image, evenly spread: uint8 [P, S, S, 3]."""
    starts = [
        [i * (side - size) // max(1, -(-side // size) - 1) for i in range(-(-side // size))]
        for side in rgb.shape[:2]
    ]
    return np.stack([rgb[y : y + size, x : x + size] for y in starts[0] for x in starts[1]])


def test_each_augmentation_is_the_mean_over_all_tiles_of_the_image_resampled_once(files, gridded):
    root, traced = gridded
    assert traced == ["0.5mpp-20"]  # One program for images of three sizes.
    (loaded,) = loaded_encoders.fold_encoders(GRID).values()
    for path in files:
        for view in GRID.views:
            whole = Image.open(path)
            size = [round(side * MPP / view.mpp) for side in whole.size]
            rgb = np.array(whole.resize(size, Image.Resampling.BICUBIC))
            found = np.load(root / f"Token-S-{view.name}" / f"{path.stem}.npy")
            key = crops.image_key(GRID.seed, path.stem)
            for augmentation, row in enumerate(found):
                gains = crops.gains(key, augmentation, GRID.gain_low, GRID.gain_high)
                augmented = np.asarray(stain.augment(rgb, gains))
                images = tiles(augmented, view.crop_size)
                each = loaded.encoder.descriptors(loaded.variables, images)
                np.testing.assert_allclose(row, np.mean(each, axis=0), atol=1e-4)
            assert found.min() < 0


@pytest.mark.slow
def test_a_grid_does_not_depend_on_the_other_images_or_on_how_the_work_is_cut(
    files, gridded, tmp_path
):
    extract.run(files[1:2], GRID, tmp_path, runtime=Runtime(crops_per_step=7))
    for configuration in GRID.configurations:
        alone = np.load(tmp_path / configuration / "a1.npy")
        together = np.load(gridded[0] / configuration / "a1.npy")
        np.testing.assert_allclose(alone, together, atol=1e-6)


def test_what_was_done_is_recorded_and_nothing_else_is_mixed_with_it(files, gridded, tmp_path):
    root, _ = gridded
    made = {name: manifests.read(root, name) for name in GRID.configurations}
    protocol = made["Token-S-0.5mpp-20"]["protocol"]
    assert (protocol["mpp"], protocol["scale"], protocol["crop_layout"]) == (0.5, 1.0, "grid")
    assert "crops" not in protocol
    assert protocol["recipe"]["pooling"] == "mean"
    assert protocol["recipe"]["resize_filter"] == "bicubic"
    assert manifests.extraction_of(made, "models") == GRID
    assert {(row.scale, row.file_sha256[64:]) for row in store.read_stain_qc(root).values()} == {
        ("0.5mpp", "@0.25um")
    }
    assert extract.run(files, GRID, root).extracted == 0
    refused = {
        "protocol.crop_layout: found grid, expected random": {"crop_layout": "random"},
        "protocol.stain_normalizer: found none, expected macenko": {"stain_normalizer": "macenko"},
    }
    for line, change in refused.items():
        with pytest.raises(InputError, match=line):
            extract.run(files, dataclasses.replace(GRID, **change), root)
    other = dataclasses.replace(TOKEN.native, resize_filter="bilinear")
    with pytest.MonkeyPatch.context() as patched:
        row = dataclasses.replace(TOKEN, native=other)
        patched.setitem(encoders.ENCODERS, "Token-S", row)
        with pytest.raises(InputError, match=r"recipe.resize_filter: found bicubic, expected bili"):
            extract.run(files, GRID, root)
    with pytest.raises(InputError, match=r"size differs: 0.25um there, 0.3um now. Pass --mpp"):
        extract.run(files, GRID, root, mpp=0.3)


def test_the_target_of_views_by_scale_is_none_of_those_in_microns(tmp_path):
    both = Extraction(("VGG",), (View(0.5, 48), View.in_microns(0.5, 48)), target_mpp=0.84)
    made = {
        both.configuration("VGG", view): manifests.of(both, "VGG", view, "imagenet", "0" * 64)
        for view in both.views
    }
    assert "target_mpp" not in made["VGG-0.5mpp-48"]["protocol"]
    assert manifests.extraction_of(made, "models") == both
    for name, manifest in made.items():
        mixing.claim(tmp_path, name, manifest)
        store.write(tmp_path, name, "a", np.ones((50, 4), np.float32))
    coarse = dataclasses.replace(both, views=(View(1.0, 48),), target_mpp=0.0)
    other = manifests.of(coarse, "VGG", coarse.views[0], "imagenet", "0" * 64)
    with pytest.raises(InputError, match="VGG-0.5-48 .*another protocol.*\n.*protocol.target_mpp"):
        mixing.refuse_mixing(tmp_path, "VGG-1.0-48", other)


@pytest.mark.parametrize(
    ("resolution", "suffix", "views", "changes", "fits"),
    [
        ("0.5mpp", "@0.25um", ("0.5mpp-20", "1.0mpp-16"), {}, True),
        ("0.5mpp", "@0.3um", ("1.0mpp-16",), {}, False),
        ("0.5mpp", "@0.25um", ("0.5-48",), {}, True),
        ("0.5mpp", "@0.3um", ("0.5-48",), {"target_mpp": 0.84}, False),
        ("0.5", "", ("0.5mpp-20",), {}, True),
        ("0.5", "@0.25um", ("0.5mpp-20",), {}, True),
        ("0.5", "@0.3um", ("0.5mpp-20",), {}, False),
        ("0.5", "@0.25um", ("1.0-48", "0.5mpp-20"), {}, False),
    ],
)
def test_a_folder_has_one_pixel_size_of_a_file_whatever_its_views(
    files, tmp_path, resolution, suffix, views, changes, fits
):
    extraction = dataclasses.replace(RANDOM, views=tuple(map(View.parse, views)), **changes)
    encoder_set = loaded_encoders.EncoderSet(
        extraction, None, {"Token-S": loaded_encoders.LoadedEncoder(TOKEN, {}, "random", "")}
    )
    digest = slide.digest(files[0]) + suffix
    row = store.StainQCRow("a0", resolution, 0.5, 30.0, 1.0, 1.0, "ok", digest)
    asked = "a0", files[0], encoder_set, None, tmp_path, {("a0", resolution): row}
    if fits:
        assert len(pending.missing(*asked)) == len(views)
        return
    with pytest.raises(InputError, match="its pixel size differs: 0"):
        pending.missing(*asked)


def test_images_without_a_pixel_size_and_those_to_be_enlarged_are_named_at_once(files, tmp_path):
    silent = save(tmp_path / "silent.tif", samples.tissue(5, 90, 90), None)
    coarse = save(tmp_path / "coarse.tif", samples.tissue(6, 90, 90), 0.7)
    paths = [files[0], silent, coarse]
    for run in (extract.run, dry_run.run):
        with pytest.raises(InputError) as refusal:
            run(paths, RANDOM, tmp_path / "out")
        lines = str(refusal.value).splitlines()[1:]
        assert "silent.tif does not say its pixel size, which a view of 0.5mpp needs" in lines[0]
        assert "coarse.tif has 0.7 um per pixel and would be enlarged 1.4 x" in lines[1]
        assert "expected at most 1.2 x" in lines[1]
        allowing = float(lines[1].partition("--most_enlarged=")[2])
    allowed = dataclasses.replace(RANDOM, most_enlarged=allowing)
    assert allowing < 1.42
    pending.check_images({"coarse": coarse}, allowed, None)
    pending.check_images({"silent": silent}, RANDOM, 0.25)
    with pytest.raises(InputError, match="smaller than the .* Check the pixel size, or pass"):
        pending.check_inputs({"silent": silent}, RANDOM, 0.01)


def test_files_that_state_another_pixel_size_than_mpp_are_named(files, tmp_path, caplog):
    silent = save(tmp_path / "silent.tif", samples.tissue(5, 30, 30), None)
    near = save(tmp_path / "near.tif", samples.tissue(5, 30, 30), 0.502)
    images = {"silent": silent, "near": near, "a0": files[0]}
    by_scale = dataclasses.replace(RANDOM, views=PAPER_VIEWS)
    with caplog.at_level("WARNING", logger="absl"):
        notices.contradicted_pixel_sizes(images, by_scale, 0.5)
        notices.contradicted_pixel_sizes({"silent": silent, "near": near}, RANDOM, 0.5)
        assert not caplog.records
        notices.contradicted_pixel_sizes(images, RANDOM, 0.5)
        assert "1 file states another pixel size, in microns (a0: 0.25)" in caplog.text
        caplog.clear()
        oblong = tmp_path / "oblong.tif"
        Image.new("RGB", (30, 30)).save(oblong, dpi=(25400 / 0.5, 25400 / 0.25))
        notices.contradicted_pixel_sizes({"oblong": oblong}, RANDOM, 0.5)
    assert "in microns (oblong: 0.5 x 0.25, not square)" in caplog.messages[0]
    assert len(caplog.messages) == 1


def test_each_encoder_takes_its_native_view(files, tmp_path):
    both = dataclasses.replace(RANDOM, encoders=("Token-S", "Token-C"))
    chosen = native.with_native_views(both)
    assert chosen.configurations == ("Token-S-0.5mpp-16", "Token-C-1.0mpp-20")
    assert extract.run(files[:1], chosen, tmp_path).extracted == 1
    assert store.configurations(tmp_path) == ("Token-C-1.0mpp-20", "Token-S-0.5mpp-16")
    made = {name: manifests.read(tmp_path, name) for name in chosen.configurations}
    assert manifests.extraction_of(made, "models") == chosen
    assert extract.run(files[:1], chosen, tmp_path).extracted == 0
    # With a network of any size, it alone takes other views.
    mixed = dataclasses.replace(RANDOM, encoders=("Token-S", "VGG"))
    mixed = native.with_native_views(mixed, (View(0.5, 48),))
    assert mixed.configurations == ("Token-S-0.5mpp-16", "VGG-0.5-48")
    with pytest.raises(InputError, match="--views=native: VGG has no native view"):
        native.require(mixed)
    real = Extraction(encoders=("UNI2-h", "GigaPath", "H-optimus-0"))
    assert native.with_native_views(real).configurations == (
        "UNI2-h-0.5mpp-224",
        "GigaPath-0.5mpp-256",
        "H-optimus-0-0.5mpp-224",
    )
    assert native.with_native_views(dataclasses.replace(real, encoders=("UNI",))).own_views == ()


@pytest.mark.parametrize("side", [16, 40])
def test_crops_become_the_input_of_the_network(side):
    """As torchvision's Resize and CenterCrop would have it."""
    rgb = samples.tissue(0, side, side)
    resized = Image.fromarray(rgb).resize((18, 18), Image.Resampling.BILINEAR)
    found = COARSE.native.input(rgb[None].astype(np.float32))
    assert found.shape == (1, 16, 16, 3)
    assert np.abs(found[0] - np.asarray(resized, np.float32)[1:17, 1:17]).max() <= 1
    plain = TOKEN.native.input(rgb[None].astype(np.float32))
    expected = resize.antialiased(rgb[None].astype(np.float32), 16, "bicubic")
    np.testing.assert_array_equal(plain, expected)
