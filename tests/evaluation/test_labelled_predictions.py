"""Every documented form of a table is read, every wrong one refused by name and line."""

import numpy as np
import pytest

from histojax.config import BACH_CLASSES
from histojax.errors import InputError
from histojax.evaluation import labelled_predictions


def table(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_numbered_probabilities_with_folds(tmp_path):
    text = (
        "image,label,fold,p0,p1,p2,p3\na,InSitu,1,.1,.2,.4,.3\nb,Normal,10,1,0,0,0\n"
        "c,1,2,.25,.25,.25,.25\n"
    )
    loaded = labelled_predictions.load(table(tmp_path, text))
    assert loaded.names == ("a", "b", "c")
    assert loaded.classes == BACH_CLASSES
    assert loaded.truth.tolist() == [2, 0, 1]
    assert loaded.predicted.tolist() == [2, 0, 0]
    assert loaded.folds.tolist() == [0, 2, 1]  # In the order of their numbers, from 0.
    np.testing.assert_allclose(loaded.scores[0], [0.1, 0.2, 0.4, 0.3])


def test_labels_alone_named_columns_groups_and_others(tmp_path):
    loaded = labelled_predictions.load(
        table(tmp_path, "label,predicted\nbenign,malignant\nmalignant,malignant\n")
    )
    assert loaded.classes == ("benign", "malignant")
    assert (loaded.scores, loaded.folds, loaded.groups) == (None, None, None)
    assert loaded.predicted.tolist() == [1, 1]
    assert loaded.names == ("row 1", "row 2")
    text = "\ufeffimage,group,p_b,p_a,label,note\nx,p1,0.4,0.6,a,-\ny,,0.7,0.3,b,-\n"
    loaded = labelled_predictions.load(table(tmp_path, text))
    assert loaded.classes == ("b", "a")
    assert loaded.truth.tolist() == [1, 0]
    assert loaded.groups == ("p1", "")
    assert loaded.resampling_groups == ("p1", "\0y")
    turned = labelled_predictions.load(table(tmp_path, text), ("a", "b"))
    np.testing.assert_allclose(turned.scores, [[0.6, 0.4], [0.3, 0.7]])


def test_what_evaluate_writes_can_be_read(tmp_path):
    text = (
        "image,label,fold,predicted,p_n,p_t,positive_score,weights\n"
        "a,n,1,n,0.900000,0.100000,0.1,random\nb,t,2,n,0.6,0.4,0.4,random\n"
    )
    loaded = labelled_predictions.load(table(tmp_path, text))
    assert loaded.classes == ("n", "t")
    assert loaded.folds.tolist() == [0, 1]


def test_printed_probabilities_are_renormalised(tmp_path):
    loaded = labelled_predictions.load(table(tmp_path, "label,p0,p1\n0,0.3333,0.6666\n1,0.2,0.8\n"))
    np.testing.assert_allclose(loaded.scores.sum(axis=1), 1, rtol=1e-15)
    assert loaded.classes == ("0", "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows below its header"),
        ("label,predicted\n", "no rows below its header"),
        ("image,predicted\na,b\n", "expected `label`"),
        ("image,label\na,b\n", "classes are b"),
        ("image,label\na,b\nc,d\n", "or `predicted`"),
        ("label,p0,p1\n0,0.5\n", "line 2: 2 cells under 3 columns"),
        ("label,p0,p1\n0,x,1\n", "line 2, column p0: 'x' is no finite number"),
        ("label,p0,p1\n0,nan,1\n", "no finite number"),
        (
            "label,p0,p1\n0,.5,.5\n1,0.5,0.6\n",
            r"line 3: p0 0.5, p1 0.6; expected probabilities that sum to 1",
        ),
        ("label,p0,p1\n0,-.5,1.5\n", "sum to 1"),
        ("label,p0,p2\n0,.5,.5\n", "without a gap"),
        ("label,p0,p1\ncat,.5,.5\ndog,.5,.5\n", "pass --classes to say which is which"),
        ("label,p_a,p_b\nc,.5,.5\n", "unknown class c; expected a, b"),
        ("label,label,p0\n0,0,1\n", "names a column twice"),
        ("image,label,predicted\na,x,y\na,y,x\n", "names images twice: a"),
        ("label,predicted,fold\nx,y,1\ny,y,\n", "line 3: no fold"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        labelled_predictions.load(table(tmp_path, text))


def test_classes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InputError, match="2 columns of probabilities for 3 classes"):
        labelled_predictions.load(table(tmp_path, "label,p0,p1\na,.5,.5\n"), ("a", "b", "c"))
    with pytest.raises(InputError, match="cannot be read"):
        labelled_predictions.load(tmp_path / "absent.csv")
