"""Flags of how extraction is computed, which changes no result, and by which processes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from absl import flags

from histojax import config
from histojax.config import Extraction, Option, Runtime, options
from histojax.errors import InputError
from histojax.utils import files

from .flag_types import WEIGHTS, define

FLAGS = flags.FLAGS
# Flags of how programs run, and of what is checked.
_COMPUTED = ("crops_per_step", "pooling", "xla_preset", "checked")


def define_runtime(*more: str) -> None:
    """Defines a flag for each option of the runtime, and --compilation_cache.

    `more` names options that only some scripts have a use for: `checked`, `xla_preset`.
    """
    _define_fields("crops_per_step", "pooling", *more)
    define_weights()
    flags.DEFINE_string(
        "compilation_cache",
        None,
        "Folder, or gs:// path, where compiled programs are kept, so that later runs need not "
        "compile them; none, or nothing, to keep none. Whoever can write to it can run code as "
        "you. Default: a folder of your own in --weights_cache, of at most 2 GiB.",
    )


def define_encoders() -> None:
    """Defines --encoders for the modules of users' encoders, where no protocol has it."""
    text = (
        "Modules of encoders that are not histojax's, path/to/module.py:ENCODER or "
        "package.module:ENCODER. They are run."
    )
    define("encoders", tuple[str, ...], Option(text))


def is_module(encoder: str) -> bool:
    """Whether a value of --encoders names a module, and not an encoder that is known by name."""
    return ":" in encoder or "/" in encoder or encoder.endswith(".py")


def load_modules() -> tuple[str, ...]:
    """Runs the modules of --encoders, once; the names of all encoders of the flag.

    Raises:
      InputError: a module or its row is unusable, an encoder is named twice, or a name is that of
        no module where no protocol chooses among names.
    """
    names = []
    for encoder in FLAGS.encoders or ():
        if is_module(encoder) or "protocol" not in FLAGS:
            from histojax.encoders import own  # Not above: trees are trained where there is no JAX.
            from histojax.extraction import devices

            devices.split_cpu()  # Before the module uses a device.
            encoder = own.load(encoder).name
        names.append(encoder)
    config.check_value("encoders", tuple(names), options(Extraction)["encoders"])
    return tuple(names)


def define_weights() -> None:
    """Defines where weights are; --weights and --encoders too, where no protocol has them.

    There models say which weights they need, and --weights says where their files are.
    """
    _define_fields("cache", "weights_dir")
    if "encoders" not in FLAGS:
        define_encoders()
    if "weights" not in FLAGS:
        text = (
            "Files of the encoders' weights, ENCODER=FILE,..., where they are neither official nor "
            "in the bundle; any copy of the file that the models were trained with."
        )
        define("weights", WEIGHTS, Option(text, choices=options(Extraction)["weights"].choices))


def _define_fields(*names: str) -> None:
    for field in dataclasses.fields(Runtime):
        if field.name in names:
            flag = "weights_cache" if field.name == "cache" else field.name
            define(flag, field.type, field.metadata["option"], field.default)


def refuse_where_imported(
    *names: str, why: str = "descriptors were imported, so neither images nor encoders are used"
) -> None:
    """Raises InputError where a flag was passed that finished descriptors leave nothing to do.

    These are the flags of encoders and of how images are read, and those of `names`.
    """
    names += ("mpp", "stain", "compilation_cache", "weights_cache")
    names += tuple(field.name for kind in (Extraction, Runtime) for field in fields(kind))
    if passed := [name for name in dict.fromkeys(names) if name in FLAGS and FLAGS[name].present]:
        raise InputError(
            f"--{passed[0]} has nothing to act on: {why}. Leave out "
            f"{', '.join(f'--{name}' for name in passed)}"
        )


def runtime() -> Runtime:
    """The runtime that the flags ask for; splits CPU devices and opens the compilation cache."""
    from histojax.extraction import compiled, devices  # Not above: trees are trained without JAX.

    devices.split_cpu()
    if FLAGS.compilation_cache is None:
        compiled.keep_by_default(FLAGS.weights_cache)
    elif FLAGS.compilation_cache in ("", "none"):
        compiled.keep_none()
    else:
        compiled.keep(files.as_path(FLAGS.compilation_cache))
    preset = FLAGS.xla_preset if "xla_preset" in FLAGS else "none"
    if preset != "none" and (backend := devices.backend()) != "gpu":
        raise InputError(
            f"--xla_preset={preset} has flags of XLA for GPUs, and JAX uses a {backend} here: "
            "leave it out"
        )
    passed = [name for name in _COMPUTED if name in FLAGS]
    return dataclasses.replace(weight_files(), **{name: FLAGS[name].value for name in passed})


