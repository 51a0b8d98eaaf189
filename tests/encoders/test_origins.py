"""What is recorded of networks that are defined in a notebook, whose module has no file."""

import linecache
import sys
import types

import pytest

from histojax.encoders import RAW, Encoder, Tap, origins

CELL = '''
import flax.linen as nn

def activate(x):
    return nn.relu(x)

class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        """A block."""
        return activate(nn.Conv(4, (3, 3))(x))

class Net(nn.Module):
    last: object = nn.relu

    @nn.compact
    def __call__(self, x):
        # A comment.
        return {"x": self.last(Block()(x))}
'''


def recorded(monkeypatch, source: str, number: int, kept: bool) -> str:
    module, file = types.ModuleType("notebook_without_a_file"), f"<cell {number} {kept}>"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    if kept:  # As IPython keeps the source of a cell.
        lines = source.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, file, (len(source), None, lines, file))
    exec(compile(source, file, "exec"), module.__dict__)
    row = Encoder("Net", module.Net(last=lambda x: x), (Tap("x"),), RAW)
    return origins.in_python(row).code_sha256


@pytest.mark.parametrize("kept", [True, False])
def test_other_code_in_a_notebook_is_another_encoder(monkeypatch, kept):
    here = recorded(monkeypatch, CELL, 0, kept)
    same = ("", ""), ("# A comment.", "# Another."), ("A block.", "Two." if kept else "A block.")
    for number, (old, new) in enumerate(same, 1):
        assert recorded(monkeypatch, CELL.replace(old, new), number, kept) == here
    other = ("nn.relu(x)", "nn.gelu(x)"), ("(3, 3)", "(5, 5)"), ("Block()(x)", "Block()(x) + 1")
    for number, (old, new) in enumerate(other, 10):
        assert recorded(monkeypatch, CELL.replace(old, new), number, kept) != here
