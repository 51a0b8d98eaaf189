"""Features that others computed: pooled, drawn from, resumed, and refused."""

import dataclasses

import numpy as np
import pytest

from histojax.config import Extraction
from histojax.errors import InputError
from histojax.extraction import manifests, store
from histojax.features import feature_sets, importing, recipes, tile_pooling
from histojax.features.feature_sets import Source
from histojax.features.recipes import Recipe
from tests import made_features
from tests.made_features import DRAWS, TILES, UNI, imported_all, job

X = TILES["slide1"]


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


def test_a_vector_for_each_slide_is_taken_as_it_is_from_files_or_a_table(tmp_path):
    rows = "".join(f"case {i},{','.join(map(str, x))}\n" for i, x in enumerate(X[:3]))
    (tmp_path / "table.csv").write_text("slide_id,f0,f1,f2,f3\n" + rows)
    (tmp_path / "vectors").mkdir()
    for i, x in enumerate(X[:3]):
        np.save(tmp_path / "vectors" / f"case {i}.npy", x if i else x[None])
    for place in ("table.csv", "vectors"):
        (done,) = imported_all([tmp_path / place], tmp_path / place[:3], "titan")
        assert (done.configuration, done.recipe.pooling) == ("titan-slide", "none")
        found = store.read(tmp_path / place[:3], "titan-slide", ["case 0", "case 1", "case 2"])
        np.testing.assert_array_equal(found[:, 0], X[:3])
    (found,) = feature_sets.find([tmp_path / "vectors"], "titan")
    for asked, message in (({"pooling": "mean"}, "so --pooling does"), (DRAWS, "so --draws does")):
        with pytest.raises(InputError, match=message):
            recipes.recipe_for(found, **asked)
    tiles = "slide,0,1\n" + "a,1,2\nb,3,4\na,5,6\n"
    (tmp_path / "tiles.csv").write_text(tiles)
    (found,) = feature_sets.find([tmp_path / "tiles.csv"], "x")
    assert {name: slide.contents.rows for name, slide in found.slides.items()} == {"a": 2, "b": 1}


def test_draws_depend_on_slide_and_seed_and_on_nothing_else(tmp_path):
    job(tmp_path / "job")
    job(tmp_path / "less", {"slide2": TILES["slide2"]})
    job(tmp_path / "renamed", {"other": TILES["slide2"]})
    (done,) = imported_all([tmp_path / "job"], tmp_path / "all", **DRAWS)
    assert done.notices == ()
    imported_all([tmp_path / "less"], tmp_path / "one", **DRAWS)
    imported_all([tmp_path / "renamed"], tmp_path / "one", **DRAWS)
    imported_all([tmp_path / "less"], tmp_path / "seeds", **DRAWS | {"seed": 8})
    uni = UNI.configuration
    drawn = store.read(tmp_path / "all", uni, ["slide2"])[0]
    assert drawn.shape == (4, 4)
    np.testing.assert_array_equal(store.read(tmp_path / "one", uni, ["slide2"])[0], drawn)
    assert (store.read(tmp_path / "one", uni, ["other"])[0] != drawn).all()
    assert (store.read(tmp_path / "seeds", uni, ["slide2"])[0] != drawn).all()
    values = TILES["slide2"]
    for vector, members in zip(drawn, tile_pooling.draw(7, "slide2", 4, 3, 11), strict=True):
        assert len({*members}) == 3
        np.testing.assert_allclose(vector, values[members].mean(axis=0), rtol=1e-6)
    (few,) = imported_all([tmp_path / "job"], tmp_path / "few", draws=2, tiles=8)
    assert (
        "2 of 3 slides have at most 8 tiles, so that all of their draws are the same"
        in few.notices[0]
    )
    for asked, message in (
        ({"draws": 2}, "--draws=N --tiles=K go together"),
        ({"seed": 2}, "--seed is of --draws, and none are asked for"),
        (DRAWS | {"pooling": "none"}, "--draws takes random tiles, --pooling=none each"),
        ({"p": 2.0}, r"--p is of the p-norm, and pooling is mean \(features have signs"),
    ):
        with pytest.raises(InputError, match=message):
            imported_all([tmp_path / "job"], tmp_path / "new", **asked)


