"""Labels of slides that are known by their descriptors: what names mean, and what is left out."""

import re
from pathlib import Path

import pytest

from histojax import datasets
from histojax.datasets import columns
from histojax.datasets.lookup import SlideNames
from histojax.errors import InputError

NAMES = ("TCGA-01-DX1.aa-bb", "B22 (3)", "site1/s1", "site2/s1", "site2/s2", "x.1", "x.2")
SLIDES = {name: Path("descriptors") / f"{name}.npy" for name in NAMES}


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("TCGA-01-DX1.aa-bb", ["TCGA-01-DX1.aa-bb"]),
        ("tcga-01-dx1.aa-bb.SVS", ["TCGA-01-DX1.aa-bb"]),
        ("TCGA-01-DX1", ["TCGA-01-DX1.aa-bb"]),
        ("TCGA-01-DX2", []),
        (r"C:\slides\B22 (3).ndpi", ["B22 (3)"]),
        ("batch7/B22 (3).h5", ["B22 (3)"]),
        ("site1/s1.svs", ["site1/s1"]),
        ("s1.svs", ["site1/s1", "site2/s1"]),
        ("s2", ["site2/s2"]),
        ("site1/s2", []),  # Site 1 has others.
        ("x.1.svs", ["x.1"]),
        ("x", ["x.1", "x.2"]),
        ("x.3", []),
        ("", []),
    ],
)
def test_names_are_found_without_ending_case_or_folders(cell, found):
    assert SlideNames(NAMES).find(cell) == found


def load(tmp_path, text: str, **options) -> datasets.Dataset:
    (tmp_path / "labels.csv").write_text(text)
    return datasets.load(tmp_path / "labels.csv", slides=SLIDES, **options)


def test_clam_s_table_names_slides_and_cases(tmp_path):
    text = "case_id,slide_id,label\nP1,B22 (3).svs,a\nP1,site1/s1,b\nP2,x.1,b\nP3,gone,a\n"
    data = load(tmp_path, text)
    assert data.names == ("B22 (3)", "site1/s1", "x.1")
    assert data.groups == ("P1", "P1", "P2")
    assert data.paths == tuple(SLIDES[name] for name in data.names)
    without, unlabelled = data.notices[-2:]
    assert without == ("left out, since they lack descriptors: 1 of 4 labelled slides, gone")
    assert unlabelled.startswith("left out, since labels.csv does not label them: 4 of 7 slides")
    for name in ("TCGA-01-DX1.aa-bb", "site2/s1", "site2/s2", "x.2"):
        assert name in unlabelled


def test_the_site_of_a_slide_is_told_by_a_column(tmp_path):
    text = "slide_id,label,scanner\nB22 (3),a,S\nsite1/s1,b,T\ngone,a,U\nx.1,b,S\n"
    data = load(tmp_path, text)
    assert data.names == ("B22 (3)", "site1/s1", "x.1")
    assert data.sites == {"scanner": ("S", "T", "S")}
    assert load(tmp_path, text, site_columns=["none"]).sites == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide_id,label\ns1,a\nx.1,b\n", "s1, which may be site1/s1 or site2/s1: write it"),
        ("slide_id,label\nx.1,a\nx.1.svs,b\n", "names the slide x.1 twice, as x.1 and x.1.svs"),
        ("slide_id,label\nu,a\nv,b\nw,a\nx.1,b\n", "but they share only 1 (labelled: u, v, w;"),
        ("slide_id,label\nu,a\nv,b\n", "but they share none (labelled: u, v; described: "),
        ("slide_id,label,case_id\nx.1,a,p 1\nx.2,b,P1\n", "'P1' and 'p 1'"),
        ("slide_id,label\nx.1,a\nx.2,a\n", "only one class"),
        ("where,label\nu,a\nv,b\n", "a column of images (slide_id, path)"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        ("patient slide label", "p x.1 a", (1, 0)),
        ("slide_id image label", "17 x.1 a", (1, None)),
        ("image slide_id label", "pictures/u.png x.1 a", (1, None)),
        ("filename slide_id label", "x.1.svs x.1 a", (1, None)),
        ("scan label", "x.1 a", (0, None)),
    ],
)
def test_the_column_of_slides_is_found_by_heading_or_by_what_it_names(header, body, expected):
    known = SlideNames(NAMES)
    found = columns.find(
        header.split(), [body.split()], None, "table", lambda cell: bool(known.find(cell))
    )
    assert (found.image, found.group) == expected


def test_names_that_are_found_by_their_start_alone_are_told(tmp_path):
    data = load(tmp_path, "slide_id,label\nTCGA-01-DX1,a\nX.1.svs,b\ns2,b\n")
    (told,) = [line for line in data.notices if "first dot" in line]
    assert told.endswith("of their names: TCGA-01-DX1 for TCGA-01-DX1.aa-bb")


def test_class_folders_label_slides_by_files_called_like_them(tmp_path):
    for file in ("a/x.1.png", "a/sub/x.2.h5", "b/B22 (3)", "b/.hidden"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    data = datasets.load(tmp_path, slides=SLIDES)
    assert dict(zip(data.names, data.labels, strict=True)) == {"x.1": 0, "x.2": 0, "B22 (3)": 1}
    assert not any("hidden" in line for line in data.notices)
    with pytest.raises(InputError, match="--group_column=case: folders do not say"):
        datasets.load(tmp_path, slides=SLIDES, group_column="case")
