"""Features that others computed: recognised, pooled, resumed, refused, and written back."""

import numpy as np

from histojax.extraction import feature_files, imported, manifests, store
from histojax.extraction.feature_files import Source
from tests import made_features

RNG = np.random.default_rng(0)
TILES = {f"slide{i}": RNG.normal(size=(5 + 3 * i, 4)).astype(np.float32) for i in range(3)}
UNI = Source("uni_v1", "TRIDENT", "tile", 4, magnification=20, patch_px=256, overlap_px=0)


def job(root, features=TILES, encoder="uni_v1", tiles="20x_256px_0px_overlap"):
    """A TRIDENT job, with the files beside features that it has too."""
    for name, values in features.items():
        made_features.trident(root / tiles / f"features_{encoder}", name, values)
    made_features.trident(root / tiles / "patches", "slide0_patches", np.zeros((2, 0), np.float32))
    return root


def imported_all(paths, root, name=None, **asked):
    done = []
    for found in feature_files.find(paths, name):
        recipe, _ = imported.recipe_for(found, **asked, root=root)
        done.append(imported.import_set(found, root, recipe))
    return done


def test_a_job_of_trident_becomes_a_configuration_of_each_encoder_and_size_of_tiles(tmp_path):
    relu = {name: np.abs(values) for name, values in TILES.items()}
    job(tmp_path / "job")
    coarse = tmp_path / "job" / "10x_512px_64px_overlap"
    for name, values in relu.items():
        stated = {"target_magnification": 10, "patch_size": 512, "overlap": 64}
        made_features.trident(coarse / "features_resnet50", name, values, **stated)
        made_features.trident(coarse / "slide_features_titan", name, values[0])
    root = tmp_path / "descriptors"
    imported_all([tmp_path / "job"], root)
    titan, uni = "titan-10x-512px-64px_overlap-slide", "uni_v1-20x-256px"
    resnet = "resnet50-10x-512px-64px_overlap"
    assert store.configurations(root) == (resnet, titan, uni)
    for i, name in enumerate(TILES):
        mean = TILES[name].mean(axis=0, dtype=float)
        norm = (relu[name].astype(float) ** 3).mean(axis=0) ** (1 / 3)
        for configuration, expected in ((uni, mean), (resnet, norm), (titan, relu[name][0])):
            found = store.read(root, configuration, TILES)[i]
            np.testing.assert_allclose(found, [expected], rtol=1e-6)
    protocols = {name: manifests.read(root, name)["protocol"] for name in (uni, resnet, titan)}
    assert protocols[uni] == {
        "encoder": "uni_v1",
        "format": "TRIDENT",
        "level": "tile",
        "channels": 4,
        "magnification": 20.0,
        "patch_px": 256,
        "overlap_px": 0,
        "pooling": "mean",
        "p": None,
        "draws": 1,
        "tiles": None,
        "seed": 0,
    }
    assert (protocols[resnet]["pooling"], protocols[resnet]["p"]) == ("p-norm", 3.0)
    assert (protocols[titan]["level"], protocols[titan]["pooling"]) == ("slide", "none")
