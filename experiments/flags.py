"""Flags derived from `histojax.config`, and the one way every script ends after an error."""

import dataclasses
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from histojax import config
from histojax.config import PRESETS, Protocol, View
from histojax.errors import InputError

FLAGS = flags.FLAGS


def define_protocol(*parts: str) -> None:
    """Defines --protocol, and a flag for each field of its `extraction` and `boosting` parts."""
    flags.DEFINE_enum("protocol", "paper", list(PRESETS), "Preset that the flags below start from.")
    for part in parts:
        for field in dataclasses.fields(getattr(PRESETS["paper"], part)):
            default = getattr(getattr(PRESETS["paper"], part), field.name)
            text = f"{config.HELP[field.name]} (paper: {as_text(default)})"
            if isinstance(default, tuple):
                flags.DEFINE_list(field.name, None, text)
            elif isinstance(default, str):
                flags.DEFINE_string(field.name, None, text)
            elif isinstance(default, int):
                flags.DEFINE_integer(field.name, None, text)
            else:
                flags.DEFINE_float(field.name, None, text)


def as_text(value: object) -> str:
    """A default as one would type it."""
    if isinstance(value, tuple):
        return ",".join(item.name if isinstance(item, View) else str(item) for item in value)
    return str(value)


def protocol(*parts: str) -> Protocol:
    """The preset with the given flags laid over it, checked."""
    chosen = PRESETS[FLAGS.protocol]
    for part in parts:
        given = {field.name: FLAGS[field.name].value for field in dataclasses.fields(getattr(chosen, part))}
        given = {name: value for name, value in given.items() if value is not None}
        if "views" in given:
            given["views"] = tuple(View.parse(name) for name in given["views"])
        if "encoders" in given:
            given["encoders"] = tuple(given["encoders"])
        chosen = dataclasses.replace(chosen, **{part: dataclasses.replace(getattr(chosen, part), **given)})
    config.check(chosen)
    return chosen


def define_path(name: str, text: str, required: bool = True) -> None:
    """A file or folder."""
    flags.DEFINE_string(name, None, text, required=required)


def path(name: str) -> Path | None:
    """The value of a path flag; None where it was not given."""
    return Path(FLAGS[name].value).expanduser() if FLAGS[name].value else None


def define_data(required: bool = True) -> None:
    """Where labelled images are."""
    text = "Labelled images: a folder of class folders, BACH's folder as unzipped, or a table image,label[,group]."
    define_path("data", text, required)
    flags.DEFINE_list("classes", None, "Class names in the order wished; by default BACH's order, else alphabetical.")


def refuse_inside_data(*names: str) -> None:
    """Raises InputError where an output folder lies in the folder of --data, where it would become a class."""
    data = path("data")
    for name in names:
        if data is not None and data.is_dir() and path(name).resolve().is_relative_to(data.resolve()):
            raise InputError(f"--{name}={path(name)} lies inside --data={data}: name a folder outside of the data")


def classes() -> tuple[str, ...] | None:
    """The value of --classes."""
    return tuple(FLAGS.classes) if FLAGS.classes else None


def define_ensemble(workers: int) -> None:
    """What the ensemble is trained on, and by how many processes."""
    text = "Configurations to train on, such as ResNet-0.5-400; by default all that are found."
    flags.DEFINE_list("configurations", None, text)
    flags.DEFINE_integer("workers", workers, "Training processes, of one thread each.", lower_bound=1)


def define_computing() -> None:
    """What changes how extraction runs but not what it gives."""
    text = "Crops that go through an encoder at a time; memory grows with it."
    flags.DEFINE_integer("crops_per_step", 20, text, lower_bound=1)
    define_path("weights_dir", "Folder with the official weight files, for machines without network.", required=False)
    define_path("weights_cache", "Folder for weight files ($HISTOJAX_CACHE or ~/.cache/histojax).", required=False)


def computing() -> dict[str, Any]:
    """The values of those flags, as the library's functions take them."""
    return {
        "cache": path("weights_cache"),
        "weights_dir": path("weights_dir"),
        "crops_per_step": FLAGS.crops_per_step,
    }


def define_positive() -> None:
    """Which classes are carcinoma."""
    text = "Classes that count as carcinoma; by default InSitu and Invasive, or the second of two classes."
    flags.DEFINE_list("positive_classes", [], text)


def run(main: Callable[[], None], doc: str) -> None:
    """Runs a script: an error of input or machine becomes one message on standard error and exit code 1."""

    def guarded(arguments: list[str]) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # So that workers and temporary files are cleared.
        try:
            if len(arguments) > 1:
                raise InputError(f"unexpected argument {arguments[1]!r}: flags are written --name=value, see --help")
            main()
        except InputError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(f"error: {error.filename or 'a file'}: {error.strerror or error}. What was finished is kept")
        except MemoryError:
            sys.exit("error: out of memory. What was finished is kept: run again with fewer --workers or crops a step")
        except KeyboardInterrupt:
            sys.exit("stopped; run the same command again to go on from here")

    sys.modules["__main__"].__doc__ = doc
    for flag in FLAGS.flags_by_module_dict()[__name__]:
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # So that --help shows the script's flags.
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    app.run(guarded)
