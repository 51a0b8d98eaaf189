"""Noise, other stains and empty glass are far; images like the training images rarely are.

distance.py is tested here too.
"""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from histojax.config import STAIN_OK, STAIN_TOO_LITTLE_TISSUE, Extraction, View
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.extraction import extract, store
from histojax.ops import stain
from histojax.prediction import distance, out_of_distribution
from histojax.utils import files
from tests import samples

PROTOCOL = Extraction(
    encoders=("VGG",), views=(View(1.0, 48),), augmentations=1, crops=2, weights="random"
)
VGG = PROTOCOL.configurations[0]
TRAINED, ALIKE = 16, 4

pytestmark = pytest.mark.usefixtures("narrow_vgg")


def folds_of(count: int, folds: int, groups: tuple[str, ...] | None = None) -> Folds:
    """Images i0, i1, ... ; whole groups are in a fold where there are groups."""
    unit = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    names = tuple(f"i{i}" for i in range(count))
    return Folds(names, np.zeros(count, int), unit % folds, ("a", "b"), groups)


def restained(rgb: np.ndarray, vectors) -> np.ndarray:
    """The same amounts of other stains (rows of red, green, blue), such as an antibody's brown."""
    amounts = (
        -np.log((rgb + 1.0) / stain.WHITE) @ np.linalg.pinv(np.array(stain.REFERENCE_STAINS)).T
    )
    return np.clip(stain.WHITE * np.exp(-amounts @ np.array(vectors)), 0, 255).astype(np.uint8)


def stain_row(image, scale, values) -> store.StainQCRow:
    return store.StainQCRow(image, scale, *values, STAIN_OK, "")


@pytest.fixture(scope="module")
def described(narrow_vgg, tmp_path_factory):
    """Descriptors of tissue to train on, of more such tissue, and of entirely other images."""
    folder = tmp_path_factory.mktemp("typicality")
    rng = np.random.default_rng(0)
    pictures = {f"i{i}": samples.tissue(i, 96, 96) for i in range(TRAINED)}
    pictures |= {f"alike{i}": samples.tissue(100 + i, 96, 96) for i in range(ALIKE)}
    pictures["noise"] = rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
    pictures["brown"] = restained(pictures["alike0"], ((0.65, 0.70, 0.29), (0.27, 0.57, 0.78)))
    pictures["grey"] = (
        pictures["alike0"].mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
    )
    pictures["blank"] = rng.integers(236, 244, (96, 96, 3), dtype=np.uint8)
    (folder / "images").mkdir()
    for name, picture in pictures.items():
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / "images" / f"{name}.png")
    extract.run(sorted((folder / "images").glob("*.png")), PROTOCOL, folder / "descriptors")
    return folder / "descriptors"


@pytest.fixture(scope="module")
def reference(described):
    folds = folds_of(TRAINED, 4)
    return out_of_distribution.fit(
        folds, means(described, *folds.names), store.read_stain_qc(described)
    )


def means(root, *names) -> dict[str, np.ndarray]:
    return {VGG: store.read(root, VGG, names).mean(axis=1)}


def far_by_descriptors(reference, root, *names) -> np.ndarray:
    return out_of_distribution.is_far(
        out_of_distribution.descriptors_p_values(reference, means(root, *names)), reference.masses
    )


def far_by_stain(reference, root, *names) -> np.ndarray:
    features = distance.stain_features(store.read_stain_qc(root), names, reference.scales)
    return out_of_distribution.is_far(
        out_of_distribution.stain_p_values(reference, features), reference.stain_masses
    )


def test_noise_another_stain_and_empty_glass_are_far(described, reference):
    rows = store.read_stain_qc(described)
    assert far_by_descriptors(reference, described, "noise", "blank").all()
    assert far_by_stain(
        reference, described, "brown", "grey"
    ).all()  # Normalised, so descriptors need not show it.
    assert distance.too_little_tissue(rows, "blank")
    assert not far_by_stain(reference, described, "blank").any()  # Nothing is known of its stain.
    assert np.isnan(distance.stain_features(rows, ["blank"], reference.scales)).all()


