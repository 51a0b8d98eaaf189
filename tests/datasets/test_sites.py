"""What tells the site of images: columns, barcodes, folders; dates become periods, or are refused.

Tests sites.py and site_tables.py.
"""

import openpyxl
import pytest

from histojax import datasets
from histojax.datasets import groups, site_tables, sites
from histojax.errors import InputError
from tests.datasets.test_tables import root, table  # noqa: F401


@pytest.mark.parametrize(
    "heading",
    [
        "site",
        "Scanner",
        "Scanner_ID",
        "SCANNER MODEL",
        "centre",
        "Center-Id",
        "hospital",
        "Batch No.",
    ]
    + ["institution", "Tissue Source Site", "Klinik", "date", "Scan Date", "date_of_scan"],
)
def test_a_column_of_sites_is_taken_and_told(root, heading):  # noqa: F811
    loaded = datasets.load(table(root, f"image,label,{heading}", "p", "q", "q", "n/a"))
    assert loaded.sites == {heading: ("p", "q", "q", "")}
    assert loaded.notices == (
        f"column {heading} of t.csv is taken for the site or batch of images: 2 values, 1 image of "
        f"unknown {heading}",
    )
    assert loaded.groups is None


def test_names_that_differ_in_capitals_blanks_or_hyphens_alone_are_told():
    read = values_of(["St Olav", "1.0", "StOlav", "10"], "site")
    assert len({*read.values}) == 4
    assert read.notices[0].endswith("4 values; St Olav, StOlav are taken for different ones")
    read = values_of(["Aperio AT2", "aperio-at2", "2019-1-11", "2019-11-1"], "scanner")
    assert read.notices[0].endswith("; Aperio AT2, aperio-at2 are taken for different ones")


def test_a_column_is_named_or_refused(root):  # noqa: F811
    path = table(root, "image,label,patient,device,site", *("a,x,1", "b,x,1", "c,y,2", "d,y,2"))
    assert list(datasets.load(path).sites) == ["site"]
    assert datasets.load(path, site_columns=["Device"]).sites == {"device": tuple("xxyy")}
    assert list(datasets.load(path, site_columns=["site", "patient"]).sites) == ["site", "patient"]
    without = datasets.load(path, site_columns=["none"])
    assert without.sites == {}
    assert "columns device, site are not used, in t.csv" in without.notices
    with pytest.raises(InputError, match="no column called scanner: name some of patient, device"):
        datasets.load(path, site_columns=["scanner"])


def test_two_columns_of_one_heading_are_not_taken(root):  # noqa: F811
    loaded = datasets.load(table(root, "image,label,site,site", "p,x", "q,y", "q,x", "p,y"))
    assert loaded.sites == {}
    assert loaded.notices[0].startswith("columns site, site are not used, in t.csv")


def test_a_workbook_tells_them_too_and_one_value_is_none(root):  # noqa: F811
    book = openpyxl.Workbook()
    book.active.append(["image", "label", "scanner", "site"])
    for name in ("benign/b1.png", "benign/b2.png", "malignant/m1.png", "malignant/m2.png"):
        book.active.append([name, name.split("/")[0], 3 if "1" in name else 4, "A"])
    book.save(root / "t.xlsx")
    loaded = datasets.load(root / "t.xlsx")
    assert loaded.sites == {"scanner": ("3", "4", "3", "4"), "site": ("A",) * 4}
    assert "column site of t.xlsx has 1 value, so there are no sites to compare" in loaded.notices


def values_of(cells, title="date", wanted=False):
    return sites.read(title, cells, "column date of t.csv", wanted)


def test_few_dates_in_several_spellings_are_told():
    (notice,) = values_of(["2.3.2019", "03/02/2019", "2019-04", "12.10.2019"]).notices
    assert "; 03/02/2019, 2.3.2019, 2019-04 are taken for different ones" in notice
    (notice,) = values_of(["2.3.2019", "12.10.2019"]).notices
    assert "different" not in notice


def test_few_dates_stay_as_they_are_and_many_become_periods():
    few = [f"2020-01-{day:02d}" for day in range(1, 13)]
    assert values_of(few).values == tuple(few)
    by_month = values_of(
        [f"2020-{month:02d}-{day:02d}" for month in (1, 5) for day in range(1, 10)]
    )
    assert by_month.values == ("2020-01",) * 9 + ("2020-05",) * 9
    assert by_month.notices[0].endswith("site or batch of images, by months: 2 values")
    dotted = [f"01.{m % 12 + 1:02d}.{2000 + m // 12}" for m in range(30)]
    assert values_of(dotted).notices[0].endswith("by quarters: 10 values")
    assert values_of(dotted).values[4] == "2000 Q2"
    compact = [
        "",
        *(
            f"{year}{month}01T10:00"
            for year in (2000, 2004, 2008)
            for month in ("02", "05", 10, 11)
        ),
    ]
    times = [f"2020-01-0{i % 3 + 1}T10:{i}" for i in range(20)]
    assert values_of(times).values[:2] == ("2020-01-01", "2020-01-02")
    assert values_of(times).notices[0].endswith("by days: 3 values")
    months = [f"20{year}-{month:02d}" for year in (10, 11) for month in range(1, 13)]
    assert values_of(months).notices[0].endswith("by quarters: 8 values")
    more = [*compact, *(f"200{year}0101" for year in range(1, 10))]
    assert values_of(more).values[:2] == ("", "2000")
    assert values_of(more).notices[0].endswith("by years: 10 values, 1 image of unknown date")


