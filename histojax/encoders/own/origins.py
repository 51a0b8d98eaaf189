"""What is recorded of the code of a user's encoder: of its file, or of what a notebook defines.

The identity of code is that of its text without comments, docstrings and layout, so that these may
change. A file counts by itself. Of a row made in Python count the class of its network and, of
those defined beside it, the classes and functions that it names.
"""

import ast
import hashlib
import inspect
import re
import textwrap
import types
from collections.abc import Iterable
from typing import Any

import flax.linen as nn

from histojax.encoders.encoder import Encoder
from histojax.encoders.sources import Origin

# What dataclasses compile, from the fields alone.
_GENERATED = ("__init__", "__repr__", "__eq__", "__hash__", "__replace__")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def of_file(reference: str, source: bytes) -> Origin:
    """Of a row of a module, by what --encoders takes and the content of its file."""
    return Origin(reference, _sha256(source), _sha256(_code(source).encode()))


def in_python(row: Encoder) -> Origin:
    """Of a row that no reference names."""
    kind = type(row.module)
    texts: dict[Any, str] = {}
    _gather(kind, kind.__module__, texts)
    for part in _parts(row.module):
        _gather(type(part) if isinstance(part, nn.Module) else part, kind.__module__, texts)
    fields = _ADDRESS.sub("", f"{row.module!r}{row.outputs}{row.convention}")
    text = "\n".join([*texts.values(), fields])
    return Origin(f"{kind.__qualname__} in Python", "", _sha256(text.encode()))


def _parts(module: nn.Module) -> Iterable[nn.Module | types.FunctionType]:
    """The networks and functions among the fields of a network, and among theirs."""
    for name, value in vars(module).items():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, nn.Module) and name != "parent":
                yield part
                yield from _parts(part)
            elif isinstance(part, types.FunctionType):
                yield part


def _gather(code: Any, beside: str, texts: dict[Any, str]) -> None:
    """Adds the code of a class or function, and of those that it names, if defined in `beside`."""
    if code in texts or getattr(code, "__module__", None) != beside:
        return
    texts[code] = ""  # So that what names itself ends.
    functions = [code]
    if isinstance(code, type):
        for base in code.__bases__:
            _gather(base, beside, texts)
        functions = [value for value in vars(code).values() if callable(value)]
    for function in functions:
        function = inspect.unwrap(function)
        if not isinstance(function, types.FunctionType) or function.__module__ != beside:
            continue
        if function.__name__ in _GENERATED and function.__code__.co_filename == "<string>":
            continue
        texts[code] += _text(function)
        for name in _names(function.__code__):
            named = function.__globals__.get(name)
            if isinstance(named, type | types.FunctionType):
                _gather(named, beside, texts)


def _names(code: types.CodeType) -> Iterable[str]:
    """The global names in a function and in those within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _text(function: types.FunctionType) -> str:
    """A function's code; where Python no longer has its source, the compiled one."""
    try:
        return _code(textwrap.dedent(inspect.getsource(function)).encode())
    except (OSError, TypeError, SyntaxError):
        return _compiled(function.__code__)


def _compiled(code: types.CodeType) -> str:
    constants = [
        _compiled(constant) if isinstance(constant, types.CodeType) else repr(constant)
        for constant in code.co_consts
    ]
    return f"{code.co_code.hex()}{code.co_names}{constants}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _code(source: bytes) -> str:
    """Code, in the encoding that it names, without its comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        )
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
