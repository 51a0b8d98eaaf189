"""Templates escape what they are given, take in other files as they are, and miss nothing."""

import jinja2
import pytest
from markupsafe import Markup

from histojax.utils import templates


def test_values_are_escaped_and_markup_and_included_files_are_not(tmp_path):
    (tmp_path / "style.css").write_text("a > b { color: red }\n")
    (tmp_path / "page.html").write_text('{% include "style.css" %}|{{ text }}|{{ svg }}')
    page = templates.render(tmp_path, "page.html", text="<b> & 'q'", svg=Markup("<svg/>"))
    assert page == "a > b { color: red }|&lt;b&gt; &amp; &#39;q&#39;|<svg/>"


def test_a_value_that_is_missing_is_an_error(tmp_path):
    (tmp_path / "page.html").write_text("{{ absent }}")
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        templates.render(tmp_path, "page.html")
