"""Cells of CSV that a spreadsheet would run as a formula, made text and turned back.

Excel and LibreOffice compute a cell that begins with =, +, - or @, though it be a file's name. An
apostrophe before it stops them. It also stands after a semicolon, a tab or the end of a line within
a cell, where a spreadsheet may split it. Numbers stay as they are. `original(inert(text))` is the
text, whatever it is, also where it has such apostrophes itself.
"""

import re

_STARTS = r"(?:\A|(?<=[;\t\r\n]))"
# Blanks and quotation marks are skipped, and the wide letters do the same in Excel.
_FORMULA = r"""(?=(?:['"]|[^\S\t\r\n])*[=+@＝＋－＠-])"""
_BEFORE = re.compile(_STARTS + _FORMULA)
_MARKED = re.compile(f"{_STARTS}'{_FORMULA}")
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|nan)", re.ASCII)


def inert(text: str) -> str:
    """The text of a cell with an apostrophe before what would be a formula."""
    return text if _NUMBER.fullmatch(text) else _BEFORE.sub("'", text)


def original(cell: str) -> str:
    """The text that `inert` was given."""
    return _MARKED.sub("", cell)
