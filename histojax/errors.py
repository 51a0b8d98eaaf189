"""The one exception that users see: the input or the machine is at fault, not the program."""

_LONGEST = 8000  # Characters of a message: a damaged table may have one cell of a megabyte.
_END = 1000  # That are kept of its end, which says what to do.


class InputError(Exception):
    """What was found, where, what was expected and what to do; scripts print it and exit with 1.

    Of a message that quotes a file at great length the middle is left out.
    """

    def __str__(self) -> str:
        message = super().__str__()
        if len(message) <= _LONGEST:
            return message
        left_out = len(message) - _LONGEST
        start = message[: _LONGEST - _END]
        return f"{start} ... ({left_out:,} characters more) ... {message[-_END:]}"
