"""Crafted files are refused by one message, in little time and memory."""

import dataclasses
from collections import Counter

import pytest

from tests.reliability import bomb_files, bombs

HEAVY = [name for name in bomb_files.BOMBS if any(word in name for word in bomb_files.SLOW)]


def fault_of(name, folder) -> str:
    return bombs.tried(name, folder).fault(bomb_files.BOMBS[name].may_be_read)


def test_each_is_refused_within_limits(tmp_path):
    faults = {}
    for i, name in enumerate(bomb_files.BOMBS):
        if name not in HEAVY:
            (tmp_path / str(i)).mkdir()
            faults[name] = fault_of(name, tmp_path / str(i))
    assert len(faults) > 70
    assert {name: fault for name, fault in faults.items() if fault} == {}


@pytest.mark.slow  # Gigabytes of zeros, and thousands of pages and groups, take long to make.
@pytest.mark.parametrize("name", HEAVY)
def test_so_is_each_that_takes_long_to_make(tmp_path, name):
    assert fault_of(name, tmp_path) == ""


def test_there_are_some_of_every_kind():
    kinds = Counter(name.partition("/")[0] for name in bomb_files.BOMBS)
    assert {"png", "tiff", "xlsx", "csv", "h5", "npz", "safetensors", "zip", "bundle"} <= set(kinds)


def test_what_takes_too_much_or_fails_is_a_fault(tmp_path, monkeypatch):
    def bomb(read):
        return bomb_files.Bomb(lambda folder: folder, read)

    def spend(_):
        return len(b"x" * 2**28)

    monkeypatch.setattr(
        bomb_files,
        "BOMBS",
        {
            "fails": bomb(lambda _: 1 / 0),
            "reads": bomb(lambda path: path),
            "takes": dataclasses.replace(bomb(spend), may_be_read=True),
        },
    )
    assert "ZeroDivisionError" in fault_of("fails", tmp_path)
    assert fault_of("reads", tmp_path).startswith("read: ")
    monkeypatch.setattr(bombs, "MOST_MEBIBYTES", 32)
    assert "MiB" in fault_of("takes", tmp_path)
