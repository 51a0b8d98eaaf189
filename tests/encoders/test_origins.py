"""What is recorded of networks that are defined in a notebook, whose module has no file."""

import dataclasses
import linecache
import sys
import types
from collections.abc import Callable

import pytest

from histojax.encoders import RAW, TORCHVISION, Encoder, Tap
from histojax.encoders.own import origins

CELL = '''
import flax.linen as nn

def activate(x):
    return nn.relu(x)

class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        """A block."""
        return activate(nn.Conv(4, (3, 3))(x))

class Base(nn.Module):
    def before(self, x):
        return x * 2

class Net(Base):
    last: object = nn.relu
    width: int = 4

    @nn.compact
    def __call__(self, x):
        # A comment.
        def scaled():
            return offset(self.before(x))
        return {"x": self.last(Block()(scaled()))}

def offset(x):
    return x + 3

class Held(nn.Module):
    def __call__(self, x):
        return x * 5

class Holder(nn.Module):
    held: object = None

    def __call__(self, x):
        return self.held(x)
'''


def of_lambda(module: types.ModuleType) -> Encoder:
    return Encoder("Net", module.Net(last=lambda x: x), (Tap("x"),), RAW)


def of_held(module: types.ModuleType) -> Encoder:
    return dataclasses.replace(of_lambda(module), module=module.Net(module.Holder(module.Held())))


def changed(**fields) -> Callable[[types.ModuleType], Encoder]:
    return lambda module: dataclasses.replace(of_lambda(module), **fields)


def wider(module: types.ModuleType) -> Encoder:
    return changed(module=of_lambda(module).module.clone(width=5))(module)


def recorded(monkeypatch, source: str, number: int, kept: bool, row=of_lambda) -> str:
    module, file = types.ModuleType("notebook_without_a_file"), f"<cell {number} {kept}>"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    if kept:  # As IPython keeps the source of a cell.
        lines = source.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, file, (len(source), None, lines, file))
    exec(compile(source, file, "exec"), module.__dict__)
    return origins.in_python(row(module)).code_sha256


@pytest.mark.parametrize("kept", [True, False])
def test_other_code_in_a_notebook_is_another_encoder(monkeypatch, kept):
    here = recorded(monkeypatch, CELL, 0, kept)
    same = ("", ""), ("# A comment.", "# Another."), ("A block.", "Two." if kept else "A block.")
    for number, (old, new) in enumerate(same, 1):
        assert recorded(monkeypatch, CELL.replace(old, new), number, kept) == here
    other = ("nn.relu(x)", "nn.gelu(x)"), ("(3, 3)", "(5, 5)"), ("Block()(sc", "+Block()(sc")
    other += ("x * 2", "x * 4"), ("x + 3", "x + 4")
    for number, (old, new) in enumerate(other, 10):
        assert recorded(monkeypatch, CELL.replace(old, new), number, kept) != here


def test_another_row_is_another_encoder_and_so_are_other_parts_of_its_network(monkeypatch):
    rows = of_lambda, wider, changed(outputs=(Tap("y"),)), changed(convention=TORCHVISION), of_held
    found = [recorded(monkeypatch, CELL, 20 + i, True, row) for i, row in enumerate(rows)]
    found.append(recorded(monkeypatch, CELL.replace("x * 5", "x * 6"), 30, True, of_held))
    assert len({*found}) == len(found)
