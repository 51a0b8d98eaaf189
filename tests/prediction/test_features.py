"""Features of new slides to descriptors of every configuration, and why a slide has none."""

from types import SimpleNamespace

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.extraction import store
from histojax.features import importing
from histojax.features.importing import Imported
from histojax.features.recipes import Recipe
from histojax.prediction import features, learned


def test_a_slide_without_descriptors_says_why(monkeypatch):
    names = {"a": ("s", "t", "u"), "b": ("s",), "c": ("s",)}
    made = {name: Imported(name, None, slides, 0, (), {}, ()) for name, slides in names.items()}
    made["b"] = Imported("b", None, ("s",), 0, ("v",), {"u": "it is damaged"}, ())
    monkeypatch.setattr(importing, "import_features", lambda paths, root, recipe: made[recipe])
    monkeypatch.setattr(Recipe, "from_manifest", lambda manifest: manifest)
    bundle = SimpleNamespace(imported=True, configurations=(*made,), made_with={n: n for n in made})
    new = features.import_new(bundle, ["job"], "root")
    assert new.names == ("s",)
    assert new.failed == {
        "t": "it lacks features of b, c",
        "u": "it is damaged",
        "v": "it has no tiles, so no features",
    }


def test_models_of_images_take_no_features():
    bundle = SimpleNamespace(imported=False, name="bundle.histojax")
    with pytest.raises(InputError, match="extracts from images and takes no features"):
        features.import_new(bundle, ["job"], "root")


def test_a_slide_is_known_by_its_descriptors_of_all_configurations(tmp_path):
    for name, values in (("s", (1, 2)), ("t", (1, 2)), ("u", (1, 3))):
        for configuration, value in zip("ab", values, strict=True):
            store.write(tmp_path, configuration, name, np.full((1, 2), value, np.float32))
    digests = learned.digests_of(tmp_path, ("a", "b"), "stu")
    assert digests["s"] == digests["t"] != digests["u"]
    first = learned.digests_of(tmp_path, ("a",), "su")
    assert first["s"] == first["u"] != digests["s"]
