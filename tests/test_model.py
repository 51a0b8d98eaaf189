"""What a notebook uses: a bundle by its path; images as paths and as arrays."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

import histojax
from histojax.errors import InputError
from histojax.extraction import loaded_encoders
from histojax.model import Predictions, _in_python
from histojax.prediction import bundle, model_card, predict

pytestmark = pytest.mark.usefixtures("narrow_vgg")


@pytest.fixture(scope="module")
def model(trained, narrow_vgg, tmp_path_factory):
    made, path = (
        bundle.from_models(trained / "models", descriptors=trained / "descriptors"),
        tmp_path_factory.mktemp("m"),
    )
    bundle.write(path / "a.histojax", made, trained / "models", model_card.card(made), {})
    return histojax.load_bundle(path / "a.histojax")


def test_paths_arrays_folders_and_lists_are_predicted_alike(model, trained, tmp_path, monkeypatch):
    paths = sorted((trained / "new").iterdir())
    arrays = [np.array(Image.open(path)) for path in paths]
    by_folder = model.predict(trained / "new")
    assert [each.image for each in by_folder] == ["test0", "test1", "test2"]
    monkeypatch.setattr(
        loaded_encoders, "load_encoders", lambda *_, **__: pytest.fail("encoders were loaded again")
    )
    by_array = model.predict(arrays, names=[path.stem for path in paths])
    for one, other in zip(by_folder, by_array, strict=True):
        assert dataclasses.replace(one, file=other.file) == other
    assert model.predict([paths[2], arrays[0]], names=["test0"]) == [by_folder[2], by_array[0]]
    (unnamed,) = model.predict(arrays[0])
    assert unnamed.image == "image0"
    (tmp_path / "list.txt").write_text(str(paths[1]))
    assert model.predict(str(tmp_path / "list.txt")) == by_folder[1:2]
    assert (
        set(model.predict(paths[0], coverage=0.99)[0].prediction_set)
        == set(model.classes)
        == {"benign", "malignant"}
    )


def test_bad_images_and_names_are_refused(model, tmp_path):
    with pytest.raises(InputError, match=r"an image is float64 \(4, 4, 3\), expected uint8 RGB"):
        model.predict(np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match="smaller than the 32 px crop"):
        model.predict(np.zeros((40, 40, 3), np.uint8))
    # One of several is not left out in silence.
    with pytest.raises(InputError, match="smaller than the 32 px crop"):
        model.predict([np.full((104, 120, 3), 200, np.uint8), np.zeros((40, 40, 3), np.uint8)])
    with pytest.raises(InputError, match="2 names for 1 arrays"):
        model.predict([np.zeros((40, 40, 3), np.uint8)], names=["a", "b"])
    with pytest.raises(InputError, match="is not there"):
        model.predict(tmp_path / "none.png")
    with pytest.raises(InputError, match="is not there: expected a histojax bundle"):
        histojax.load_bundle(tmp_path / "none")


def test_it_says_what_it_is(model):
    assert repr(model).startswith(f"<Model {model.bundle.name}: {', '.join(model.classes)}; VGG-")


def test_no_images_are_refused(model, tmp_path):
    for images in ([], ()):
        with pytest.raises(InputError, match="there are no images to predict"):
            model.predict(images)
    with pytest.raises(InputError, match="an empty text names no image"):
        model.predict("")
    with pytest.raises(InputError, match="a PIL image is no array: pass np.asarray"):
        model.predict(Image.new("RGB", (40, 40)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no image: expected files ending in"):
        model.predict(tmp_path / "empty")
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(InputError, match="list.txt names no image"):
        model.predict(str(tmp_path / "list.txt"))


def test_a_map_of_an_array_and_of_its_file_agree_and_the_map_repeats_what_predict_says(
    model, trained, monkeypatch
):
    path = trained / "new" / "test0.tif"
    result = model.heatmap(path)
    assert [result.prediction] == model.predict(path)
    assert result.far is None  # This bundle was made without the training images.
    assert result._repr_png_().startswith(b"\x89PNG")
    monkeypatch.setattr(predict, "predict_images", lambda *_, **__: pytest.fail("predicted"))
    again = model.heatmap(np.array(Image.open(path)), name="test0", predict_too=False)
    assert again.prediction is None
    assert again.unpredicted == "no prediction was made"
    grid = result.grid
    np.testing.assert_array_equal(grid, again.grid)
    assert grid.shape[0] == 2
    known = grid[:, np.isfinite(grid[0])]
    assert known.size
    np.testing.assert_allclose(known.sum(axis=0), 1, atol=1e-5)


def test_a_notebook_shows_predictions_as_a_table(model, trained):
    predictions = model.predict(trained / "new")
    assert isinstance(predictions, list)
    first = dataclasses.replace(predictions[0], image="<b>", abstain=("too little tissue",))
    second = dataclasses.replace(predictions[1], abstain=())
    shown = Predictions([first, second])._repr_html_()
    rows = re.findall("<tr>(.*?)</tr>", shown)
    columns = re.findall('<th scope="col">(.*?)</th>', rows[0])
    cells = [re.findall("<td>(.*?)</td>", row) for row in rows[1:]]
    assert [len(row) for row in cells] == [len(columns)] * 2
    assert cells[0][0] == "&lt;b&gt;"
    assert cells[0][1] == "<em>abstained</em>"
    assert cells[0][-1] == "too little tissue"
    assert cells[1][1] == f"<strong>{second.predicted}</strong>"
    assert dict(zip(columns, cells[1], strict=True))["malignant"] == (
        f"{second.probabilities['malignant']:.2f}"
    )
    assert "2 images, 1 abstained from" in shown
    assert "0 images" in Predictions()._repr_html_()


def test_messages_in_python_name_arguments_and_arrays_not_flags_and_temporary_files(tmp_path):
    array, file = tmp_path / "images" / "image0.png", tmp_path.parent / "mine.png"
    text = f"{array} is too small; {file} does not say its pixel size: pass --mpp, in microns"
    assert _in_python(text, {"image0": array, "mine": file}, str(tmp_path)) == (
        f"image0 is too small; {file} does not say its pixel size: pass mpp, in microns"
    )
