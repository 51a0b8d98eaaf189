"""What imported features are called, and that they are not mixed with computed descriptors."""

import re

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.extraction import manifests, mixing, provenance, store
from histojax.features.feature_sets import Source
from histojax.features.recipes import Recipe

TILES = Source("uni_v1", "TRIDENT", "tile", 16, 20.0, 256, 0)
SLIDES = Source("titan", "arrays", "slide", 768)


@pytest.mark.parametrize(
    ("recipe", "features", "pooled"),
    [
        (Recipe(TILES, "mean"), "uni_v1 (TRIDENT, 20x, 256 px tiles)", "the mean of all its tiles"),
        (
            Recipe(Source("virchow2", "STAMP", "tile", 2560, mpp=1.14), "p-norm", 3.0, 5, 200),
            "virchow2 (STAMP, 1.14 um/px)",
            "5 x the 3-norm of 200 tiles drawn at random",
        ),
        (Recipe(SLIDES, "none"), "titan (slide level)", "its feature vector"),
        (Recipe(SLIDES, "none", draws=4), "titan (slide level)", "its 4 feature vectors"),
    ],
)
def test_features_and_their_pooling_in_words(recipe, features, pooled):
    manifest = recipe.manifest()
    assert provenance.features_text(manifest) == features
    assert provenance.pooling_text(manifest) == pooled
    assert manifests.weights_text([manifest]) == f"imported features: {features}"


def test_slides_have_all_configurations_and_an_ensemble_is_of_one_kind(tmp_path):
    other = Source("conch", "TRIDENT", "tile", 16, 20.0, 256, 0)
    names = {TILES.configuration: ("a", "sub/b", "c"), other.configuration: ("sub/b", "c", "d")}
    for source in (TILES, other):
        mixing.claim(tmp_path, source.configuration, Recipe(source, "mean").manifest())
        for name in names[source.configuration]:
            store.write(tmp_path, source.configuration, name, np.zeros((1, 16), np.float32))
    found = manifests.imported_slides(tmp_path, names)
    first = tmp_path / TILES.configuration
    assert found == {"sub/b": first / "sub" / "b.npy", "c": first / "c.npy"}
    store.file_of(tmp_path, other.configuration, "sub/b").unlink()
    store.file_of(tmp_path, other.configuration, "c").unlink()
    with pytest.raises(InputError, match="no slide with descriptors of each of uni_v1-20x-256px, "):
        manifests.imported_slides(tmp_path, names)
    made = {"uni": Recipe(TILES, "mean").manifest(), "VGG-0.5-400": None}
    with pytest.raises(InputError, match=re.escape("of uni were imported, those of VGG-0.5-400")):
        provenance.are_imported(made)
    assert not provenance.are_imported({"VGG-0.5-400": None})
