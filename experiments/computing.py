"""Flags of how extraction is computed, which changes no result, and by which processes."""

import dataclasses

from absl import flags

from histojax.config import Runtime
from histojax.errors import InputError

from .flag_types import define

FLAGS = flags.FLAGS


def define_runtime() -> None:
    """Defines a flag for each option of the runtime, and --compilation_cache."""
    _define_fields("crops_per_step", "pooling", "cache", "weights_dir")
    flags.DEFINE_string(
        "compilation_cache",
        None,
        "Folder, or gs:// path, where compiled programs are kept, so that later runs need not "
        "compile them.",
    )


def define_weights() -> None:
    """Defines where ImageNet weights are."""
    _define_fields("cache", "weights_dir")


def _define_fields(*names: str) -> None:
    for field in dataclasses.fields(Runtime):
        if field.name in names:
            flag = "weights_cache" if field.name == "cache" else field.name
            define(flag, field.type, field.metadata["option"], field.default)


def runtime() -> Runtime:
    """The runtime that the flags ask for; splits CPU devices and opens the compilation cache."""
    from histojax.extraction import devices  # Not above: trees are trained where there is no JAX.

    devices.split_cpu()
    if FLAGS.compilation_cache:
        devices.keep_compiled(FLAGS.compilation_cache)
    return dataclasses.replace(
        weight_files(), crops_per_step=FLAGS.crops_per_step, pooling=FLAGS.pooling
    )


def weight_files() -> Runtime:
    """Where ImageNet weights are, by the flags of `define_weights`."""
    return Runtime(cache=FLAGS.weights_cache, weights_dir=FLAGS.weights_dir)


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