def test_images_like_those_trained_on_are_not(described, reference):
    alike = [f"alike{i}" for i in range(ALIKE)]
    rows = store.read_stain_qc(described)
    assert not far_by_descriptors(reference, described, *alike).any()
    assert not far_by_stain(reference, described, *alike).any()
    assert not any(distance.too_little_tissue(rows, name) for name in alike)


def test_without_a_record_of_stain_there_is_no_answer_about_it(tmp_path):
    samples.write_descriptors(
        tmp_path, [f"i{i}" for i in range(8)], [0] * 8, {"VGG-0.5-400": 12}, 2, 1.0
    )
    folds, descriptors = (
        folds_of(8, 2),
        store.read(tmp_path, "VGG-0.5-400", [f"i{i}" for i in range(8)]),
    )
    means_of = {"VGG-0.5-400": descriptors.mean(axis=1)}
    fitted = out_of_distribution.fit(folds, means_of, store.read_stain_qc(tmp_path))
    assert fitted.scales == ()
    again = out_of_distribution.ReferenceDistribution.from_arrays(fitted.to_arrays())
    for reference in (fitted, again):
        assert np.isnan(out_of_distribution.stain_p_values(reference, np.empty((3, 0)))).all()
        compared = out_of_distribution.compare(reference, folds.names, means_of, {})
        assert np.isnan(compared.stain_p).all()
        assert not compared.stain_far.any()
        assert (compared.descriptors_p > 0).all()


def test_a_record_that_lacks_an_image_is_refused():
    rows = {("i0", "0.5"): stain_row("i0", "0.5", [0.5, 30, 1, 1])}
    with pytest.raises(InputError, match="no row of i1 at scale 0.5"):
        out_of_distribution.fit(folds_of(2, 2), {"A": np.ones((2, 3), np.float32)}, rows)


def test_the_stain_is_of_scales_and_then_of_pixel_sizes_in_order():
    resolutions = ("1.0", "0.25mpp", "0.5", "10.0mpp")
    rows = {
        (name, at): stain_row(name, at, [0.5, 30, 1, 1])
        for name in ("i0", "i1")
        for at in resolutions
    }
    means = {"A": np.ones((2, 3), np.float32)}
    reference = out_of_distribution.fit(folds_of(2, 2), means, rows)
    assert reference.scales == ("0.5", "1.0", "0.25mpp", "10.0mpp")


def distance_by_loops(known: list[dict], new: dict) -> float:
    """Mean distance to the five nearest: the root of the mean over configurations and channels."""
    distances = []
    for image in known:
        squares = []
        for name in new:
            column = np.array([each[name] for each in known], np.float64)
            total = 0
            for channel in range(len(new[name])):
                values = column[:, channel]
                scale = np.sqrt(((values - values.mean()) ** 2).mean()) + 0.01 * abs(values.mean())
                a = min(max((new[name][channel] - values.mean()) / scale, -5), 5)
                b = min(max((image[name][channel] - values.mean()) / scale, -5), 5)
                total += (a - b) ** 2
            squares.append(total / len(new[name]))
        distances.append(np.sqrt(np.mean(squares)))
    return np.mean(sorted(distances)[:5])


