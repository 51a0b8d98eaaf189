"""How every script runs and ends: its flags, its --help, and one message for what goes wrong."""

import os
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from absl import app, flags

from histojax.errors import InputError

from . import command_line, interrupts, log, visible

FLAGS = flags.FLAGS
STOPPED = "stopped; run the same command again to go on from here"
# Exit code of a script that did its work, but not for every image; 1 where it failed.
PARTLY_FAILED = 3
WIDTH = 100
# How Python, LightGBM, JAX and the loader of modules say that there is no memory, beside a
# MemoryError.
_NO_MEMORY = (
    "can't start new thread",
    "bad_alloc",
    "RESOURCE_EXHAUSTED",
    "failed to map segment",
    "annot allocate memory",
)

# Groups of --help: the module that defines a flag, and the title. A script's own flags come first.
_GROUPS = {"data": "Images", "models": "Models", "protocol": "Protocol", "computing": "Computing"}


def run(
    main: Callable[[], None],
    doc: str,
    positional: tuple[str, ...] = (),
    arguments: list[str] | None = None,
) -> None:
    """Runs a script: an error of input or machine becomes one message and exit code 1.

    Args:
      main: the script.
      doc: its help.
      positional: flags whose values may also be passed without their names, in this order.
      arguments: its name and the command line; by default those of the process.
    """
    name, *rest = arguments or [Path(sys.argv[0]).stem, *sys.argv[1:]]
    command_line.define_run(name)

    def parse(arguments: list[str]) -> list[str]:
        script, *rest = arguments
        if {"--help", "-help", "--helpshort", "-h", "-?"} & {*rest}:
            try:
                print(usage(doc, name), flush=True)
            except BrokenPipeError:  # As by `--help | head`; what is buffered has to go somewhere.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        try:
            FLAGS([script, *command_line.normal(name, rest, positional)])
        except (flags.Error, InputError) as error:
            said = command_line.plain(str(error), name)
            sys.exit(visible.visible(f"error: {said} (see histojax {name} --help)"))
        return [script]

    with log.plain(), visible.streams():
        app.run(lambda _: _guard(main), [name, *rest], flags_parser=parse)


def _guard(main: Callable[[], None]) -> None:
    """Runs a script's main, and turns what a user or the machine did wrong into a message."""
    try:
        with interrupts.raised():
            main()
    except InputError as error:
        sys.exit(visible.visible(f"error: {error}"))
    except OSError as error:
        name, cause = error.filename or "a file", error.strerror or error
        sys.exit(visible.visible(f"error: {name}: {cause}. What was finished is kept"))
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except Exception as error:
        # Stopped while a checkpoint was written: its threads cannot be had any more.
        if isinstance(error, RuntimeError) and isinstance(error.__context__, KeyboardInterrupt):
            sys.exit(STOPPED)
        if _lacks_memory(error):
            sys.exit(
                "error: out of memory. What was finished is kept: run again with fewer --workers, "
                "or a smaller --crops_per_step"
            )
        raise


def _lacks_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it followed from, says that there is no memory."""
    while error is not None:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def usage(doc: str, script: str) -> str:
    """The help of a script: what it does, and its flags by group."""
    groups: dict[str, list[flags.Flag]] = {}
    for module, defined in FLAGS.flags_by_module_dict().items():
        package, _, last = str(module).rpartition(".")
        if "experiments" in str(module):
            helper = package.endswith("experiments") and last in _GROUPS
            groups.setdefault(_GROUPS[last] if helper else "This step", []).extend(defined)
    titles = [title for title in ("This step", *_GROUPS.values()) if title in groups]
    parts = [doc.strip(), "Flags are written --name=value."]
    for title in titles:
        lines = [line for flag in groups[title] for line in _flag_help(flag, script)]
        parts.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(parts)


def _flag_help(flag: flags.Flag, script: str) -> list[str]:
    """The lines of a flag: its form, whether it is required, what it means."""
    if flag.boolean:
        value = flag.flag_type()
        form = f"  --[no]{flag.name}" + ("" if value == "bool" else f"[={value}]")
    else:
        form = f"  --{flag.name}={_VALUES.get(flag.flag_type(), flag.flag_type())}"
    text = flag.help
    if flag.default not in (None, False, []):
        several = isinstance(flag.default, list | tuple)
        default = ",".join(map(str, flag.default)) if several else flag.default
        text += f" Default: {default}."
    mark = _required(flag, script)
    head = form + (f"  ({mark})" if mark else "")
    return [head, *textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)]


_VALUES = {
    "string": "TEXT",
    "int": "INTEGER",
    "float": "NUMBER",
    "comma separated list of strings": "NAME,...",
}


def _required(flag: flags.Flag, script: str) -> str:
    """Whether a flag must be passed, or another in its place."""
    for validator in flag.validators:
        names = validator.get_flags_names()
        others = ", or ".join(f"--{name}" for name in sorted(names) if name != flag.name)
        if re.search("Exactly one|pass one of", _message(validator, names)):
            return f"required, or {others}" + command_line.or_run(script, flag.name)
        if not others and "other than None" in str(validator.message):
            return "required" + command_line.or_run(script, flag.name)
    return ""


def _message(validator, names: list[str]) -> str:
    """What a validator of several flags says where none of them is passed."""
    if len(names) < 2:
        return ""
    try:
        validator.checker(dict.fromkeys(names))
    except flags.ValidationError as error:
        return str(error)
    return ""
