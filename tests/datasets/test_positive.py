"""Which class is positive: by BACH's names, by words in seven languages, or asked for."""

import pytest

from histojax.config import BACH_CLASSES
from histojax.datasets import positive
from histojax.errors import InputError

DISEASE = (
    *("malignant", "Malignancy", "cancer", "cancerous", "tumor", "tumour", "carcinoma", "diseased"),
    *("adenocarcinoma", "Invasive", "invasive ductal carcinoma", "InSitu", "in_situ", "DCIS"),
    *("metastasis", "lesion", "neoplastic", "positive", "HER2_positive", "pos", "abnormal"),
    *("bösartig", "Krebs", "Karzinom", "Mammakarzinom", "MALIGNE", "Tumeur maligne", "cáncer"),
    *("câncer", "tumore", "maligno", "kanker", "malignant_tumour", "TumorTissue", "non-benign"),
    *("not normal", "unhealthy", "carcinoma in situ"),
)
NO_DISEASE = (
    *("normal", "benign", "healthy", "negative", "neg", "control", "stroma", "gutartig", "gesund"),
    *("bénin", "benigno", "sain", "sano", "goedaardig", "NORM", "normal tissue", "benign tumour"),
    *("non-tumor", "nonTumor", "nontumour", "no_cancer", "notumor", "noncancerous"),
    *("not_malignant", "nonmalignant", "non-neoplastic", "no evidence of disease", "without tumor"),
    *("tumor-free", "tumorfrei", "cancer_free", "cancer_negative", "tumor neg", "HER2_negative"),
    *("kein Tumor", "nicht maligne", "pas de tumeur", "sin cáncer", "sem tumor", "senza tumore"),
)
UNCLEAR = (
    *("0", "1", "a", "grade 2", "SSA", "other", "no", "tumor_no", "adenoma", "responder"),
    *("normal next to tumour", "tumor_adjacent", "peritumoral", "precancerous", "benign_cancer"),
    *("non-invasive", "non-small cell carcinoma", "carcinoma of no special type", "tumor stroma"),
    *("outside tumor", "extratumoral", "away from tumor", "tumor_far", "post-cancer"),
    *("unmalignant", "tumor infiltrating lymphocytes", "distant from tumor"),
)


@pytest.mark.parametrize(
    ("names", "reading"), [(DISEASE, True), (NO_DISEASE, False), (UNCLEAR, None)]
)
def test_names_read_as_disease_as_none_or_as_neither(names, reading):
    assert {name: positive.reads_as_disease(name) for name in names} == dict.fromkeys(
        names, reading
    )


@pytest.mark.parametrize(
    ("classes", "named", "expected"),
    [
        (BACH_CLASSES, (), (2, 3)),
        (BACH_CLASSES, ("Benign",), (1,)),
        (BACH_CLASSES, ("Invasive", "InSitu", "Invasive"), (2, 3)),
        (BACH_CLASSES[::-1], (), (0, 1)),
        (("InSitu", "Invasive", "Other"), (), ()),
        (("Benign", "InSitu"), (), (1,)),
        (("benign", "malignant"), (), (1,)),
        (("cancer", "normal"), (), (0,)),  # The second in the alphabet is not disease.
        (("Krebs", "gesund"), (), (0,)),
        (("tumor", "tumor-free"), (), (0,)),
        (("adenocarcinoma", "benign", "squamous_cell_carcinoma"), (), (0, 2)),
        (("benign", "malignant"), ("benign",), (0,)),
        (("benign", "malignant"), ("none",), ()),
        (("malignant", "none"), ("none",), (1,)),
        (("a", "b", "c"), (), ()),
        (("benign", "malignant", "other"), (), ()),
    ],
)
def test_what_counts_as_positive(classes, named, expected):
    chosen = positive.choose(classes, named)
    assert chosen.indices == expected
    assert chosen.names == tuple(classes[i] for i in expected)


def test_the_reason_names_the_classes_and_the_words_against_them():
    reason = positive.choose(("cancer", "normal")).reason
    assert reason == "positive class: cancer (reads as disease, against normal)"
    reason = positive.choose(BACH_CLASSES).reason
    assert reason == "positive classes: InSitu, Invasive (the carcinomas of BACH)"
    assert "the names benign, malignant, other do not all tell" in (
        positive.choose(("benign", "malignant", "other")).reason
    )


@pytest.mark.parametrize(
    "classes", [("0", "1"), ("HP", "SSA"), ("cancer", "tumor"), ("benign", "normal"), ("b", "a")]
)
def test_two_classes_that_do_not_tell_are_a_question(classes):
    with pytest.raises(InputError) as error:
        positive.choose(classes)
    for name in (*classes, "none"):
        assert f"--positive_classes={name}" in str(error.value)


def test_positive_classes_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="no class Tumour"):
        positive.choose(BACH_CLASSES, ("Tumour",))
    with pytest.raises(InputError, match="leave at least one out"):
        positive.choose(("a", "b"), ("a", "b"))
