"""Fields with a default, help, choices and bounds, from which flags and checks derive."""

import dataclasses
import math
from typing import Any

from histojax.config.views import View
from histojax.errors import InputError

LARGEST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Option:
    """What a field may be, and its help.

    Attributes:
      help: sentences for --help.
      choices: the words that it may be.
      least: the smallest number, itself allowed.
      above: the number that it must be larger than.
      most: the largest number, itself allowed; infinity allows infinity, None any finite number.
      zero: whether 0 is allowed too, below `least`.
    """

    help: str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    above: float = -math.inf
    most: float | None = None
    zero: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a value of the field's type may be taken; None stands for a default."""
        if value is None:
            return True
        if isinstance(value, tuple):
            return 0 < len(value) == len(set(value))
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if not isinstance(value, int | float):
            return True
        below = value < math.inf if self.most is None else value <= self.most
        return (self.zero and value == 0) or (value >= self.least and value > self.above and below)

    @property
    def expected(self) -> str:
        """The values allowed, as an error message says it."""
        if self.choices:
            *first, last = self.choices
            return f"{', '.join(first)} or {last}"
        least, above, most = (f"{bound or 0:.10g}" for bound in (self.least, self.above, self.most))
        capped = self.most not in (None, math.inf)
        if self.above > -math.inf:
            return f"above {above}" + (f", at most {most}" if capped else "")
        if self.least > -math.inf:
            bounds = f"{least} to {most}" if capped else f"at least {least}"
            return f"0, or {bounds}" if self.zero else bounds
        return "at least one, none twice"


def option(default: Any, text: str, **bounds: Any) -> Any:
    """A field with its default, its help, and the bounds of an `Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(text, **bounds)})


def options(part: Any) -> dict[str, Option]:
    """The options of a dataclass, or of a value of one, by field name."""
    fields = dataclasses.fields(part)
    return {f.name: f.metadata["option"] for f in fields if "option" in f.metadata}


def as_text(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, View):
        return value.name
    if isinstance(value, tuple):
        return ",".join("=".join(i) if isinstance(i, tuple) else as_text(i) for i in value)
    return str(value)


def check_value(name: str, value: Any, allowed: Option) -> None:
    """Raises InputError where a field has a value that its option does not allow."""
    if not allowed.allows(value):
        endless = value == math.inf and allowed.most is None
        raise refusal(name, value, "a finite number" if endless else allowed.expected)


def refusal(name: str, value: Any, expected: str) -> InputError:
    """The error that says what a field may be."""
    return InputError(f"--{name} is {as_text(value) or 'empty'}, expected {expected}")
