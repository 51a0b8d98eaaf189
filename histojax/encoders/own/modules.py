"""Runs the Python modules of users' encoders, and says where one raises."""

import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
import types
from pathlib import Path

from histojax.errors import InputError

FORMS = "path/to/module.py:ENCODER or package.module:ENCODER"


def run(path: Path) -> types.ModuleType:
    """The module in a file, run under a private name once for each content of the file.

    Raises:
      InputError: there is no such file, or it raises.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path} (of --encoders): expected {FORMS}")
    source = path.read_bytes()
    name = f"_histojax_encoder_{hashlib.sha256(str(path).encode() + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path))
    sys.modules[name] = module  # Flax looks up the types of a module's fields there.
    try:
        # Not by its loader: that takes bytecode of another file of the same size and second.
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise  # Ctrl-C.
        raise InputError(f"{path} cannot be run: {place_of(error, path)}") from error
    return module


def import_installed(name: str) -> types.ModuleType:
    """An installed module; InputError where there is none, or it raises."""
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} cannot be imported: {place_of(error)}") from error
    if not getattr(module, "__file__", None):
        raise InputError(f"{name} is a package without code, expected {FORMS}")
    return module


@functools.cache
def content(module: types.ModuleType) -> bytes:
    """Its file as it was when first asked for: a change after that does not run."""
    return Path(module.__file__).read_bytes()


def place_of(error: BaseException, path: Path | None = None) -> str:
    """An error, with the last line that it came through in a file, or in any but ours."""
    said = f"{type(error).__name__}: {str(error).strip()}"
    frames = traceback.extract_tb(error.__traceback__)
    if path is not None:
        frames = [frame for frame in frames if frame.filename == str(path)]
    frames = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    if not frames or isinstance(error, SyntaxError):
        return said
    where = "" if path else f" of {frames[-1].filename}"
    return f"line {frames[-1].lineno}{where}, `{frames[-1].line}`: {said}"
