"""Damaged files of weights, and those that claim what they do not hold: one message for each."""

import io
import json
import pickle
import re
import struct
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from histojax.errors import InputError
from histojax.utils import array_files
from histojax.utils.array_files import hdf5_heaps
from histojax.utils.array_files.stored import Refused
from tests.encoders import made_files
from tests.encoders.hostile import read_all, refusal
from tests.encoders.made_files import archive, program, safetensors, tensor

ARRAYS = {"a.weight": np.arange(24, dtype="f").reshape(2, 3, 2, 2), "a.bias": np.ones(3, "f")}
HUGE = 2**39


# Archives


def zipped(members: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(out := io.BytesIO(), "w", compression) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return out.getvalue()


def npy(header: str, body: bytes = b"", version=(1, 0)) -> bytes:
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header.encode() + body


def described(shape="(2,)", dtype="'<f4'", order="False") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def claiming(content: bytes, name: bytes, size: int) -> bytes:
    """A zip whose directory states another size for a member."""
    entry = content.rindex(b"PK\x01\x02")
    while name not in content[entry + 46 : entry + 46 + len(name)]:
        entry = content.rindex(b"PK\x01\x02", 0, entry)
    sizes = struct.pack("<II", size, size)
    return content[: entry + 20] + sizes + content[entry + 28 :]


GOOD = archive(program(tensor()), [np.arange(12, dtype="f")])
BODY = np.ones(2, "f").tobytes()
BOMB = bytes(64 * 2**20)
ARCHIVES = {
    "a storage whose size is a lie": claiming(
        archive(program(tensor(count=2**20)), [np.arange(12, dtype="f")]), b"archive/data/0", 2**22
    ),
    "a compressed storage": zipped(
        {"archive/data.pkl": program(tensor()), "archive/data/0": bytes(48)}, zipfile.ZIP_DEFLATED
    ),
    "a pickle that is a bomb": zipped({"archive/data.pkl": BOMB}, zipfile.ZIP_DEFLATED),
    "a pickle that is a bomb by LZMA": zipped({"a/data.pkl": b"a"}, zipfile.ZIP_LZMA),
    "TorchScript": zipped({"a/data.pkl": program(), "a/code/__torch__.py": b"import os"}),
    "another kind of zip": zipped({"model.onnx": b"a"}),
    "a zip cut short": GOOD[:-30],
    "objects": zipped({"a.npy": npy(described(dtype="'|O'"), pickle.dumps(1))}),
    "a structure with objects": zipped({"a.npy": npy(described(dtype="[('a', 'O')]"))}),
    "texts": zipped({"a.npy": npy(described(dtype="'<U9'"), bytes(72))}),
    "a huge shape": zipped({"a.npy": npy(described(f"({HUGE},)"), BODY)}),
    "a shape that overflows": zipped({"a.npy": npy(described("(2**31, 2**31, 2**31)"), BODY)}),
    "sides that overflow": zipped({"a.npy": npy(described(f"({HUGE}, {HUGE}, {HUGE})"), BODY)}),
    "a negative shape": zipped({"a.npy": npy(described("(-2,)"), BODY)}),
    "many sides": zipped({"a.npy": npy(described(f"({'1, ' * 60})"), BODY)}),
    "a shape that is code": zipped({"a.npy": npy(described("__import__('os')"), BODY)}),
    "a shape that is text": zipped({"a.npy": npy(described("'a'"), BODY)}),
    "a header that is code": zipped({"a.npy": npy("exit()\n", BODY)}),
    "a header that is deep": zipped({"a.npy": npy("(" * 9000 + "\n", BODY)}),
    "a header that is long": zipped({"a.npy": npy(described() + " " * 50000, BODY)}),
    "a later version that is a bomb": zipped(
        {"a.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", len(BOMB)) + BOMB}, zipfile.ZIP_DEFLATED
    ),
    "an unknown version": zipped({"a.npy": npy(described(), BODY, (9, 0))}),
    "a body that is short": zipped({"a.npy": npy(described("(3,)"), BODY)}),
    "a body whose size is a lie": claiming(
        zipped({"a.npy": npy(described(f"({2**20},)"), BODY)}), b"a.npy", 2**23
    ),
    "an array that is LZMA": zipped({"a.npy": npy(described(), BODY)}, zipfile.ZIP_LZMA),
    "an array that is no array": zipped({"a.npy": b"text"}),
    "an empty array": zipped({"a.npy": b""}),
    "a wrong checksum": zipped({"a.npy": npy(described(), BODY)}).replace(BODY, bytes(8), 1),
}


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=list(ARCHIVES))
def test_archives_that_lie_are_refused(content, tmp_path):
    (tmp_path / "a.zip").write_bytes(content)
    refusal(tmp_path / "a.zip")


