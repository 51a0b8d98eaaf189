"""An archive gives back the parts that were written, and refuses any alteration."""

import hashlib
import zipfile

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.utils import archive

KIND, VERSION = "test file", 3
PARTS = {"a.json": b'{"a": 1}', "models/b.txt": b"tree\n" * 500, "c.npz": bytes(range(256)) * 4}


@pytest.fixture
def path(tmp_path):
    archive.write(tmp_path / "file", KIND, VERSION, PARTS)
    return tmp_path / "file"


def read(path, kind=KIND, version=VERSION):
    with archive.open_verified(path, kind, version) as opened:
        return {name: opened.read(name) for name in opened.names}


def rewrite(path, change):
    """The same file with other parts, as another program would write it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_parts_come_back_from_bytes_and_from_files(path, tmp_path):
    assert read(path) == PARTS
    (tmp_path / "part").write_bytes(PARTS["models/b.txt"])
    parts = PARTS | {"models/b.txt": tmp_path / "part"}
    archive.write(tmp_path / "other", KIND, VERSION, parts)
    # Equal parts give equal files, whenever written.
    assert (tmp_path / "other").read_bytes() == path.read_bytes()
    assert zipfile.ZipFile(path).testzip() is None


def test_the_identity_is_the_digest_of_the_contents_table(path, tmp_path):
    with archive.open_verified(path, KIND, VERSION) as opened:
        identity = opened.identity
    table = zipfile.ZipFile(path).read("contents.json")
    assert identity == hashlib.sha256(table).hexdigest()
    assert identity == archive.write(tmp_path / "other", KIND, VERSION, PARTS)
    assert identity == archive.identity(archive.contents_table(KIND, VERSION, PARTS))
    reordered = dict(reversed(PARTS.items()))
    assert identity == archive.write(tmp_path / "other", KIND, VERSION, reordered)
    changed = PARTS | {"a.json": b'{"a": 2}'}
    assert identity != archive.write(tmp_path / "other", KIND, VERSION, changed)


def test_any_byte_that_is_changed_is_noticed(path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    end = len(whole)
    places = {0, 4, end - 1, end - 64, end - 70, *rng.integers(0, end, 150).tolist()}
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(InputError, match="altered|damaged|something else|lacks|version|is a "):
            read(path)


def test_the_part_that_was_changed_is_named(path):
    whole = path.read_bytes()
    place = whole.index(PARTS["c.npz"][:64]) + 10  # Stored as it is.
    path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    with pytest.raises(InputError, match=r"altered after it was written \(in c.npz\)"):
        read(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_is_refused(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="cut short or damaged|something else|altered"):
        read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.pop("models/b.txt"), "lacks models/b.txt of its 3 parts"),
        (
            lambda parts: parts.update({"../../evil": b"x"}),
            r"holds \.\./\.\./evil, which its contents.json does not list",
        ),
        (lambda parts: parts.update({"a.json": b'{"a": 12}'}), "altered in a.json"),
        (
            lambda parts: parts.update({"a.json": b'{"a": 2}'}),
            r"altered after it was written \(in a.json\)",
        ),
        (lambda parts: parts.pop("contents.json"), "contents.json cannot be read"),
        (lambda parts: parts.update({"contents.json": b"[]"}), "contents.json cannot be read"),
        (lambda parts: None, "altered after it was written"),
    ],
)
def test_a_file_that_another_program_packed_again_is_refused(path, change, message):
    rewrite(path, change)
    with pytest.raises(InputError, match=message):
        read(path)


def test_another_kind_another_version_and_no_such_file_are_refused(path, tmp_path):
    with pytest.raises(InputError, match="is a test file, expected a bundle"):
        read(path, kind="bundle")
    with pytest.raises(InputError, match="is a test file of version 3, expected version 4"):
        read(path, version=4)
    with pytest.raises(InputError, match="is not there"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    with (
        archive.open_verified(path, KIND, VERSION) as opened,
        pytest.raises(InputError, match="has no part z"),
    ):
        opened.read("z")
