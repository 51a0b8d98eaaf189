"""Rows of the vision transformers of pathology against facts: parameters, the guide's table."""

import dataclasses
import math
import re

import pytest

from histojax import encoders
from histojax.encoders import weights
from histojax.encoders.weight_files.layouts import Layout
from tests.running import ROOT

# In GB, of files of float32 as their pages say; what the names of arrays take does not count.
SIZES = {
    "Lunit-S8": 0.0867,
    "kaiko-B16": 0.343,
    "kaiko-L14": 1.22,
    "Phikon-v2": 1.21,
    "Hibou-B": 0.343,
    "H-optimus-0": 4.54,
}


def test_rows_have_the_parameters_of_the_published_files():
    for name, gigabytes in SIZES.items():
        shapes = weights.shapes(encoders.get(name))
        held = 4 * sum(map(math.prod, shapes.values())) / 1e9
        assert held == pytest.approx(gigabytes, rel=0.004), name
    published = [row for row in encoders.ENCODERS.values() if row.published]
    assert len({row.published.repository for row in published}) == len(published) == 27
    for row in published:
        assert row.native.input_size % row.module.patch == 0
        assert all(tap.signed and not tap.stride for tap in row.outputs)
        assert all(isinstance(layout, Layout) for layout in row.layouts)
        assert len(weights.shapes(row)) == len(set(weights.shapes(row)))


def test_the_guide_has_the_table():
    page = (ROOT / "docs" / "guide" / "encoders.md").read_text()
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    published = {row.name: row for row in encoders.ENCODERS.values() if row.published}
    assert list(lines) == list(published)
    gates = {"": "", "access is granted on request": "on request"}
    for name, row in published.items():
        millions = sum(map(math.prod, weights.shapes(row).values())) / 1e6
        tokens = {1: "class", 2: "class, mean of patches"}[len(row.outputs)]
        cells = [cell.strip() for cell in lines[name].split("|")[2:-1]]
        assert f"]({row.published.address}), `{row.published.files[0]}`" in cells[0]
        assert ("NC" in cells[1]) == bool(row.published.terms)
        assert cells[2] == gates.get(row.published.gate, "conditions")
        assert cells[3:5] == [f"{millions:.0f}", f"{row.width}: {tokens}"]
        assert cells[5].startswith("224")
        assert cells[5].endswith(row.native.resize_filter)


def test_the_row_of_the_guide_is_one_of_uni():
    page = (ROOT / "docs" / "guide" / "encoders.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    row = dataclasses.replace(names["ENCODER"], name="UNI", outputs=encoders.get("UNI").outputs)
    assert row.module == encoders.get("UNI").module
    assert row.layouts == encoders.get("UNI").layouts
    assert row.last_block == encoders.get("UNI").last_block
