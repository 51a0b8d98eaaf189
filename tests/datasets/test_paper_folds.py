"""The paper's split is read from old and new pickles, of which nothing is ever run.

What does not fit the data is named.
"""

import builtins
import collections
import datetime
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histojax.config import BACH_CLASSES
from histojax.datasets import Dataset, folds, paper_folds
from histojax.errors import InputError
from histojax.images.names import name_images

CORE = "numpy.core.multiarray"
NAMES = tuple(f"{prefix}{i:03d}" for prefix in ("n", "b", "is", "iv") for i in range(1, 6))
LABELS = tuple(i // 5 for i in range(20))
FOLDS = np.arange(20) % 5
BACH = Dataset({name: Path(f"{name}.tif") for name in NAMES}, LABELS, BACH_CLASSES)

OBJECTS = (lambda names: np.array(names, object), lambda labels: np.array(labels))
FORMS = {
    "objects and int64": OBJECTS,
    "lists": (list, list),
    "text arrays and class names": (
        np.array,
        lambda labels: np.array([BACH_CLASSES[k] for k in labels]),
    ),
    "bytes and int8": (
        lambda names: [name.encode() for name in names],
        lambda labels: np.array(labels, np.int8),
    ),
    "scalars": (lambda names: list(np.array(names)), lambda labels: list(np.array(labels))),
    "objects of scalars": (
        OBJECTS[0],
        lambda labels: np.array(list(np.array(labels, np.int32)), object),
    ),
    "big-endian and other spelling": (tuple, lambda labels: np.array(labels, ">i4")),
    "names as written elsewhere": (
        list,
        lambda labels: [BACH_CLASSES[k].replace("S", " s") for k in labels],
    ),
    "floats in columns": (
        lambda names: np.array(names)[::-1][::-1],
        lambda labels: np.array(labels, float),
    ),
}


def content(form: str = "objects and int64") -> list[dict]:
    names_as, labels_as = FORMS[form]
    parts = []
    for fold in range(5):
        chosen = {"train": np.flatnonzero(fold != FOLDS), "test": np.flatnonzero(fold == FOLDS)}
        parts.append(
            {
                part: {
                    "x": names_as([f"{NAMES[i]}.npy" for i in of]),
                    "y": labels_as([LABELS[i] for i in of]),
                }
                for part, of in chosen.items()
            }
        )
    return parts


def write(path: Path, made: bytes) -> Path:
    path.write_bytes(made)
    return path


def old(made: bytes) -> bytes:
    """As a NumPy of 2018 named its core."""
    made = made.replace(b"cnumpy._core.", b"cnumpy.core.")
    name, former = b"numpy._core.multiarray", b"numpy.core.multiarray"
    for sized in (
        lambda text: b"\x8c" + bytes([len(text)]) + text,
        lambda text: b"X" + struct.pack("<I", len(text)) + text,
    ):
        made = made.replace(sized(name), sized(former))
    return made


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("age", ["old", "new"])
def test_every_form_and_protocol_gives_the_split(tmp_path, form, protocol, age):
    made = pickle.dumps(content(form), protocol)
    if age == "old":
        # Frames give lengths; without them a shorter name may stand anywhere.
        pickler = io.BytesIO()
        pickle._Pickler(pickler, min(protocol, 3)).dump(content(form))
        made = old(pickler.getvalue())
        assert b"numpy._core" not in made
    split = paper_folds.load(write(tmp_path / "folds-10.pkl", made), BACH)
    np.testing.assert_array_equal(split.folds, FOLDS)
    assert (split.names, split.labels.tolist(), split.classes) == (
        NAMES,
        list(LABELS),
        BACH_CLASSES,
    )
    assert split.origin == "paper: the authors' own split, 5 folds, from folds-10.pkl"


def python2(names: list[str], labels: list[int]) -> bytes:
    """{"x": object array, "y": int64 array} as Python 2 wrote it, whose str are Latin-1 bytes."""

    def text(value: bytes) -> bytes:
        return (
            b"U" + bytes([len(value)]) + value
            if len(value) < 256
            else b"T" + struct.pack("<I", len(value)) + value
        )

    def array(code: bytes, order: bytes, length: int, data: bytes) -> bytes:
        dtype = (
            b"cnumpy\ndtype\n"
            + text(code)
            + b"K\x00K\x01\x87R(K\x03"
            + text(order)
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        )
        start = (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            + text(b"b")
            + b"\x87R"
        )
        return start + b"(K\x01K" + bytes([length]) + b"\x85" + dtype + b"\x89" + data + b"tb"

    objects = b"](" + b"".join(text(f"{name}.npy".encode()) for name in names) + b"e"
    numbers = text(np.array(labels, "<i8").tobytes())
    x, y = array(b"O8", b"|", len(names), objects), array(b"i8", b"<", len(labels), numbers)
    return b"}(" + text(b"x") + x + text(b"y") + y + b"u"


def test_a_file_of_python_2_gives_the_split(tmp_path):
    body = b"]("
    for fold in range(5):
        body += b"}("
        for part, of in (
            (b"train", np.flatnonzero(fold != FOLDS)),
            (b"test", np.flatnonzero(fold == FOLDS)),
        ):
            body += (
                b"U"
                + bytes([len(part)])
                + part
                + python2([NAMES[i] for i in of], [LABELS[i] for i in of])
            )
        body += b"u"
    split = paper_folds.load(write(tmp_path / "f.pkl", b"\x80\x02" + body + b"e."), BACH)
    np.testing.assert_array_equal(split.folds, FOLDS)


def test_the_order_and_the_groups_are_those_of_the_data(tmp_path):
    turned = Dataset(name_images(BACH.paths[::-1]), LABELS[::-1], BACH_CLASSES, ("p", *[""] * 19))
    split = paper_folds.load(write(tmp_path / "f.pkl", pickle.dumps(content())), turned)
    np.testing.assert_array_equal(split.folds, FOLDS[::-1])
    assert split.groups == turned.groups


class Evil:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def in_array(evil: Evil) -> list[dict]:
    made = content()
    made[2]["test"]["x"][1] = evil
    return made


def as_global(module: str, name: str, arguments: bytes = b"(tR") -> bytes:
    return f"c{module}\n{name}\n".encode() + arguments + b"."


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["alone", "in an array"])
def test_what_a_pickle_would_run_is_named_and_not_run(tmp_path, protocol, place):
    mark = tmp_path / "ran"
    attempts = [
        (os.system, f"touch {mark}"),
        (builtins.eval, f"open({str(mark)!r}, 'w')"),
        (builtins.exec, f"open({str(mark)!r}, 'w')"),
        (open, str(mark), "w"),
        (getattr, os, "system"),
        (np.load, str(mark)),
        (np.fromfile, str(mark)),
        (np.save, str(mark), np.zeros(1)),
        (np.array, [1]),
        (collections.OrderedDict,),
        (datetime.date, 2018, 2, 1),
    ]
    for number, (function, *arguments) in enumerate(attempts):
        evil = Evil(
            function,
            *[a for a in arguments if a is not os] or ["x"] if function is not getattr else "ab",
        )
        made = pickle.dumps(evil if place == "alone" else in_array(evil), protocol)
        with pytest.raises(
            InputError, match=r"it wants to import \S+\.\w+, which .* it was not run"
        ):
            paper_folds.load(write(tmp_path / f"{number}.pkl", made), BACH)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (as_global(CORE, "_reconstruct.__globals__"), f"{CORE}._reconstruct.__globals__"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.", "numpy.ndarray.dump"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11dtype.__class__.x\x93.", "numpy.dtype.__class__.x"),
        (as_global("numpy.core.multiarray", "fromstring"), "numpy.core.multiarray.fromstring"),
        (as_global("numpy", "memmap"), "numpy.memmap"),
        (as_global("numpy.ndarray", "x"), "numpy.ndarray.x"),
        (as_global("copyreg", "_reconstructor"), "copyreg._reconstructor"),
        (as_global("copy_reg", "_reconstructor"), "copy_reg._reconstructor"),
        (as_global("__builtin__", "eval"), "__builtin__.eval"),
        (
            as_global("histojax.datasets.paper_folds", "_Record"),
            "histojax.datasets.paper_folds._Record",
        ),
        (b"(iposix\nsystem\n.", "posix.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
    ],
)
def test_no_other_name_can_be_imported(tmp_path, made, named):
    with pytest.raises(InputError, match="wants to import " + named.replace(".", r"\.")):
        paper_folds.load(write(tmp_path / "f.pkl", made), BACH)


