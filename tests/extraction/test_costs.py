"""The cost of extraction: steady seconds an image, over runs that went on from each other."""

import pytest

from histojax.errors import InputError
from histojax.extraction import costs
from histojax.extraction.costs import ExtractionRun


def test_compilation_is_left_out_of_the_pace_and_runs_add_up(tmp_path):
    assert costs.read(tmp_path) is None
    costs.record(tmp_path, ExtractionRun("2026-11-28", 11, 264, 30.0, 10.0, 4000, "1 x cpu"))
    cost = costs.read(tmp_path)
    assert (cost.seconds_per_image, cost.crops_per_second) == (2.0, 12.0)
    costs.record(tmp_path, ExtractionRun("2026-11-29", 6, 144, 25.0, 5.0, 5000, "2 x cpu"))
    cost = costs.read(tmp_path)
    assert (cost.images, cost.crops, cost.seconds) == (17, 408, 55.0)
    assert cost.seconds_per_image == pytest.approx(40 / 15)
    assert (cost.parameter_bytes, cost.device) == (5000, "2 x cpu")


def test_of_single_images_the_pace_contains_compilation(tmp_path):
    costs.record(tmp_path, ExtractionRun("2026-11-28", 1, 24, 30.0, 29.0, 4000, "1 x cpu"))
    assert costs.read(tmp_path).seconds_per_image == 30.0


def test_a_damaged_table_is_refused_by_name(tmp_path):
    costs.record(tmp_path, ExtractionRun("2026-11-28", 11, 264, 30.0, 10.0, 4000, "1 x cpu"))
    table = tmp_path / costs.TABLE
    table.write_text(table.read_text().replace("264", "26x"))
    with pytest.raises(InputError, match=r"extraction.csv is damaged .*'26x'.*: remove it"):
        costs.read(tmp_path)
