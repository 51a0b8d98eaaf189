"""What scripts print, without characters that a terminal obeys: names may hold them.

Escape sequences, other control characters, changes of the direction of text, and bytes that are no
UTF-8 are shown as `\\x1b`, as Python writes them.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from histojax.utils import progress

# All but tabs and the ends of lines.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)"
)


def visible(text: str) -> str:
    """The text with these characters as escapes."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


class _Visible:
    """A stream that shows them so, but for those of progress; all else is the stream's own."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text if isinstance(text, progress.Control) else visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Standard output and error are such streams until the end of the block."""
    with (
        contextlib.redirect_stdout(_Visible(sys.stdout)),
        contextlib.redirect_stderr(_Visible(sys.stderr)),
    ):
        yield