def test_descriptors_by_loops():
    rng = np.random.default_rng(3)
    groups = ("p", "p", "q", "q", "q", "r", "s", "s", "t", "", "", "u")
    folds = folds_of(12, 3, groups)
    folds = dataclasses.replace(
        folds, folds=np.where(np.arange(12) == 11, -1, folds.folds)
    )  # u is only trained on.
    values = {
        "A": rng.gamma(1, 1, (12, 7)).astype(np.float32),
        "B": rng.normal(5, 9, (12, 4)).astype(np.float32),
    }
    values["A"][3, 0] = 1000  # Cut at five deviations.
    new = {"A": rng.gamma(1, 1.3, (6, 7)), "B": rng.normal(5, 12, (6, 4))}
    reference = out_of_distribution.fit(folds, values, {})
    images = [{name: value[i] for name, value in values.items()} for i in range(12)]
    distances = [
        distance_by_loops(
            [image for j, image in enumerate(images) if folds.folds[j] != folds.folds[i]], images[i]
        )
        for i in range(11)
    ]
    np.testing.assert_allclose(reference.distances[:11], distances, rtol=1e-6)
    assert np.isnan(reference.distances[11])
    unit = [group or f"own{i}" for i, group in enumerate(groups)][:11]
    expected = []
    for i in range(6):
        mass = 1
        for j in range(11):
            known = [image for k, image in enumerate(images) if folds.folds[k] != folds.folds[j]]
            mass += (
                distances[j]
                >= distance_by_loops(known, {name: each[i] for name, each in new.items()})
            ) / unit.count(unit[j])
        expected.append(mass / (len(set(unit)) + 1))
    np.testing.assert_allclose(
        out_of_distribution.descriptors_p_values(reference, new), expected, rtol=1e-9
    )


def test_stain_by_loops():
    rng = np.random.default_rng(4)
    count = 9
    rows = {
        (f"i{i}", scale): stain_row(f"i{i}", scale, rng.uniform(0.2, 2, 4))
        for i in range(count)
        for scale in ("0.5", "1.0")
    }
    rows["i4", "1.0"] = dataclasses.replace(rows["i4", "1.0"], status=STAIN_TOO_LITTLE_TISSUE)
    folds = folds_of(count, 3)
    reference = out_of_distribution.fit(folds, {"A": np.ones((count, 2), np.float32)}, rows)
    values = {
        i: [
            np.log(getattr(rows[f"i{i}", scale], measure))
            for scale in ("0.5", "1.0")
            for measure in distance.STAIN_MEASURES
        ]
        for i in range(count)
    }
    known = [i for i in range(count) if i != 4]

    def deviation(values_of_new, fold):
        worst = 0
        for q, value in enumerate(values_of_new):
            column = [values[i][q] for i in known if folds.folds[i] != fold]
            spread = 1.4826 * np.median(np.abs(column - np.median(column))) + 0.01
            worst = max(worst, abs(value - np.median(column)) / spread)
        return worst

    distances = {i: deviation(values[i], folds.folds[i]) for i in known}
    np.testing.assert_allclose(reference.stain_distances[known], list(distances.values()))
    assert np.isnan(reference.stain_distances[4])
    assert reference.stain_masses.sum() == 8
    new = np.log(rng.uniform(0.15, 2.5, (5, 8)))
    expected = [
        (1 + sum(distances[i] >= deviation(each, folds.folds[i]) for i in known)) / 9
        for each in new
    ]
    np.testing.assert_allclose(out_of_distribution.stain_p_values(reference, new), expected)


def test_torn_groups_do_not_measure_distances_to_themselves():
    rng = np.random.default_rng(5)
    pairs = rng.normal(size=(6, 20)).repeat(2, axis=0) + rng.normal(
        0, 0.01, (12, 20)
    )  # Twins in two folds.
    folds = Folds(
        tuple(f"i{i}" for i in range(12)),
        np.zeros(12, int),
        np.arange(12) % 2,
        ("a", "b"),
        tuple(f"g{i // 2}" for i in range(12)),
    )
    values = {"A": pairs.astype(np.float32)}
    apart = out_of_distribution.fit(folds, values, {}).distances
    twins = out_of_distribution.fit(dataclasses.replace(folds, groups=None), values, {}).distances
    assert (apart > 1.1 * twins).all()
    alone = dataclasses.replace(folds, groups=("g",) * 12)
    assert not out_of_distribution.fit(
        alone, values, {}
    ).masses.any()  # No image of another group: no distances at all.


