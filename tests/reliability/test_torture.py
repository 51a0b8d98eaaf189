"""What the command line of campaigns says and returns."""

import sys
import types

import pytest

from tests.reliability import shim, torture
from tests.reliability.torture import Count, Fault, Outcome


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (Outcome((Count("files", 3),)), 0, "bombs     files"),
        (Outcome((Count("files", 3, None, (Fault("a/1", "lost"),)),)), 1, "=bombs --case=a/1"),
        (Outcome((Count("files", 0),)), 1, "nothing was tried of bombs: pass more than --minut"),
        (Outcome((Count("not installed", 0),), cannot_run=True), 0, "not installed"),
    ],
)
def test_a_campaign_passes_where_it_tried_something_and_found_nothing(
    outcome, code, said, monkeypatch, capsys
):
    module = types.SimpleNamespace(campaign=lambda *_: outcome)
    monkeypatch.setitem(sys.modules, "tests.reliability.bombs", module)
    monkeypatch.setattr(shim, "why_not", lambda: None)
    monkeypatch.setattr(torture.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["torture", "--minutes=1", "--campaigns=bombs"])
    assert torture.main() == code
    assert said in capsys.readouterr().out
