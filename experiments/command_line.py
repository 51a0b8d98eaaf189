"""What is typed to what absl parses: values without names, --run, and errors in plain words."""

import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from histojax.config import Option
from histojax.errors import InputError

from .flag_types import define

FLAGS = flags.FLAGS

# What --run=PATH stands for: by script, its flags of paths, and what lies there in PATH.
_TRAINING = {"descriptors": "descriptors", "models": "models"}
RUN = {
    "inspect_data": {"out": "inspection"},
    "extract": {"descriptors": "descriptors"},
    "import_descriptors": {"descriptors": "descriptors"},
    "export_descriptors": {"descriptors": "descriptors"},
    "train": _TRAINING,
    "probe": _TRAINING,
    "finetune": {"models": "models"},
    "evaluate": {"models": "models", "report": "report", "descriptors": "descriptors"},
    "bundle": {**_TRAINING, "out": "bundle.histojax"},
    "predict": {"bundle": "bundle.histojax", "out": "predictions"},
    "heatmap": {"bundle": "bundle.histojax", "predictions": "predictions", "out": "heatmaps"},
    "leave_groups_out": {"descriptors": "descriptors", "out": "leave_groups_out"},
    "audit": {"models": "models", "descriptors": "descriptors", "out": "audit"},
}
# Flags that take the place of others.
_IN_PLACE_OF = {"bundle": "models"}


def define_run(script: str) -> None:
    """Defines --run, where a script has paths that it stands for."""
    if places := RUN.get(script):
        *first, last = (f"--{flag}=PATH/{place}" for flag, place in places.items())
        listed = f"{', '.join(first)} and {last}" if first else last
        passed = "these are" if first else "that is"
        text = f"Folder of a run: stands for {listed}, where {passed} not passed."
        define("run", Path, Option(text))


def normal(script: str, arguments: Sequence[str], positional: Sequence[str]) -> list[str]:
    """The arguments of a script, each as --name=value.

    Args:
      script: its name.
      arguments: as typed, without the script.
      positional: flags whose values may stand without names, in this order.

    Raises:
      InputError: a flag has no value, or a value no name.
    """
    named, unnamed = [], []
    rest = iter(arguments)
    for argument in rest:
        name = argument.lstrip("-")
        if not argument.startswith("-"):
            unnamed.append(argument)
        elif name in FLAGS and not FLAGS[name].boolean:
            value = next(rest, "--")
            if value.startswith("--"):
                raise InputError(f"--{name} has no value: write --{name}=value")
            named.append(f"--{name}={value}")
        else:
            named.append(argument)
    free = [name for name in positional if not _passed(name, named)]
    if len(unnamed) > len(free):
        raise InputError(
            f"unexpected argument {unnamed[len(free)]!r}: flags are written --name=value"
        )
    named += [f"--{name}={value}" for name, value in zip(free, unnamed, strict=False)]
    return named + _places(script, named)


def _places(script: str, arguments: list[str]) -> list[str]:
    """The flags that --run stands for."""
    run = next((value for name, value in map(_split, arguments) if name == "run"), "")
    return [
        f"--{flag}={run.rstrip('/')}/{place}"
        for flag, place in RUN.get(script, {}).items()
        if run
        and not _passed(flag, arguments)
        and not _passed(_IN_PLACE_OF.get(flag, flag), arguments)
    ]


def _split(argument: str) -> tuple[str, str]:
    name, _, value = argument.partition("=")
    return name.lstrip("-"), value


def _passed(name: str, arguments: list[str]) -> bool:
    return any(_split(argument)[0] == name for argument in arguments)


def plain(error: str, script: str) -> str:
    """What absl says of wrong flags, as our own messages would."""
    return "; ".join(_plain_line(line, script) for line in error.rstrip(".").splitlines())


def _plain_line(line: str, script: str) -> str:
    if found := re.match(r"flag --(\w+)=None: Flag .*", line):
        return f"--{found[1]} is required" + or_run(script, found[1])
    if found := re.match(r"flags .*: Exactly one of \((\w+), (\w+)\).*", line):
        return f"pass either --{found[1]} or --{found[2]}" + or_run(script, found[1])
    if found := re.match(r"flags .*: At most one of \((\w+), (\w+)\).*", line):
        return f"pass --{found[1]} or --{found[2]}, not both"
    if found := re.match(r"flags .*: (pass one of .*)", line):
        return found[1]
    if found := re.match(r"Unknown command line flag '([^']+)'\.?(?: Did you mean: (\w+))?", line):
        advice = f": did you mean --{found[2]}?" if found[2] else ""
        return f"there is no flag --{found[1]}{advice}"
    if found := re.match(r"flag --(\w+)=(.*): ", line):
        name, value = found[1], found[2].split(": ")[0]
        return f"--{name} is {value or 'empty'}, expected {_expected(FLAGS[name], value)}"
    return line


def or_run(script: str, flag: str) -> str:
    """What a flag's being required is qualified by."""
    return ", or --run" if flag in RUN.get(script, {}) else ""


def _expected(flag: flags.Flag, value: str) -> str:
    """What one of absl's own flags takes in place of a value."""
    if flag.boolean:
        return f"true or false (--{flag.name} or --no{flag.name})"
    low, high = (getattr(flag.parser, f"{bound}_bound", None) for bound in ("lower", "upper"))
    if low is None and high is None or not re.fullmatch(r"[-+.\deE]+", value):
        return "a whole number" if flag.flag_type() == "int" else "a number"
    return Option("", least=low, most=high).expected