# safetensors


def raw(header: bytes, length: int | None = None, body: bytes = BODY) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def entry(**changes) -> bytes:
    return safetensors({"a": np.ones(2, "f")}, a=changes)


SAFETENSORS = {
    "a header beyond the file": raw(b"{}", 2**40),
    "a header of all memory": raw(b"{}", 2**64 - 1),
    "a header that is deep": raw(b'{"a":' + b"[" * 100_000),
    "a header that is no JSON": raw(b"{'a': 1}"),
    "a header that is no object": raw(b"{}[]"),
    "a header cut short": safetensors(ARRAYS)[:40],
    "a body cut short": safetensors(ARRAYS)[:-4],
    "an entry that is no object": raw(b'{"a": 1}'),
    "an entry without a place": raw(b'{"a": {"dtype": "F32", "shape": [2]}}'),
    "an unknown dtype": entry(dtype="F8_E4M3"),
    "a dtype that is code": entry(dtype="__import__('os')"),
    "a dtype that is a list": entry(dtype=["F32"]),
    "a huge shape": entry(shape=[HUGE]),
    "a shape that overflows": entry(shape=[2**62, 4]),
    "a negative shape": entry(shape=[-2, -1]),
    "a shape of fractions": entry(shape=[2.0]),
    "a shape of truths": entry(shape=[True, 2]),
    "a shape that is text": entry(shape="ab"),
    "many sides": entry(shape=[1] * 99 + [2]),
    "a place beyond the file": entry(data_offsets=[8, 16]),
    "a place before the file": entry(data_offsets=[-8, 0]),
    "a place that ends before it begins": entry(data_offsets=[8, 0]),
    "a place that is too short": entry(data_offsets=[0, 4]),
    "a place of three": entry(data_offsets=[0, 4, 8]),
    "too many entries": raw(
        json.dumps(
            {f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_001)}
        ).encode()
    ),
    "a number of a million digits": raw(b'{"a": ' + b"9" * 1_000_000 + b"}"),
}


@pytest.mark.parametrize("content", SAFETENSORS.values(), ids=list(SAFETENSORS))
def test_safetensors_that_lie_are_refused(content, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    refusal(tmp_path / "a.safetensors")


# HDF5


def hdf5(write):
    def written(path):
        with h5py.File(path, "w") as file:
            write(file, path.parent)

    return written


def layers(file, names, **attributes):
    file.attrs["layer_names"] = names
    for name, value in attributes.items():
        file.create_group(name).attrs["weight_names"] = value


def linked(link):
    def write(file, folder):
        with h5py.File(folder / "other.h5", "w") as other:
            other["a/k"] = np.ones(2)
            other["a"].attrs["weight_names"] = [b"k"]
        layers(file, [b"a"])
        file["a"] = link(folder)

    return write


def linked_array(file, folder):
    layers(file, [b"a"], a=[b"k"])
    file["a/k"] = h5py.ExternalLink(folder / "other.h5", "k")


def virtual(file, folder):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "k", (2,))
    file.create_virtual_dataset("a", layout)


def outside(file, folder):
    (folder / "secret").write_bytes(bytes(64))
    file.create_dataset("a", (2,), "f4", external=[(folder / "secret", 0, 8)])


def bomb(file, folder):
    file.create_dataset("a", (64 * 2**20,), "u1", compression="gzip", chunks=(2**20,))[:] = 0


