"""Descriptors as TRIDENT's and CLAM's files: read by their rules, and back by ours."""

import dataclasses
import json

import h5py
import numpy as np
import pytest

from histojax.config import Extraction
from histojax.errors import InputError
from histojax.extraction import manifests, store
from histojax.features import exporting, feature_sets
from histojax.features.recipes import Recipe
from tests.made_features import DRAWS, TILES, UNI, imported_all, job

NAMED = {"trident": (), "clam": ("uni_v1",)}


def of_trident(path):
    """What TRIDENT's readers take: `features` as a tensor of float32, and `coords`."""
    with h5py.File(path) as file:
        return file["features"][:], file["coords"][:] if "coords" in file else None


def test_export_is_read_by_the_rules_of_trident_and_clam_and_back_by_ours(tmp_path):
    job(tmp_path / "job")
    root, uni = tmp_path / "made", UNI.configuration
    imported_all([tmp_path / "job"], root, **DRAWS)
    original = store.read(root, uni, TILES)
    folders = {
        "trident": tmp_path / "trident" / "whole_images" / f"features_{uni}",
        "clam": tmp_path / "clam" / uni / "h5_files",
    }
    for form, folder in folders.items():
        assert list(exporting.export(root, tmp_path / form, form, (uni,))) == [folder]
        for name, descriptors in zip(TILES, original, strict=True):
            features, coords = of_trident(folder / f"{name}.h5")
            assert features.dtype == np.float32
            np.testing.assert_array_equal(features, descriptors)
            assert (coords.shape, coords.any()) == ((4, 2), False)
            assert coords.dtype == (np.int64 if form == "trident" else np.int32)
        with h5py.File(folder / "slide0.h5") as file:
            assert file["features"].attrs["rows"] == (
                "random draws of 3 tiles of the slide, pooled by mean"
            )
            recorded = json.loads(file["features"].attrs["histojax_manifest"])
        assert Recipe.from_manifest(recorded).source == UNI
        if form == "clam":
            tensors = folder.with_name("pt_files")
            (pieces,) = feature_sets.find([tensors], "uni_v1")
            (block,) = pieces.slides["slide2"].contents.blocks()
            np.testing.assert_array_equal(block, original[2])
        (back,) = imported_all([folder], tmp_path / f"back_{form}", *NAMED[form], pooling="none")
        assert back.recipe.draws == 4
        again = store.read(tmp_path / f"back_{form}", back.configuration, TILES)
        np.testing.assert_array_equal(again, original)
    vectors = folders["trident"].with_name(f"slide_features_{uni}")
    features, coords = of_trident(vectors / "slide1.h5")
    assert (features.shape, coords) == ((4,), None)
    np.testing.assert_allclose(features, original[1].mean(axis=0), rtol=1e-5, atol=1e-7)
    (back,) = imported_all([vectors], tmp_path / "back_slides")
    assert back.recipe.source.level == "slide"


def test_what_is_not_there_is_not_exported(tmp_path):
    with pytest.raises(InputError, match="vgg has no descriptors: name another folder"):
        list(exporting.export(tmp_path, tmp_path / "out", "clam", ("vgg",)))


def test_rows_of_exported_descriptors_are_called_what_they_are():
    made = manifests.of(Extraction(), "VGG", Extraction.views[0], "imagenet", "ab")
    recipe = Recipe(UNI, "p-norm", 3.0)
    assert exporting.rows_text(None) == "augmentations of the whole image"
    assert exporting.rows_text(made).startswith("stain augmentations of the whole image, each")
    assert exporting.rows_text(recipe.manifest()) == "all tiles of the slide, pooled by p-norm"
    taken = dataclasses.replace(recipe, pooling="none", p=None)
    assert exporting.rows_text(taken.manifest()) == "rows of the imported features"
