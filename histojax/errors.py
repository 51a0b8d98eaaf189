"""The one exception that users see: the input or the machine is at fault, not the program."""


class InputError(Exception):
    """What was found, where, what was expected and what to do; scripts print it and exit with 1."""