HDF5 = {
    "a link to another file": linked(lambda folder: h5py.ExternalLink(folder / "other.h5", "a")),
    "a link to another place": linked(lambda folder: h5py.SoftLink("/b")),
    "an array in another file": linked_array,
    "a virtual array": virtual,
    "values in another file": outside,
    "a compressed bomb": bomb,
    "a huge array": lambda file, _: file.create_dataset("a", (HUGE,), "f4"),
    "huge chunks": lambda file, _: file.create_dataset(
        "a", (2,), "f4", maxshape=(None,), chunks=(2**27,)
    ),
    "texts": lambda file, _: file.create_dataset("a", data=[b"abc"]),
    "texts of any length": lambda file, _: file.create_dataset("a", data=["abc"]),
    "references": lambda file, _: file.create_dataset("a", (2,), h5py.ref_dtype),
    "a structure": lambda file, _: file.create_dataset("a", (2,), [("x", "f4"), ("y", "i4")]),
    "nothing": lambda file, _: file.create_dataset("a", dtype="f4", shape=None),
    "a layer that is not there": lambda file, _: layers(file, [b"a"]),
    "an array that is not there": lambda file, _: layers(file, [b"a"], a=[b"k"]),
    "a layer without names": lambda file, _: (layers(file, [b"a"]), file.create_group("a")),
    "a layer that is an array": lambda file, _: (
        layers(file, [b"a"]),
        file.create_dataset("a", (2,), "f4"),
    ),
    "an array that is a group": lambda file, _: (
        layers(file, [b"a"], a=[b"k"]),
        file.create_group("a/k"),
    ),
    "names that are numbers": lambda file, _: layers(file, [1.5, 2.5]),
    "names that are no text": lambda file, _: layers(file, [b"\xff\xfe"]),
    "names that go up": lambda file, _: layers(file, [b"../a"]),
}


@pytest.mark.parametrize("write", [hdf5(write) for write in HDF5.values()], ids=list(HDF5))
def test_hdf5_that_points_elsewhere_or_lies_is_refused(write, tmp_path):
    write(tmp_path / "a.h5")
    refusal(tmp_path / "a.h5")