def weight_files() -> Runtime:
    """Where weights are, by the flags of `define_weights`, once the modules of --encoders have run.

    Raises:
      InputError: see `load_modules`; or --weights has a word where it can only name files, an
        unknown encoder, or one twice.
    """
    if FLAGS.encoders:
        load_modules()
    by_encoder = _by_encoder(FLAGS.weights or ())
    words = [value for value in by_encoder.values() if isinstance(value, str)]
    if words and "protocol" not in FLAGS:
        raise InputError(
            f"--weights has {words[0]!r}, expected ENCODER=FILE: the models say which weights they "
            "were trained with"
        )
    found = tuple((name, file) for name, file in by_encoder.items() if isinstance(file, Path))
    return Runtime(cache=FLAGS.weights_cache, weights_dir=FLAGS.weights_dir, weight_files=found)


def weights(
    pairs: Sequence[tuple[str, str]], encoders: Sequence[str], default: str
) -> str | tuple[tuple[str, str], ...]:
    """`Extraction.weights` by the value of --weights; `file` stands for a file's checksum.

    Args:
      pairs: the flag's value.
      encoders: of the protocol.
      default: the word for encoders that the flag says nothing of.

    Raises:
      InputError: see `weight_files`, or the flag names other encoders.
    """
    by_encoder = _by_encoder(pairs)
    rest = by_encoder.pop("", default)
    if others := sorted(by_encoder.keys() - {*encoders}):
        raise InputError(
            f"--weights names {', '.join(others)}, expected of --encoders={','.join(encoders)}"
        )
    values = {name: by_encoder.get(name, rest) for name in encoders}
    words = tuple((n, value if isinstance(value, str) else "file") for n, value in values.items())
    alike = {word for _, word in words}
    return rest if alike == {rest} else words


def _by_encoder(pairs: Sequence[tuple[str, str]]) -> dict[str, str | Path]:
    """A word or a file by encoder, and a word for all others under the empty name."""
    names = [name for name, _ in pairs]
    if any(names):  # Trees are trained where there is no JAX, and so no encoder.
        from histojax.encoders import ENCODERS

        known = {"": ""} | {name.lower(): name for name in ENCODERS}
        if unknown := [name for name in names if name.lower() not in known]:
            raise InputError(
                f"--weights names the encoder {unknown[0]!r}, expected of {', '.join(ENCODERS)}"
            )
        names = [known[name.lower()] for name in names]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--weights has two values for {twice[0] or 'all encoders'}, expected one")
    words = options(Extraction)["weights"].choices
    values = (value if value in words else files.as_path(value) for _, value in pairs)
    return dict(zip(names, values, strict=True))


def define_processes() -> None:
    """Defines the processes, on one machine or many, that share one run."""
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0, where the processes of one run meet."
    )
    flags.DEFINE_integer("num_processes", None, "How many processes share the run.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0 on.", lower_bound=0)
    flags.DEFINE_bool(
        "distributed",
        False,
        "Find the other processes by the cluster's environment (Slurm, MPI, TPU pods and others "
        "that JAX knows) instead.",
    )


def processes() -> dict[str, int]:
    """This process's number and how many there are, once they have met; nothing where it is alone.

    Raises:
      InputError: flags that do not go together.
    """
    named = [FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id]
    if all(value is None for value in named) and not FLAGS.distributed:
        return {}
    if not FLAGS.distributed and any(value is None for value in named):
        raise InputError(
            "--coordinator, --num_processes and --process_id go together (or pass --distributed "
            "alone)"
        )
    if None not in named[1:] and FLAGS.process_id >= FLAGS.num_processes:
        raise InputError(
            f"--process_id={FLAGS.process_id} of --num_processes={FLAGS.num_processes}: they count "
            "from 0"
        )
    from histojax.extraction import devices

    process, count = devices.join(*named)
    return {"process": process, "processes": count}