@pytest.mark.parametrize(
    "made",
    [
        b"\x80\x02]r\xff\xff\xff\x7f.",  # Memory for two thousand million values.
        b"]p2147483647\n.",
        b"\x80\x02P1\n.",  # A persistent id.
        b"\x80\x02\x82\x01.",  # An extension code.
        b"cnumpy\nndarray\n(Nb.",  # State set on a name itself.
        b"c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01s\x86b.",
        b"c_codecs\nencode\nN}X\x08\x00\x00\x00__name__X\x01\x00\x00\x00as\x86b.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00uu_ectR.",
        b"cnumpy\nndarray\n)\x81.",
        b"cnumpy\nndarray\n(K\x01tRK\x01)R.",  # A call of what is no name.
    ],
)
def test_tricks_with_the_allowed_names_give_nothing(tmp_path, made):
    with pytest.raises(
        InputError, match="is not used: it (is damaged|holds no list)|encoding other"
    ):
        paper_folds.load(write(tmp_path / "f.pkl", made), BACH)
    assert paper_folds._Encoded.__name__ == "_Encoded"
    assert not hasattr(paper_folds._Encoded, "a")


def dtype_of(code: bytes) -> bytes:
    text = b"X" + struct.pack("<I", len(code)) + code
    return b"cnumpy\ndtype\n" + text + b"\x85R(K\x03X\x01\x00\x00\x00|tb"