def of_texts(path) -> bytes:
    """A Keras file whose names are texts of any length, and the place of their heap."""
    with h5py.File(path, "w") as file:
        layers(file, ["a"], a=["a/kernel:0"])
        file["a/a/kernel:0"] = np.ones(3, "f")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("object_", "place", "change"),
    [
        ("free space", 8, b"\x07\x0f"),
        ("a text", 9, b"\xff\x00"),
        ("a long text", 9, b"\x08\x00"),
        ("the heap", -4, b"\x01\x00"),
        ("the heap", -8, b"\x08\x00"),
    ],
)
def test_heaps_in_which_hdf5_goes_round_in_circles_or_takes_all_memory_are_refused(
    object_, place, change, tmp_path
):
    """Without the check, the HDF5 library never comes back from the first."""
    content = bytearray(of_texts(tmp_path / "a.h5"))
    heap = content.index(b"GCOL")
    objects = [heap + 16]
    while content[objects[-1]]:
        size = int.from_bytes(content[objects[-1] + 8 : objects[-1] + 16], "little")
        objects.append(objects[-1] + 16 + -(-size // 8) * 8)
    at = (objects[-1] if object_ == "free space" else objects[0]) + place
    content[at : at + 2] = change
    assert list(read_all(tmp_path / "a.h5")) == ["a/a/kernel:0"]
    (tmp_path / "a.h5").write_bytes(content)
    assert re.search("heap|text of", refusal(tmp_path / "a.h5"))


def test_references_that_state_another_length_than_the_text_are_refused(tmp_path):
    """Without the check, the HDF5 library makes room for 4 GB."""
    content = bytearray(of_texts(tmp_path / "a.h5"))
    reference = content.index(struct.pack("<IQI", 1, content.index(b"GCOL"), 1))
    content[reference : reference + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.h5").write_bytes(content)
    assert "a reference to one of its texts is damaged" in refusal(tmp_path / "a.h5")


@pytest.mark.parametrize("heap", [0, 8, 2**40])
def test_references_to_no_heap_are_refused(heap, tmp_path):
    """Without the check, the HDF5 library makes room for 1 GB before it looks for the heap."""
    content = bytearray(of_texts(tmp_path / "a.h5"))
    sound = struct.pack("<IQI", 1, content.index(b"GCOL"), 1)
    (tmp_path / "a.h5").write_bytes(content.replace(sound, struct.pack("<IQI", 2**30, heap, 1)))
    assert "a reference to one of its texts is damaged" in refusal(tmp_path / "a.h5")


def test_references_are_told_from_numbers_and_long_texts_are_used_once(tmp_path):
    """In attributes of both kinds of storage, and among values that look like references."""
    for options in ({}, {"libver": "latest"}, {"track_order": True}):
        with h5py.File(tmp_path / "a.h5", "w", **options) as file:
            layers(file, ["a", "bc"], a=["k"], bc=["k"])
            file["a/k"] = np.ones(3, "f")
            file["bc/k"] = np.frombuffer(b"layer_names\0GCOL\x01\0\0\0" + b"\xff" * 8, np.uint8)
            for i in range(12):  # Beyond eight, they are stored in another way.
                file.attrs[f"of_keras{i}"] = "1.2.3"
        assert list(read_all(tmp_path / "a.h5")) == ["a/k", "bc/k"]
        content = (tmp_path / "a.h5").read_bytes()
        with pytest.raises(Refused, match="a reference"):
            hdf5_heaps.check(io.BytesIO(lengthened(content)), ("layer_names",))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layers(file, ["a" * 1100, "b" * 1100])
    content = (tmp_path / "a.h5").read_bytes()
    first, second = (struct.pack("<IQI", 1100, content.index(b"GCOL"), i) for i in (1, 2))
    hdf5_heaps.check(io.BytesIO(content), ("layer_names",))
    with pytest.raises(Refused, match="used more than once"):
        hdf5_heaps.check(io.BytesIO(content.replace(second, first)), ("layer_names",))


def lengthened(content: bytes) -> bytes:
    """The file with another length in the reference to `bc`, whose heap and index are kept."""
    heaps = [match.start() for match in re.finditer(b"GCOL", content)]
    (sound,) = {text for heap in heaps if (text := struct.pack("<IQ", 2, heap)) in content}
    assert content.count(sound) == 1
    return content.replace(sound, struct.pack("<I", 2**30) + sound[4:])


def test_compressed_members_of_many_ratios_hold_no_more_than_is_read(tmp_path):
    """64 MiB of zeros in 64 kB: only their header is read until the values are asked for."""
    content = zipped({"a.npy": npy(described(f"({16 * 2**20},)"), BOMB)}, zipfile.ZIP_DEFLATED)
    (tmp_path / "a.npz").write_bytes(content)
    tracemalloc.start()
    with array_files.open_arrays(tmp_path / "a.npz") as (_, arrays):
        assert arrays["a"].shape == (16 * 2**20,)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


# Damage


def keras_file(path):
    layer = {"a/kernel:0": ARRAYS["a.weight"], "a/bias:0": ARRAYS["a.bias"]}
    made_files.keras(path, {"a": layer})
    return path.read_bytes()


WHOLE = {
    "h5": keras_file,
    "h5 of texts": of_texts,
    "safetensors": lambda path: safetensors(ARRAYS),
    "npz": lambda path: made_files.npz(ARRAYS),
    "pt": lambda path: made_files.pytorch({"state_dict": ARRAYS, "epoch": 3}),
}


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("kind", list(WHOLE))
def test_damaged_files_are_refused_or_give_arrays(kind, seed, tmp_path):
    """Bytes changed, cut, or put in: values may change, but nothing else happens."""
    whole = WHOLE[kind](tmp_path / "whole")
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    damaged = bytearray(whole)
    for place in rng.integers(len(damaged), size=rng.integers(1, 12)):
        damaged[place] = rng.integers(256)
    if seed % 3 == 1:
        del damaged[rng.integers(len(damaged)) :]
    if seed % 3 == 2:
        place = rng.integers(len(damaged))
        damaged[place:place] = rng.bytes(rng.integers(1, 64))
    (tmp_path / "damaged").write_bytes(damaged)
    try:
        found = read_all(tmp_path / "damaged")
    except InputError as error:
        if not str(error).startswith(f"{tmp_path / 'damaged'} cannot be read as a file of weights"):
            pytest.fail(str(error))
    else:
        assert all(isinstance(array, np.ndarray) and array.size <= 32 for array in found.values())