def test_signs_are_never_lost_to_a_norm(tmp_path):
    relu = {name: np.abs(values) for name, values in TILES.items()}
    job(tmp_path / "relu", relu)
    job(tmp_path / "signs", relu | {"slide2": relu["slide2"] - 0.5})
    (done,) = imported_all([tmp_path / "relu"], tmp_path / "out")
    assert done.recipe.pooling == "p-norm"
    with pytest.raises(InputError, match="slide2.h5 has negative features, whose signs a p-norm"):
        imported_all([tmp_path / "signs"], tmp_path / "new", pooling="p-norm")
    recipe = Recipe.from_manifest(manifests.read(tmp_path / "out", UNI.configuration))
    new = importing.import_features([tmp_path / "signs"], tmp_path / "new", recipe)
    assert new.names == ("slide0", "slide1")
    assert "has negative features, and those of the set have none" in str(new.failures)


def test_descriptors_that_are_there_decide_how_more_are_pooled(tmp_path):
    job(tmp_path / "job", {name: np.abs(values) for name, values in TILES.items()})
    for asked in ({"pooling": "mean"}, {"pooling": "p-norm", "p": 2.0}):
        root = tmp_path / asked["pooling"]
        (first,) = imported_all([tmp_path / "job"], root, **asked)
        (again,) = imported_all([tmp_path / "job"], root)
        assert (again.recipe, again.kept) == (first.recipe, 3)
    with pytest.raises(InputError, match="protocol.p: found 2.0, expected 4"):
        imported_all([tmp_path / "job"], root, p=4)
    for path in root.rglob("*.npy"):
        path.unlink()
    (anew,) = imported_all([tmp_path / "job"], root)
    assert anew.recipe.p == Extraction.p


def test_rows_taken_one_by_one_are_as_many_of_each_slide(tmp_path):
    job(tmp_path / "job")
    with pytest.raises(InputError, match="same number of rows, found 5 in slide0, 8 in slide1, 11"):
        imported_all([tmp_path / "job"], tmp_path / "out", pooling="none")
    recipe = Recipe(UNI, "none", draws=4)
    job(tmp_path / "new", {"slide0": X[:3]})
    with pytest.raises(InputError, match="slides have 3 rows, expected 4 as those"):
        importing.import_features([tmp_path / "new"], tmp_path / "out", recipe)


def test_empty_and_broken_files_are_left_out_by_name_and_the_others_imported(tmp_path):
    broken = {"nan": np.full((2, 4), np.nan), "inf": np.full((3, 4), 1e300)}
    files = job(tmp_path, TILES | {"none": np.zeros((0, 4)), "flat": np.zeros(0)} | broken)
    folder = files / "20x_256px_0px_overlap" / "features_uni_v1"
    (folder / "cut.h5").write_bytes((folder / "slide0.h5").read_bytes()[:3000])
    (done,) = imported_all([files], tmp_path / "out")
    assert done.names == ("slide0", "slide1", "slide2")
    assert done.empty == ("flat", "none")
    assert {name: text.partition(": ")[0] for name, text in done.failures.items()} == {
        "cut": done.failures["cut"].partition(": ")[0],
        "inf": f"{folder / 'inf.h5'} holds NaN or infinity",
        "nan": f"{folder / 'nan.h5'} holds NaN or infinity",
    }
    assert "cut.h5 cannot be read as features, it is damaged" in done.failures["cut"]


def test_a_file_that_is_still_being_written_is_left_out(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", X)
    (found,) = feature_sets.find([tmp_path], "resnet50")
    np.save(tmp_path / "b.npy", np.concatenate([X, X]))
    done = importing.import_set(found, tmp_path / "out", Recipe(found.source, "mean"))
    assert done.names == ("a",)
    assert "b.npy cannot be read as features: it has 16 rows now, and had 8" in done.failures["b"]


def test_each_slide_of_a_table_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "all.csv").write_text("slide,f0,f1\na,1,2\nb,nan,4\nc,inf,6\n")
    (done,) = imported_all([tmp_path / "all.csv"], tmp_path / "out", "resnet50")
    assert done.names == ("a",)
    assert set(done.failures) == {"b", "c"}
    assert done.failures["c"].startswith(f"{tmp_path / 'all.csv'}, slide c, holds NaN")
    (tmp_path / "bad.csv").write_text("slide,f0,f1\nb,nan,4\n")
    with pytest.raises(InputError, match="bad.csv, slide b, holds NaN or infinity"):
        imported_all([tmp_path / "bad.csv"], tmp_path / "bad", "resnet50")