def lying(code: bytes, shape: bytes, data: bytes) -> bytes:
    """A list of two folds whose x are arrays of that type, shape and content."""
    start = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + shape
    return with_x(start + dtype_of(code) + b"\x89" + data + b"tb")


def with_x(array: bytes) -> bytes:
    """A list of two folds whose x is what these bytes make."""
    part = b"}X\x01\x00\x00\x00x" + array + b"sX\x01\x00\x00\x00y]s"
    fold = b"}X\x05\x00\x00\x00train" + part + b"sX\x04\x00\x00\x00test" + part + b"s"
    return b"\x80\x03](" + fold + fold + b"e."


@pytest.mark.parametrize(
    ("code", "shape", "data", "message"),
    [
        (b"O8", b"K\x01\x85", b"C\x08AAAAAAAA", "array of type |O8"),  # Bytes as pointers.
        (b"V8", b"K\x01\x85", b"C\x08AAAAAAAA", "array of type |V8"),
        (b"f3", b"K\x01\x85", b"C\x03AAA", "cannot be read"),
        (b"i8", b"K\x02\x85", b"C\x08AAAAAAAA", "another size"),
        (b"i8", b"K\x01\x85", b"C\x10AAAAAAAAAAAAAAAA", "another size"),
        (b"i8", b"J\xff\xff\xff\x7f\x85", b"C\x08AAAAAAAA", "another size"),
        (b"i8", b"K\x01\x85", b"C\x07AAAAAAA", "cannot be read"),
        (b"S0", b"K\x00\x85", b"C\x01A", "cannot be read|another size"),
        (b"i8", b"J\xff\xff\xff\xff\x85", b"C\x08AAAAAAAA", "no bytes"),
        (b"i8", b"K\x01\x85", b"K\x01", "no bytes"),
        (b"i8, i8", b"K\x01\x85", b"C\x08AAAAAAAA", "array of type"),
        (b"i8", b"K\x01\x85", b"C\x08AAAAAAAA", "int where text was expected"),
    ],
)
def test_an_array_that_lies_about_itself_is_refused(tmp_path, code, shape, data, message):
    with pytest.raises(InputError, match=message.replace("|O8", r"\|O8").replace("|V8", r"\|V8")):
        paper_folds.load(write(tmp_path / "f.pkl", lying(code, shape, data)), BACH)


def test_a_number_whose_bytes_are_a_list_is_refused(tmp_path):
    number = b"](cnumpy.core.multiarray\nscalar\n(" + dtype_of(b"i8") + b"]tRe"
    with pytest.raises(InputError, match="no bytes"):
        paper_folds.load(write(tmp_path / "f.pkl", with_x(number)), BACH)


def test_a_file_that_is_cut_short_or_absent_is_refused(tmp_path):
    whole = pickle.dumps(content(), 2)
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        with pytest.raises(InputError, match="f.pkl is not used: "):
            paper_folds.load(write(tmp_path / "f.pkl", whole[:length]), BACH)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        paper_folds.load(tmp_path / "absent.pkl", BACH)
    with pytest.raises(InputError, match="cannot be read"):
        paper_folds.load(tmp_path, BACH)


