"""Zips from elsewhere: what is unsafe is refused, what is unpacked is whole and within limits."""

import stat
import types
import zipfile

import pytest

from histojax.errors import InputError
from histojax.utils import files, zips
from histojax.utils.zips import Member

REMEDY = "download it again"


def made(folder, name="root/a.txt", content=b"abc", mode=0o644, **options) -> zipfile.Path:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    with zipfile.ZipFile(folder / "made.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return folder / "made.zip"


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("../a.txt", 0o644, "a name that leads out of its folder"),
        ("root/../../a.txt", 0o644, "a name that leads out of its folder"),
        ("/etc/a.txt", 0o644, "a name that leads out of its folder"),
        ("C:\\a.txt", 0o644, "a name that leads out of its folder"),
        ("root\\..\\..\\a.txt", 0o644, "a name that leads out of its folder"),
        ("root/CON.txt", 0o644, "a name that files cannot have on every system"),
        ("nul", 0o644, "a name that files cannot have on every system"),
        ("root/a.txt:b", 0o644, "a name that files cannot have on every system"),
        (f"root/{'a' * 256}", 0o644, "a name that files cannot have on every system"),
        ("a/" * 513, 0o644, "a name that files cannot have on every system"),
        ("root/a.txt", stat.S_IFLNK | 0o777, "a link, which the published file does not"),
    ],
)
def test_names_that_lead_out_and_links_are_refused(tmp_path, name, mode, message):
    with pytest.raises(InputError, match=f"{message}.*not unpack it, {REMEDY}"):
        zips.open_zip(made(tmp_path, name, mode=mode), REMEDY)


def test_files_are_unpacked_once_under_the_names_asked_for(tmp_path):
    root = zips.open_zip(made(tmp_path, content=b"abc"), REMEDY)
    members = {tmp_path / "out" / "b.txt": Member(root / "root" / "a.txt", 3, REMEDY)}
    assert zips.unpack(members) == 1
    assert (tmp_path / "out" / "b.txt").read_bytes() == b"abc"
    assert zips.unpack(members) == 0
    (tmp_path / "out" / "b.txt").write_bytes(b"ab")
    assert zips.unpack(members) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.txt"]


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    bomb = zips.open_zip(made(tmp_path, content=bytes(2_000_000)), REMEDY) / "root" / "a.txt"
    path = tmp_path / "out" / "a.txt"
    with pytest.raises(InputError, match="has 2000000 bytes, expected 1000 at most: download it"):
        zips.unpack({path: Member(bomb, 1_000, REMEDY)})
    assert not path.exists()
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1_999_999)
    )
    with pytest.raises(InputError, match="unpacking 1 files needs 2,000,000 bytes"):
        zips.unpack({path: Member(bomb, 3_000_000, REMEDY)})


@pytest.mark.parametrize(
    ("place", "byte", "message"),
    [
        (8, 1, "is encrypted .*, as the published file is not"),
        (9, 8, "is no zip file, or is cut short .*can't decode byte 0xff"),
    ],
)
def test_an_encrypted_zip_and_one_with_a_damaged_name_are_refused(tmp_path, place, byte, message):
    archive = made(tmp_path)
    content = archive.read_bytes().replace(b"a.txt", b"\xff.txt")
    entry = content.index(b"PK\1\2")
    archive.write_bytes(content[: entry + place] + bytes([byte]) + content[entry + place + 1 :])
    with pytest.raises(InputError, match=f"{message}.*{REMEDY}"):
        zips.open_zip(archive, REMEDY)


def test_damaged_content_is_told(tmp_path):
    archive = made(tmp_path)
    content = bytearray(archive.read_bytes())
    content[30 + len("root/a.txt")] = 0xFF
    archive.write_bytes(content)
    member = Member(zips.open_zip(archive, REMEDY) / "root" / "a.txt", 3, REMEDY)
    with pytest.raises(InputError, match=f"cannot be read .*invalid block type.*{REMEDY}"):
        member.read_bytes()


def test_a_member_that_is_larger_than_it_states_is_refused(tmp_path):
    archive = made(tmp_path, content=bytes(2_000_000))
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        place = content.index(signature) + offset
        content[place : place + 4] = (1_000).to_bytes(4, "little")
    archive.write_bytes(content)
    member = Member(zips.open_zip(archive, REMEDY) / "root" / "a.txt", 1_000, REMEDY)
    with pytest.raises(InputError, match=r"a.txt cannot be read \(Bad CRC-32.*download it again"):
        member.read_bytes()
