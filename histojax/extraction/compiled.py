"""Compiled programs kept on disk, so that later runs do not compile them again.

JAX writes them and checks their key: the operations of the program, the versions of JAX and XLA,
XLA's flags and the kind of device; of a CPU its model and instruction sets, so a folder may be
shared by machines that differ. XLA for GPUs keeps beside them which kernels it found fastest. What
cannot be read is compiled again, what cannot be written is not kept, each with a warning of JAX.

A compiled program is code that runs, so whoever can write to the folder can run code here.
"""

import os
import stat
import zlib
from pathlib import Path

import jax
from absl import logging

from histojax.errors import InputError
from histojax.utils import files

# A program takes 0.1 to 1 MB on disk. Beyond this, those go that were not used for longest.
_MOST_BYTES = 2 * 2**30
# To read a program back takes a tenth of a second.
_LEAST_SECONDS = 0.2
_LOOKED = "looked_at"  # An empty file, as old as the last look for programs that are not whole.
_ZSTANDARD = b"\x28\xb5\x2f\xfd"  # Begins what JAX packs where there is Zstandard, else by zlib.


def keep(folder: Path) -> None:
    """Keeps programs in a folder that somebody asked for; InputError where it is not writable."""
    files.require_writable(folder)
    _use(folder)


def keep_by_default(cache: Path | None = None) -> None:
    """Keeps programs in a folder of the cache that is this user's alone; it never fails.

    JAX_COMPILATION_CACHE_DIR, where it is set, comes first.

    Args:
      cache: None for the default one.
    """
    cache = cache or files.default_cache()
    if jax.config.jax_compilation_cache_dir or not files.is_local(cache):
        return
    folder = cache / f"compiled-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InputError(f"others may write to {folder}, and what is kept there runs as code")
        keep(folder)
    except (OSError, InputError) as error:
        reason = f"{folder}: {error.strerror}" if isinstance(error, OSError) else error
        logging.warning(
            "compiled programs are not kept for later runs (%s). --compilation_cache=FOLDER keeps "
            "them elsewhere, --compilation_cache=none does without",
            reason,
        )


def keep_none() -> None:
    """Keeps no programs, wherever the environment would have them."""
    jax.config.update("jax_compilation_cache_dir", None)


def _use(folder: Path) -> None:
    if files.is_local(folder):
        shrink(folder, _MOST_BYTES)
        _remove_halves(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def shrink(folder: Path, most_bytes: int) -> None:
    """Deletes the programs of a folder that were not used for longest, down to so many bytes.

    Whatever else is in it stays. JAX can do so itself, but only with a package that nothing else
    here needs.
    """
    try:
        found = [(path, path.stat()) for path in folder.glob("jit_*-cache")]
        found.sort(key=lambda file: max(file[1].st_atime, file[1].st_mtime))
        excess = sum(status.st_size for _, status in found) - most_bytes
        for path, status in found:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= status.st_size
    except OSError:  # Another process is at it.
        return


def _remove_halves(folder: Path) -> None:
    """Removes the programs written since the last look that are not whole.

    A run that was killed or a full disk leaves them. JAX neither reads them nor writes them again,
    so that each later run would compile them, with a warning.
    """
    looked = folder / _LOOKED
    try:
        since = looked.stat().st_mtime_ns if looked.exists() else 0
        looked.touch()
        for path in folder.glob("jit_*-cache"):
            if path.stat().st_mtime_ns >= since and not _is_whole(path.read_bytes()):
                path.unlink(missing_ok=True)
    except OSError:  # Another process is at it, or the folder cannot be written to.
        return


def _is_whole(packed: bytes) -> bool:
    """Whether a program can be unpacked; what Zstandard packed is taken for whole."""
    if packed.startswith(_ZSTANDARD):
        return True
    try:
        zlib.decompress(packed)
    except zlib.error:
        return False
    return True