def test_a_damaged_file_decides_what_others_are_called_as_it_will_when_it_is_repaired(tmp_path):
    for name in ("x/s", "x/t", "y/s"):
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "all" / f"{name}.npy", TILES["slide0"])
    (tmp_path / "all" / "y" / "s.npy").write_bytes(b"cut")
    (done,) = imported_all([tmp_path / "all"], tmp_path / "out", "resnet50")
    assert (done.names, [*done.failures]) == (("x/s", "t"), ["y/s"])


def test_the_same_features_under_two_names_are_told(tmp_path):
    for name in ("s", "copy"):
        made_features.clam(tmp_path / "job", name, TILES["slide0"])
    made_features.clam(tmp_path / "job", "t", TILES["slide1"])
    (done,) = imported_all([tmp_path / "job"], tmp_path / "out", "resnet50")
    assert "copy = s. Keep one" in done.notices[-1]


@pytest.mark.parametrize("name", ["a//b", "a/./b", "../a", "/a", "y" * 201, "a\\b", "a/"])
def test_slides_of_a_table_have_names_that_files_can_have(tmp_path, name):
    (tmp_path / "all.csv").write_text(f"slide,f0,f1\n{name},1,2\n")
    with pytest.raises(InputError, match="which is no name of a file"):
        feature_sets.find([tmp_path / "all.csv"], "resnet50")


def test_new_features_are_imported_as_the_training_ones_or_refused(tmp_path):
    job(tmp_path / "old")
    job(tmp_path / "old", encoder="conch_v15")
    made = [done.recipe for done in imported_all([tmp_path / "old"], tmp_path / "out", **DRAWS)]
    assert [recipe.source.encoder for recipe in made] == ["conch_v15", "uni_v1"]
    for recipe in made:
        again = importing.import_features([tmp_path / "old"], tmp_path / "again", recipe)
        assert again.recipe == recipe
    for path in (tmp_path / "out").glob("*/*.npy"):
        copy = tmp_path / "again" / path.parent.name / path.name
        assert copy.read_bytes() == path.read_bytes()
    wider = {name: np.pad(values, ((0, 0), (0, 2))) for name, values in TILES.items()}
    for number, (other, message) in enumerate(
        (
            ({"features": wider}, "uni_v1-20x-256px: channels: found 6, expected 4"),
            ({"encoder": "uni_v2"}, "uni_v2-20x-256px: encoder: found uni_v2, expected uni_v1"),
        )
    ):
        new = job(tmp_path / f"new{number}", **other)
        with pytest.raises(InputError, match=message):
            importing.import_features([new], tmp_path / "refused", made[1])
    made_features.clam(tmp_path / "clam", "new", TILES["slide0"])
    recipe = dataclasses.replace(made[1], source=Source("resnet50", "CLAM", "tile", 4))
    new = importing.import_features([tmp_path / "clam"], tmp_path / "new", recipe)
    assert "taken to be resnet50, as those that the models were trained on" in new.notices[0]


def test_of_new_features_others_do_not_matter_and_one_row_is_what_rows_were(tmp_path):
    uni = Recipe(UNI, "mean")
    folder = job(tmp_path / "job") / "20x_256px_0px_overlap" / "features_uni_v2"
    folder.mkdir()
    (folder / "slide0.h5").write_bytes(b"nothing")
    assert importing.import_features([tmp_path / "job"], tmp_path / "out", uni).failures == {}
    for level, pooling in (("tile", "mean"), ("slide", "none")):
        np.save(tmp_path / "a.npy", X[:1])
        recipe = Recipe(Source("resnet50", "arrays", level, 4), pooling)
        new = importing.import_features([tmp_path / "a.npy"], tmp_path / level, recipe)
        assert (new.names, new.recipe) == (("a",), recipe)


def test_a_stop_loses_no_slide_that_was_finished(tmp_path, monkeypatch):
    job(tmp_path / "job")
    calls, pool = [], tile_pooling.pool

    def stopped_at_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return pool(*arguments)

    monkeypatch.setattr(tile_pooling, "pool", stopped_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        imported_all([tmp_path / "job"], tmp_path / "out")
    (done,) = imported_all([tmp_path / "job"], tmp_path / "out")
    assert (done.kept, len(calls), len(done.names)) == (2, 4, 3)


@pytest.mark.parametrize(
    "protocol", [{"format": "CLAM"}, Recipe(UNI, "mean").manifest()["protocol"] | {"more": 1}]
)
def test_a_recipe_of_another_version_is_refused(protocol):
    with pytest.raises(InputError, match="imported by another version of histojax"):
        Recipe.from_manifest({"protocol": protocol, "weights": {}})
