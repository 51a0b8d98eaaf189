"""Site and batch: the tests find what is there, and what is not in one case of twenty."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from experiments.measuring import site_tests
from histojax.datasets.folds import Folds
from histojax.evaluation import site_heads, site_study
from histojax.extraction import store
from histojax.inspection import site_association
from histojax.inspection.site_association import associate
from histojax.learners import ridge
from histojax.report import sites as report_sites

P = {"class": site_tests.p_of_association, "descriptors": site_tests.p_of_telling}


def share_rejected(kind: str, sets: int, by_group: bool = True, **strength: float) -> float:
    p = [
        P[kind](
            site_tests.draw(np.random.default_rng(seed), patients=21, **strength), by_group, 100
        )
        for seed in range(sets)
    ]
    return np.mean(np.array(p) <= site_association.SIGNIFICANT)


@pytest.mark.parametrize("kind", P)
def test_without_confounding_one_set_of_twenty_is_rejected(kind):
    # 0.05, give or take 2.8 standard errors of 100 sets.
    assert share_rejected(kind, 100) <= 0.11


@pytest.mark.parametrize("kind", P)
def test_exchanging_images_in_place_of_patients_would_reject_far_more(kind):
    assert share_rejected(kind, 20, by_group=False) > 0.15


@pytest.mark.parametrize(
    ("kind", "strength"), [("class", {"with_class": 1.5}), ("descriptors", {"in_descriptors": 1})]
)
def test_what_is_there_is_found(kind, strength):
    assert share_rejected(kind, 10, **strength) > 0.8


def test_heads_that_tell_the_site_saw_no_image_of_the_patient():
    drawn = site_tests.draw(np.random.default_rng(2), patients=21)
    inner = ridge.kernel([drawn.descriptors])
    of_patients = site_heads.tell(inner, drawn.sites, drawn.split, draws=50, tries=50)
    alone = dataclasses.replace(drawn.split, groups=None)
    of_images = site_heads.tell(inner, drawn.sites, alone, draws=50, tries=50)
    assert of_patients.accuracy.value < 0.5 < 0.6 < of_images.accuracy.value
    assert of_patients.accuracy.interval.low < 1 / 3 < of_patients.accuracy.interval.high


def test_a_rare_site_is_told_as_well_as_a_common_one():
    drawn = site_tests.draw(np.random.default_rng(3), patients=21)
    sites = np.array(["rare"] * 4 + ["common"] * 30)
    noise = np.random.default_rng(1).normal(0, 0.5, (len(sites), 1))
    descriptors = noise + (sites == "rare")[:, None]
    names = tuple(f"i{i}" for i in range(len(sites)))
    split = dataclasses.replace(drawn.split, names=names, groups=None)
    told = site_heads.tell(ridge.kernel([descriptors]), sites, split, draws=50, tries=50)
    assert told.accuracy.value > 0.7


def test_the_same_table_of_patients_has_the_same_v_however_many_images_they_have():
    site, label = list("aabb") * 2, list("xyyy") * 2
    groups = [f"g{i}" for i in range(8)]
    once = associate("site", site, label, groups, "xy")
    # phi of the table 2 2 / 0 4.
    assert once.v == pytest.approx(np.sqrt(1 / 3))
    more = [i for i in range(8) for _ in range(1 + i % 3)]
    again = associate(
        "site", *([of[i] for i in more] for of in (site, label, groups)), classes="xy"
    )
    assert (again.v, again.p) == (pytest.approx(once.v), pytest.approx(once.p))
    assert again.units == 8
    assert again.counts.sum() == len(more)


def test_patients_of_several_classes_keep_them():
    # Each patient has one image of each class, so the site cannot go with the class.
    groups = [f"g{i // 2}" for i in range(12)]
    found = associate("site", list("aabbccaabbcc"), list("xy") * 6, groups, "xy")
    assert found.v == pytest.approx(0, abs=1e-9)
    assert found.p == 1
    assert "does not go with site beyond chance" in site_association.text(found)


def test_perfect_confounding_is_said_plainly_and_is_in_the_verdict():
    of = {"scanner": {f"i{i}": "AB"[i % 2] for i in range(24)}}
    split = Folds(
        tuple(f"i{i}" for i in range(24)), np.arange(24) % 2, np.arange(24) // 2 % 3, ("x", "y")
    )
    study = site_study.study(split, of, None, ())
    (column,) = study.columns
    assert column.association.is_perfect
    assert column.telling is column.left_out is None
    said = site_study.doubt(study.columns)
    assert said.startswith("Each value of scanner has images of one class alone: nothing in these")
    assert "pass --descriptors" in study.notices[0]


def test_a_column_of_one_value_is_none_and_one_of_patients_tells_nothing():
    split = site_tests.draw(np.random.default_rng(0)).split
    assert site_study.study(split, {"site": dict.fromkeys(split.names, "A")}, None, ()) is None
    by_group = dict(zip(split.names, split.groups, strict=True))
    (column,) = site_study.study(split, {"date": by_group}, None, ()).columns
    assert column.association.is_powerless()
    text = site_association.text(column.association)
    assert text == "Each value of date has one group, so it cannot be told from the patient."
    assert site_study.doubt([column]) == ""


def test_several_columns_are_told_by_bonferroni():
    drawn = site_tests.draw(np.random.default_rng(0))
    found = associate("site", drawn.sites.tolist(), list(map(str, drawn.label)), None, "01")
    at = dataclasses.replace(found, p=0.03)
    assert (at.is_confounded(), at.is_confounded(2)) == (True, False)
    told = site_heads.Telling(None, (), (), 0, 0.5, p=0.03, least_p=0.03, exchanges=1000)
    assert (told.is_told(), told.is_told(2)) == (True, False)
    assert (told.is_powerless(), told.is_powerless(2)) == (False, True)


def test_where_no_result_would_differ_from_chance_it_is_said():
    # Of 20 ways to choose 3 of 6 images two separate them alike, so that p is 0.1 at least.
    found = associate("site", list("aaabbb"), list("xxyyxy"), None, "xy")
    assert (found.exchanges, found.exact, found.least_p) == (20, True, pytest.approx(0.1))
    assert "Too few images differ in site and class for" in site_association.text(found)
    assert "p cannot be below 0.1 (" in site_association.text(found)
    split = Folds(tuple("abcdef"), np.arange(6) % 2, np.arange(6) % 2, ("x", "y"))
    far = ridge.kernel([np.repeat([[0.0], [9.0]], 3, axis=0)])
    told = site_heads.tell(far, np.array(list("aaabbb")), split, draws=2)
    assert (told.accuracy.value, told.p) == (1, pytest.approx(0.1))
    text = report_sites.telling(site_study.SiteColumn(found, told), 1)
    assert "too few images can exchange their values for a test to tell" in text


def test_images_of_every_group_are_drawn_where_there_are_many(monkeypatch):
    groups = ("a",) * 30 + ("b",) * 20 + ("c",) * 2
    split = Folds(tuple(map(str, range(52))), np.arange(52) % 2, np.arange(52) % 3, "xy", groups)
    monkeypatch.setattr(site_study, "_MOST_IMAGES", 20)
    chosen = site_study._subset(split)
    assert (np.diff(chosen) > 0).all()
    assert [groups[i] for i in chosen] == ["a"] * 9 + ["b"] * 9 + ["c"] * 2
    assert (chosen[:9] != np.arange(9)).any()


def test_images_of_one_fold_have_no_split_to_compare_with(tmp_path):
    drawn = site_tests.draw(np.random.default_rng(0), patients=9)
    split = dataclasses.replace(drawn.split, folds=np.zeros(len(drawn.label), int))
    of = {"site": dict(zip(split.names, drawn.sites.tolist(), strict=True))}
    for name, row in zip(split.names, drawn.descriptors, strict=True):
        store.write(tmp_path, "VGG-1.0-32", name, row[None])
    study = site_study.study(split, of, tmp_path, ["VGG-1.0-32"], 2)
    assert study.columns[0].left_out is None
    assert "all images for which it is known are in one fold" in study.notices[0]


@pytest.fixture(scope="module")
def left_out():
    """Images of three sites, with one of class y alone, and what is computed of them."""
    drawn = site_tests.draw(np.random.default_rng(3), in_descriptors=1, patients=24)
    label = np.where(drawn.site == 2, 1, drawn.label)
    split = dataclasses.replace(drawn.split, labels=label)
    inner = ridge.kernel([drawn.descriptors])
    return drawn, split, site_heads.leave_out(inner, drawn.sites, split, draws=50)


def test_a_left_out_site_is_predicted_by_heads_that_saw_none_of_it(left_out):
    drawn, split, found = left_out
    rows = drawn.descriptors.astype(float)
    rows = (rows - rows.mean(0)) / rows.std(0)
    right = np.empty(len(rows), bool)
    for site in range(3):
        others = drawn.site != site
        head = Ridge((rows**2).sum() / len(rows)).fit(rows[others], np.eye(2)[split.labels[others]])
        right[~others] = head.predict(rows[~others]).argmax(axis=1) == split.labels[~others]
    assert [row.left_out.value for row in found.rows] == [
        pytest.approx(right[drawn.site == site].mean()) for site in range(3)
    ]
    assert found.left_out.value == pytest.approx(right.mean())
    assert found.change.value == pytest.approx(found.left_out.value - found.in_split.value)
    assert found.change.interval.low <= found.change.value <= found.change.interval.high
    assert found.rows[2].note == "malignant alone, so not comparable with other sites"


def test_a_patient_with_images_of_several_sites_is_left_out_with_each(left_out):
    drawn, split, _ = left_out
    scanner = np.where((drawn.group < 3) & (np.arange(len(drawn.group)) % 2 == 0), "B", "A")
    scanner[drawn.group > 12] = "B"
    found = site_heads.leave_out(ridge.kernel([drawn.descriptors]), scanner, split, draws=50)
    rows = drawn.descriptors.astype(float)
    rows = (rows - rows.mean(0)) / rows.std(0)
    right = np.empty(len(rows), bool)
    for i in range(len(rows)):
        others = (scanner != scanner[i]) & (drawn.group != drawn.group[i])
        head = Ridge((rows**2).sum() / len(rows)).fit(rows[others], np.eye(2)[split.labels[others]])
        right[i] = head.predict(rows[i : i + 1]).argmax() == split.labels[i]
    assert [row.left_out.value for row in found.rows] == [
        pytest.approx(right[scanner == each].mean()) for each in "AB"
    ]


def test_a_site_is_not_computed_where_a_class_has_images_nowhere_else(left_out):
    drawn, split, _ = left_out
    labels = np.where(drawn.site == 0, drawn.label, 1)
    alone = dataclasses.replace(split, labels=labels)
    found = site_heads.leave_out(ridge.kernel([drawn.descriptors]), drawn.sites, alone, draws=50)
    assert found.rows[0].left_out is None
    assert found.rows[0].note == "cannot be computed: no other site has images of benign"
    assert found.rows[1].left_out is not None


def test_missing_descriptors_are_said(tmp_path):
    drawn = site_tests.draw(np.random.default_rng(0), patients=9)
    split = drawn.split
    of = {"site": dict(zip(split.names, drawn.sites.tolist(), strict=True))}
    for name, row in list(zip(split.names, drawn.descriptors, strict=True))[1:]:
        store.write(tmp_path, "VGG-1.0-32", name, row[None])
    study = site_study.study(split, of, tmp_path, ["VGG-1.0-32"], 50)
    assert "lacks descriptors of VGG-1.0-32 for 1 of" in study.notices[0]
    store.write(tmp_path, "VGG-1.0-32", "i0", drawn.descriptors[:1])
    study = site_study.study(split, of, tmp_path, ["VGG-1.0-32"], 50)
    assert study.notices == ()
    assert study.columns[0].telling.images == len(split.names)