@pytest.mark.parametrize(
    ("dates", "why"),
    [
        ([f"{i:02d}0103" for i in range(1, 14)], "such as 010103, of which year, month and day"),
        (
            [f"0{i % 9 + 1}/0{i // 9 + 1}/2020" for i in range(13)],
            "which may be read as day, month, year or month, day, year",
        ),
        ([f"{year}-01-01" for year in range(1990, 2010)], "neither days, months, quarters nor"),
        (
            [*(f"2020-01-{i:02d}" for i in range(1, 14)), "2020-02-30"],
            "such as 2020-02-30, of which year, month and day are not clear beside 2020-01-01",
        ),
    ],
)
def test_dates_that_are_not_clear_are_not_guessed(dates, why):
    read = values_of(dates)
    assert {*read.values} == {""}
    assert why in read.notices[0]
    assert read.notices[0].endswith("it is not used")
    with pytest.raises(InputError, match="write the batch that each image is of into a column"):
        values_of(dates, wanted=True)


def test_a_date_that_only_one_order_fits_is_read_in_it():
    dates = [f"{month}/{day}/2020" for month in (1, 7) for day in range(10, 20)]
    assert {*values_of(dates).values} == {"2020-01", "2020-07"}


def test_barcodes_of_tcga_have_a_site(tmp_path):
    names = [
        "a/TCGA-A2-A0T2-01Z-00-DX1",
        "a/TCGA-BH-A0T3",
        "b/tcga-bh-a0t4-01",
        "b/other-TCGA-XX-1",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").touch()
    loaded = datasets.load(tmp_path)
    of = dict(zip(loaded.names, loaded.sites[sites.TCGA], strict=True))
    assert list(of.values()) == ["A2", "BH", "", "BH"]
    assert "2 sites, 1 image without" in loaded.notices[-1]
    assert datasets.load(tmp_path, site_columns=["none"]).sites == {}


def folders_of(root, *names):  # noqa: F811
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_are_sites_where_their_names_say_so_or_the_caller_does(tmp_path):
    named = folders_of(
        tmp_path / "n", "a/center_0/p1/1.png", "a/center_1/p2/2.png", "b/center_0/p3/3.png"
    )
    loaded = datasets.load(named)
    assert loaded.sites == {"folder 1": ("center_0", "center_1", "center_0")}
    assert loaded.groups == ("p1", "p2", "p3")
    other = folders_of(tmp_path / "o", "a/north/1.png", "a/south/2.png", "b/north/3.png")
    assert datasets.load(other).sites == {}
    assert datasets.load(other, site_columns=["1"]).sites == {
        "folder 1": ("north", "south", "north")
    }
    with pytest.raises(InputError, match="--site_columns=2: .* has 1 levels"):
        datasets.load(other, site_columns=["2"])


def test_a_table_beside_class_folders_or_of_groups_tells_them(tmp_path):
    data = folders_of(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    (tmp_path / "t.csv").write_text("image,patient,scanner\n1.png,p,S\n2.png,q,T\n3.png,r,S\n")
    loaded = datasets.load(data)
    assert (loaded.groups, loaded.sites) == (("p", "q", "r"), {"scanner": ("S", "T", "S")})
    assert datasets.load(data, site_columns=["patient"]).sites == {"patient": ("p", "q", "r")}
    unlike = "expected each in just one table beside the class .* has no column called lab: name"
    with pytest.raises(InputError, match=unlike):
        datasets.load(data, site_columns=["lab"])
    (tmp_path / "u.csv").write_text("image,scanner\n1.png,7\n2.png,6\n3.png,7\n")
    both = datasets.load(data)
    assert both.sites == {}
    assert "t.csv and u.csv both have a column scanner, which is not used" in both.notices
    plain = datasets.load(data, site_columns=["none"])
    grouped = groups.add_groups(plain, tmp_path / "t.csv")
    added = site_tables.add_sites(grouped, tmp_path / "t.csv")
    assert added.sites == {"scanner": ("S", "T", "S")}
    (tmp_path / "t.csv").write_text("image,patient,scanner\n1.png,p,S\n1.png,p,T\n3.png,r,S\n")
    several = site_tables.add_sites(plain, tmp_path / "t.csv")
    assert several.sites == {"scanner": ("", "", "S")}
    assert "t.csv gives 1 image more than one scanner, such as 1" in several.notices[-2]


def test_they_are_kept_beside_the_folds(tmp_path):
    names, of = ("x", "y"), {"site, of scan": ("A", ""), "date": ("1", "2")}
    assert sites.load(tmp_path) is None
    sites.save(names, of, tmp_path)
    assert sites.load(tmp_path) == sites.by_name(names, of)
    sites.save(names, {}, tmp_path)
    assert sites.load(tmp_path) is None
    sites.save(names, {}, tmp_path, refused=True)
    assert sites.load(tmp_path) == {}