WHOLE = pickle.dumps(content(), 2)


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6)
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_read_right_or_refused(tmp_path_factory, flips):
    made = bytearray(WHOLE)
    for place, value in flips:
        made[place] = value
    path = write(tmp_path_factory.getbasetemp() / "damaged.pkl", bytes(made))
    try:
        split = paper_folds.load(path, BACH)
    except InputError:
        return
    np.testing.assert_array_equal(split.folds, FOLDS)


def held_out_twice(made):
    made[1]["test"] = {"x": [*made[1]["test"]["x"], "n001.npy"], "y": [*made[1]["test"]["y"], 0]}


def held_out_nowhere(made):
    for part in made[0].values():
        keep = [i for i, name in enumerate(part["x"]) if name != "n001.npy"]
        part["x"], part["y"] = part["x"][keep], part["y"][keep]


def renamed(made):
    made[0]["test"]["x"][0] = "n999.npy"


def other_label(made):
    made[3]["train"]["y"][0] = 2


def out_of_range(made):
    made[3]["train"]["y"][0] = 7


def trains_on_less(made):
    part = made[2]["train"]
    part["x"], part["y"] = part["x"][1:], part["y"][1:]


def trains_on_what_it_holds_out(made):
    made[2]["train"]["x"] = np.append(made[2]["train"]["x"], made[2]["test"]["x"][0])
    made[2]["train"]["y"] = np.append(made[2]["train"]["y"], made[2]["test"]["y"][0])


def fewer_labels(made):
    made[0]["test"]["y"] = made[0]["test"]["y"][:-1]


def without_y(made):
    del made[0]["test"]["y"]


def without_test(made):
    del made[0]["test"]


def empty_fold(made):
    made.append(
        {"train": {"x": [f"{n}.npy" for n in NAMES], "y": list(LABELS)}, "test": {"x": [], "y": []}}
    )


def names_are_numbers(made):
    made[0]["test"]["x"] = np.arange(4)


def names_are_one_text(made):
    made[0]["test"]["x"] = "n001.npy"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (held_out_twice, "it holds out n001 in fold 1 and in fold 2"),
        (held_out_nowhere, r"it never holds out 1 images of the data \(n001\)"),
        (renamed, "it holds out n999, which the data lack"),
        (other_label, r"1 labels differ from the data \(n001: found InSitu, expected Normal\)"),
        (out_of_range, "found 7, expected Normal"),
        (trains_on_less, r"fold 3 does not train on all that it does not hold out \(n001\)"),
        (trains_on_what_it_holds_out, "fold 3 does not train on all"),
        (fewer_labels, "4 different images in 4, 3 labels"),
        (without_y, "no x and y"),
        (without_test, "no train and test"),
        (empty_fold, "fold 6 holds out nothing"),
        (names_are_numbers, "int where text was expected"),
        (names_are_one_text, "str where a list or an array was expected"),
    ],
)
def test_a_split_of_something_else_is_refused(tmp_path, change, message):
    made = content()
    change(made)
    with pytest.raises(InputError, match=message):
        paper_folds.load(write(tmp_path / "f.pkl", pickle.dumps(made)), BACH)


@pytest.mark.parametrize("made", [None, {}, [], [1, 2], "text", [{"train": {}, "test": {}}] * 2])
def test_a_pickle_of_something_else_is_refused(tmp_path, made):
    with pytest.raises(InputError, match="no list of folds|no train and test|no x and y"):
        paper_folds.load(write(tmp_path / "f.pkl", pickle.dumps(made)), BACH)


def test_the_split_is_kept_and_another_one_in_its_place_refused(tmp_path):
    paper = paper_folds.load(write(tmp_path / "f.pkl", pickle.dumps(content())), BACH)
    place = tmp_path / "models" / "folds.csv"
    made = folds.load_or_make(place, BACH, 5, 0, paper)
    assert folds.load(place, BACH_CLASSES).origin == made.origin == paper.origin
    np.testing.assert_array_equal(folds.load_or_make(place, BACH, 5, 0, paper).folds, FOLDS)
    folds.save(folds.make(BACH, 5, 0), place)
    with pytest.raises(InputError, match="is another split than paper: the authors' own split"):
        folds.load_or_make(place, BACH, 5, 0, paper)
    with pytest.raises(InputError, match="the authors' own split, .* has 5 folds, asked for 10"):
        folds.load_or_make(tmp_path / "other" / "folds.csv", BACH, 10, 0, paper)
    assert not (tmp_path / "other").exists()
