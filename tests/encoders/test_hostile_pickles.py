"""PyTorch's pickles that ask for anything but tensors: none of it runs, and each is refused."""

import os
import pickle
import struct

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.utils.array_files import tensor_pickle
from tests.encoders.hostile import read_all, refusal
from tests.encoders.made_files import (
    archive,
    called,
    integer,
    named,
    program,
    rebuilt,
    tensor,
    text,
)

HUGE = 2**39


class Runs:
    """What a pickle runs that calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def deep(levels: int) -> bytes:
    return program(b"".join(b"}(" + text("a") for _ in range(levels)) + b"K\x01" + b"u" * levels)


def explosive() -> bytes:
    """Each dictionary holds the one before ten times, by reference."""
    made = b"\x80\x02}q\x00(" + text("t") + tensor() + b"u0"
    for i in range(6):
        items = b"".join(text(f"k{j}") + b"h" + bytes([i]) for j in range(10))
        made += b"}q" + bytes([i + 1]) + b"(" + items + b"u0"
    return made + b"h\x06."


def in_itself() -> bytes:
    return b"\x80\x02}q\x00(" + text("a") + b"h\x00u."


CALLS = [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("__builtin__", "open"),
    ("subprocess", "Popen"),
    ("importlib", "import_module"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch._utils", "_import_dotted_name"),
    ("torch", "FloatStorage.__init__"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ("collections", "OrderedDict.__class__"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("argparse", "Namespace"),
    ("histojax.utils.array_files.tensor_pickle", "interpret"),
]
ARGUMENTS = b"(" + text("x") + b"t"
PICKLES = {
    **{
        f"{module}.{name}": program(called(module, name, b"(" + text("x") + b"t"))
        for module, name in CALLS
    },
    "named alone": program(named("os", "system")),
    "by the stack": program(text("os") + text("system") + b"\x93" + b"(t" + b"R", protocol=4),
    "an instance": program(b"(" + named("os", "system")[1:].join([b"i", b""])),
    "new": program(named("collections", "OrderedDict") + b")\x81"),
    "a class by its number": program(b"\x82\x01"),
    "an old object": program(b"(" + named("collections", "OrderedDict") + b"o"),
    "text by eval": program(b"S'a'\n"),
    "a number by eval": program(b"I12\n"),
    "a storage called": program(called("torch", "FloatStorage", b")")),
    "arguments that are no tuple": program(named("torch._utils", "_rebuild_parameter") + b"]R"),
    "a dictionary of a list": program(called("collections", "OrderedDict", b"(](K\x01K\x02etet")),
    "state of a list": program(b"]}b"),
    "state that is code": program(b"}" + text("x") + b"b"),
    "items of a tensor": program(tensor() + b"(" + text("a") + b"K\x01u"),
    "append to a dictionary": program(b"}K\x01a"),
    "a key that is a tuple": program(b"}(K\x01tK\x01s"),
    "a long key": program(b"}" + text("k" * 300) + b"K\x01s"),
    "a large key": program(b"}" + integer(2**61 - 1) + b"K\x01s"),
    "a parameter of text": program(
        called("torch._utils", "_rebuild_parameter", b"(" + text("x") + b"t")
    ),
    "a tensor of text": program(
        called("torch._utils", "_rebuild_tensor_v2", b"(" + text("x") * 6 + b"t")
    ),
    "a tensor without arguments": program(rebuilt(b")")),
    "too many arguments": program(
        called("torch._utils", "_rebuild_tensor_v2", b"(" + b"N" * 99 + b"t")
    ),
    "an unknown storage": program(tensor(name="QuantizedStorage")),
    "another kind of reference": program(tensor(kind="module")),
    "a storage elsewhere": program(tensor(key="../../etc/passwd")),
    "a storage that is not there": program(tensor(key="7")),
    "a storage that claims more": program(tensor(count=HUGE)),
    "a storage that claims less than nothing": program(tensor(count=-1)),
    "an offset beyond": program(tensor(offset=10)),
    "an offset before": program(tensor(offset=-4)),
    "a shape beyond": program(tensor(shape=(13,))),
    "a huge shape": program(tensor(shape=(HUGE, HUGE), strides=(1, 1))),
    "a huge shape without strides": program(tensor(shape=(HUGE,), strides=(0,))),
    "a negative shape": program(tensor(shape=(-1,))),
    "strides beyond": program(tensor(shape=(4,), strides=(4,))),
    "negative strides": program(tensor(offset=11, strides=(-1,))),
    "many sides": program(tensor(shape=(1,) * 40, strides=(1,) * 40)),
    "more sides than strides": program(tensor(shape=(3, 4), strides=(1,))),
    "deep": deep(50),
    "explosive": explosive(),
    "in itself": in_itself(),
    "protocol 5": b"\x80\x05" + program()[2:],
    "no end": program()[:-1],
    "nothing": b"",
    "an empty stack": b"\x80\x02.",
    "a mark too few": b"\x80\x02}u.",
    "an unknown reference": b"\x80\x02h\x07.",
    "a long text that is not there": b"\x80\x02X" + struct.pack("<I", 2**31 - 1) + b"a.",
    "a long number that is not there": b"\x80\x02\x8b" + struct.pack("<I", 2**31 - 1) + b"a.",
    "too long": b"\x80\x02" + b"N0" * (tensor_pickle.LONGEST // 2) + b"}.",
    "text": b"import os",
}


@pytest.mark.parametrize("content", PICKLES.values(), ids=list(PICKLES))
def test_pickles_that_are_no_state_dict_are_refused(content, tmp_path):
    (tmp_path / "a.pt").write_bytes(archive(content, [np.arange(12, dtype="f")]))
    refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("as_file", [archive, lambda pickled: pickled], ids=["zip", "bare"])
def test_nothing_runs(as_file, protocol, tmp_path):
    """Pickles that Python's own module does run, as the last line shows."""
    canary = tmp_path / "canary"
    pickled = pickle.dumps({"a": Runs(os.mkdir, str(canary))}, protocol)
    (tmp_path / "a.pt").write_bytes(as_file(pickled))
    refusal(tmp_path / "a.pt")
    assert not canary.exists()
    pickle.loads(pickled)
    assert canary.exists()


def test_what_it_asks_for_is_named_and_what_to_do(tmp_path):
    (tmp_path / "a.pt").write_bytes(archive(PICKLES["argparse.Namespace"]))
    message = refusal(tmp_path / "a.pt")
    assert "asks for argparse.Namespace, which is no tensor; none of it was run" in message
    assert "Save the state dict by itself" in message
    (tmp_path / "a.pt").write_bytes(pickle.dumps(1))
    assert "bare pickle" in refusal(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    assert "Git LFS pointer" in refusal(tmp_path / "a.pt")
    with pytest.raises(InputError, match="does not exist: name a file"):
        read_all(tmp_path / "b.pt")
