"""Names that are printed do nothing to a terminal."""

import io
import os
import re
import sys

from absl import logging

from experiments import log, visible
from histojax.utils import progress
from tests.running import run

ESCAPE = "\x1b]0;title\x07\x1b[2J\x9b31m"


def test_what_a_terminal_obeys_is_shown_and_other_text_is_as_it_was():
    shown = visible.visible(f"{ESCAPE}\u202e\r1\udcff")
    assert shown == r"\x1b]0;title\x07\x1b[2J\x9b31m\u202e\r1\udcff"
    for text in ("a\tb\r\nc\n", "Bénin, 良性 \u200d µ"):
        assert visible.visible(text) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_of_what_erases_a_line_only_that_of_progress_is_obeyed(monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(progress, "_ON_TERMINAL", 0)
    with visible.streams():
        print("\x1b[2K", "a\r", "b", file=sys.stderr)
        with progress.Progress("heat map of \x1b[2Kc\r", 2, "crops") as bar:
            bar.add(1)
    first, moving, _ = re.split("\n|\r", out.getvalue(), maxsplit=2)
    assert first == r"\x1b[2K a\r b"
    assert moving.startswith("\x1b[2K" + r"heat map of \x1b[2Kc\r [")
    assert out.getvalue().count("\x1b") == 2


def test_prints_and_warnings_show_it(monkeypatch):
    out, error = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.setattr(logging.get_absl_handler().python_handler, "stream", error)
    with log.plain(), visible.streams():
        print("a", ESCAPE)
        print("b", ESCAPE, file=sys.stderr)
        logging.warning("%s is odd", ESCAPE)
    assert sys.stdout is out
    for text in (out.getvalue(), error.getvalue()):
        assert "\x1b" not in text
        assert r"\x1b[2J\x9b31m" in text


def test_a_script_shows_it_in_its_errors_and_names_that_are_no_utf_8(tmp_path):
    missing = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m")
    ended = run("inspect_data", f"--data={missing}")
    assert ended.returncode == 1
    assert r"\udcff\x1b[31m" in ended.stderr
    assert "\x1b" not in ended.stderr + ended.stdout