@pytest.mark.parametrize("grouped", [False, True])
def test_as_many_alike_are_far_as_is_stated(grouped):
    draws, units = 300, 19
    rng = np.random.default_rng(6)
    far_descriptors = far_stain = 0
    for _ in range(draws):
        of = np.arange(units + 1).repeat(rng.integers(1, 4, units + 1) if grouped else 1)
        effects = rng.normal(size=(units + 1, 10)) * (2 if grouped else 0)
        values = (effects[of] + rng.normal(size=(len(of), 10))).astype(np.float32)
        count = int((of < units).sum())
        folds = folds_of(count, 5, tuple(f"{each:02d}" for each in of[:count]))
        logs = values[:, :4].astype(float) / 4
        rows = {(f"i{i}", "0.5"): stain_row(f"i{i}", "0.5", np.exp(logs[i])) for i in range(count)}
        reference = out_of_distribution.fit(folds, {"A": values[:count]}, rows)
        p = out_of_distribution.descriptors_p_values(reference, {"A": values[-1:]})
        far_descriptors += out_of_distribution.is_far(p, reference.masses)[0]
        far_stain += out_of_distribution.is_far(
            out_of_distribution.stain_p_values(reference, logs[-1:]), reference.stain_masses
        )[0]
    low, high = stats.binom.ppf([1e-3, 1 - 1e-3], draws, 1 / (units + 1))
    for count_far in (far_descriptors, far_stain):
        assert count_far <= high
        assert (
            count_far >= low or grouped
        )  # Of a group, its furthest image alone is beyond all others.


def test_a_level_of_one_in_a_hundred_where_there_are_enough_images():
    masses = np.ones(199)
    np.testing.assert_array_equal(
        out_of_distribution.is_far(np.array([1 / 200, 2 / 200, 3 / 200, np.nan]), masses),
        [True, True, False, False],
    )
    np.testing.assert_array_equal(
        out_of_distribution.is_far(np.array([1 / 10, 2 / 10]), np.ones(9)), [True, False]
    )


def test_what_is_typical_is_stored_without_pickle(tmp_path, described, reference):
    files.write_arrays(tmp_path / "t.npz", reference.to_arrays())
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        again = out_of_distribution.ReferenceDistribution.from_arrays(dict(arrays))
    assert (tuple(again.means), again.scales) == ((VGG,), ("1.0",))
    new = means(described, "noise", "alike0", "alike1")
    np.testing.assert_array_equal(
        out_of_distribution.descriptors_p_values(again, new),
        out_of_distribution.descriptors_p_values(reference, new),
    )
    features = distance.stain_features(
        store.read_stain_qc(described), ["alike0", "grey"], again.scales
    )
    np.testing.assert_array_equal(
        out_of_distribution.stain_p_values(again, features),
        out_of_distribution.stain_p_values(reference, features),
    )


def test_a_damaged_record_is_refused(reference):
    arrays = reference.to_arrays()
    for name in arrays:
        with pytest.raises(InputError, match="lacks|damaged"):
            out_of_distribution.ReferenceDistribution.from_arrays(
                {key: value for key, value in arrays.items() if key != name}
            )
    broken = arrays["means.0"].copy()
    broken[0, 0] = np.nan
    for name, value in (
        ("means.0", broken),
        ("own", arrays["own"][1:]),
        ("folds", arrays["own"]),
        ("stain", broken),
    ):
        with pytest.raises(InputError, match="damaged"):
            out_of_distribution.ReferenceDistribution.from_arrays(arrays | {name: value})


def test_descriptors_and_features_of_another_form_are_refused(reference):
    with pytest.raises(InputError, match="channels by configuration"):
        out_of_distribution.descriptors_p_values(reference, {VGG: np.ones((2, 5))})
    with pytest.raises(InputError, match="channels by configuration"):
        out_of_distribution.descriptors_p_values(reference, {"ResNet-0.5-400": np.ones((2, 1408))})
    with pytest.raises(InputError, match="4 measures at each of the scales 1.0"):
        out_of_distribution.stain_p_values(reference, np.ones((2, 8)))
