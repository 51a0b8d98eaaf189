"""One kind of absl flag for what absl has none: paths, choices in any case, numbers with bounds."""

import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from absl import flags

from histojax import config
from histojax.config import Option, View
from histojax.errors import InputError
from histojax.utils.files import as_path

flags.disclaim_key_flags()  # A flag belongs to the module that calls `define`.

# Of `Extraction.weights`; a flag's value is (encoder, word or file) pairs.
WEIGHTS = str | tuple[tuple[str, str], ...]
# In place of views: those that suit the images, and those that encoders were published with.
AUTO, NATIVE = "auto", "native"
_LONGEST = 80  # Of the choices in --help; longer ones are left to the flag's text.

Choices = Callable[[], Iterable[str]]
Kind = type | types.GenericAlias | types.UnionType


def define(
    name: str,
    kind: Kind,
    option: Option,
    default: Any = None,
    required: bool = False,
    choices: Choices | None = None,
    is_other: Callable[[str], bool] = lambda value: False,
) -> None:
    """Defines a flag.

    Args:
      name: of the flag.
      kind: type of its value, such as that of a field in `histojax.config`.
      option: its help, bounds and choices.
      default: its value where it is not passed.
      required: whether it must be passed.
      choices: gives the choices where they are not the option's; called when they are needed.
      is_other: whether a value that is none of the choices is taken as it is.
    """
    known = choices or (lambda: option.choices)
    parser = _Parser(name, kind, option, known, is_other)
    flags.DEFINE(parser, name, default, option.help, required=required)


def define_path(name: str, text: str, required: bool = False) -> None:
    """Defines a flag whose value is the path of a file or folder, or a gs:// path."""
    define(name, Path, Option(text), required=required)


def define_switch_or_path(name: str, text: str) -> None:
    """Defines a flag that is passed alone (True), with `no` (False), or with a path; else None."""
    parser = _Parser(name, bool | Path, Option(text), tuple, lambda value: False)
    flags.DEFINE(parser, name, None, text, boolean=True)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _views(text: str) -> tuple[View, ...] | str:
    word = text.strip().lower()
    return word if word in (AUTO, NATIVE) else tuple(View.parse(name) for name in _names(text))


def _weights(text: str) -> tuple[tuple[str, str], ...]:
    """(encoder, word or file) pairs; the encoder is empty where a word is for all."""
    pairs = (
        name.rpartition("=") if "=" not in name else name.partition("=") for name in _names(text)
    )
    return tuple((encoder.strip(), value.strip()) for encoder, _, value in pairs)


def _path(text: str) -> Path | None:
    return as_path(text) if text else None


def _switch_or_path(text: str) -> bool | Path:
    words = {"true": True, "false": False}
    return words[text] if text in words else as_path(text)


# How text becomes a value of each type, and what stands for the value in --help.
_KINDS: dict[Kind, tuple[Callable[[str], Any], str]] = {
    int: (int, "INTEGER"),
    int | None: (int, "INTEGER"),
    float: (float, "NUMBER"),
    str: (str, "TEXT"),
    str | None: (str, "TEXT"),
    Path: (_path, "PATH"),
    Path | None: (_path, "PATH"),
    bool | Path: (_switch_or_path, "PATH"),
    tuple[str, ...]: (_names, "NAME,..."),
    tuple[int, ...]: (lambda text: tuple(map(int, _names(text))), "INTEGER,..."),
    WEIGHTS: (_weights, "ENCODER=FILE,..."),
    tuple[View, ...]: (_views, "auto|native|SCALE-CROPSIZE|MICRONSmpp-CROPSIZE,..."),
}


def _listed(choices: tuple[str, ...]) -> str:
    """Words as an error says them: `exact or hybrid`."""
    short = len("|".join(choices)) <= _LONGEST
    return " or ".join(choices) if short else f"one of {', '.join(choices)}"


class _Parser(flags.ArgumentParser):
    """Text to a value of a type, in the spelling of the choices and within the bounds."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        option: Option,
        choices: Choices,
        is_other: Callable[[str], bool],
    ):
        self.name, self.kind, self.option, self.choices = name, kind, option, choices
        self.is_other = is_other
        self.convert, self.placeholder = _KINDS[kind]

    def parse(self, argument: Any) -> Any:
        """The value; InputError where it is not allowed."""
        if not isinstance(argument, str):
            return argument  # A default.
        try:
            value = self.convert(argument)
        except ValueError:
            whole = {"INTEGER": "a whole number", "INTEGER,...": "whole numbers"}
            expected = whole.get(self.placeholder, "a number")
            raise InputError(f"--{self.name} is {argument!r}, expected {expected}") from None
        if choices := tuple(self.choices()):
            value = self._in_their_spelling(value, choices)
        config.check_value(self.name, value, self.option)
        return value

    def _in_their_spelling(self, value: Any, choices: tuple[str, ...]) -> Any:
        spelled = {choice.lower(): choice for choice in choices}
        if self.kind == WEIGHTS:
            spelled["published"] = "imagenet"  # For those of encoders that saw no ImageNet.
            return tuple(
                (encoder, self._word_or_file(encoder, word, spelled)) for encoder, word in value
            )
        if isinstance(value, tuple):
            return tuple(self._in_their_spelling(name, choices) for name in value)
        if self.is_other(value):
            return value
        if value.lower() not in spelled:
            raise InputError(f"--{self.name} has {value!r}, expected {_listed(choices)}")
        return spelled[value.lower()]

    def _word_or_file(self, encoder: str, value: str, spelled: dict[str, str]) -> str:
        if value.lower() in spelled:
            return spelled[value.lower()]
        if not encoder or not value:
            expected = f"{' or '.join(spelled)} or ENCODER=FILE"
            raise InputError(f"--{self.name} has {value or encoder!r}, expected {expected}")
        return value

    def flag_type(self) -> str:
        """What stands for the value in --help."""
        choices = "|".join(self.choices())
        if not 0 < len(choices) <= _LONGEST:
            return self.placeholder
        if self.kind == WEIGHTS:
            return f"{choices}|{self.placeholder}"
        return f"{choices}{',...' if ',' in self.placeholder else ''}"
