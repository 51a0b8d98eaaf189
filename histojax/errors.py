"""The one exception that means: the input or the machine is at fault, and the message says what to do."""


class InputError(Exception):
    """What was found, where, what was expected and what to do; a script prints it and exits with 1."""
