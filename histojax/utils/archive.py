"""Named parts in one file that cannot be altered unnoticed: a zip with a table of its contents.

The first part, `contents.json`, is the contents table, sorted JSON: what the file is, its version,
and the size and SHA-256 of every other part. The SHA-256 of the table is the file's identity: equal
identities mean equal parts. The zip's comment, the last 64 bytes of the file, is the SHA-256 of all
bytes before it, so that damage between the parts is noticed as well.

Any program that reads zip files can open it. Nothing is unpacked to disk, and nothing that is read
can run code. A checksum shows damage; it does not show who made a file.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from histojax.errors import InputError
from histojax.utils import files, zips
from histojax.utils.array_files import npz

CONTENTS = "contents.json"
_DIGEST = 64  # Characters of a SHA-256 in hexadecimal.
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The date of every part, so that equal parts give equal files.
_MAX_CONTENTS = 2**24  # Bytes that the contents table may have.

# Models of the same trees again and again shrink by less, unless they are small.
_MOST_SHRUNK, _ALWAYS_UNPACKED = 100, 2**20

Contents = dict[str, Any]


def contents_table(kind: str, version: int, parts: Mapping[str, bytes | Path]) -> Contents:
    """The table of parts, bytes or files, that `write` puts into a file."""
    table = {}
    for name, part in parts.items():
        content = _content(part)
        table[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"kind": kind, "version": version, "parts": table}


def identity(contents: Contents) -> str:
    """The SHA-256, in hexadecimal, of a contents table as sorted JSON."""
    return hashlib.sha256(_as_json(contents)).hexdigest()


def check_path(path: Path) -> None:
    """Raises InputError where a folder is in the way of an archive."""
    if path.is_dir():
        example = path / "mine.histojax"
        raise InputError(f"{path} is a folder: name a file in it, such as {example}")


def to_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the content of an .npz file, without pickle."""
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()


def read_npz(opened: "Archive", name: str) -> dict[str, np.ndarray]:
    """The arrays of a part; InputError where it is damaged."""
    try:
        return npz.read_arrays(opened.read(name))
    except InputError:
        raise
    except Exception as error:  # NumPy's reader raises errors of many classes on damage.
        raise InputError(
            f"{name} of {opened.path} cannot be read: make the bundle again"
        ) from error


def write(path: Path, kind: str, version: int, parts: Mapping[str, bytes | Path]) -> str:
    """Writes parts, bytes or files, into one file, whole or not at all; returns its identity.

    Raises:
      InputError: the path is a folder.
    """
    check_path(path)
    contents = contents_table(kind, version, parts)
    with files.atomic_write(path) as temporary:
        with zipfile.ZipFile(temporary, "w", strict_timestamps=False) as archive:
            archive.writestr(zipfile.ZipInfo(CONTENTS, _EPOCH), _as_json(contents))
            for name, part in parts.items():
                entry = zipfile.ZipInfo(name, _EPOCH)
                # Text shrinks to a third; arrays hardly shrink.
                stored = name.endswith((".npz", ".npy"))
                entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as out:
                    out.write(_content(part))
            archive.comment = bytes(_DIGEST)
        checksum = _checksum(temporary)
        with temporary.open("r+b") as file:
            file.seek(-_DIGEST, 2)
            file.write(checksum.encode())
    return identity(contents)


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file that was opened and verified.

    Attributes:
      path: the file.
      contents: its contents table.
      zip: the open zip.
    """

    path: Path
    contents: Contents
    zip: zipfile.ZipFile

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(self.contents["parts"])

    @property
    def identity(self) -> str:
        """The SHA-256 of the contents table."""
        return identity(self.contents)

    def read(self, name: str) -> bytes:
        """A part; InputError where there is none of that name."""
        if name not in self.contents["parts"]:
            raise InputError(
                f"{self.path} has no part {name}: it was made by another program, make it again"
            )
        return zips.read_entry(self.zip, self.zip.getinfo(name))


@contextlib.contextmanager
def open_verified(path: Path, kind: str, version: int) -> Iterator[Archive]:
    """Opens a file that `write` wrote, and verifies all of it.

    Raises:
      InputError: the file is not there, is of another kind or version, is cut short or altered, or
        has a part too few or too many, or one that would unpack to very much more.
    """
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except FileNotFoundError as error:
            raise InputError(f"{path} is not there: expected a {kind}") from error
        except IsADirectoryError as error:
            raise InputError(f"{path} is a folder: expected a {kind}, which is one file") from error
        except Exception as error:  # zipfile raises more than BadZipFile where offsets are wrong.
            state = "is cut short or damaged" if _begins_as_zip(path) else "is something else"
            raise InputError(
                f"{path} {state}: expected a {kind}. Copy it again from its source"
            ) from error
        contents = _read_contents(archive, path, kind, version)
        _check_parts(archive, contents, path)
        if _checksum(path) != _written_checksum(path):
            name = _first_altered(archive, contents)
            place = f"in {name}" if name else "outside of its parts"
            raise InputError(
                f"{path} was altered after it was written ({place}): copy it again from its source"
            )
        yield Archive(path, contents, archive)


def _as_json(contents: Contents) -> bytes:
    return (json.dumps(contents, indent=2, sort_keys=True) + "\n").encode()


def _content(part: bytes | Path) -> bytes:
    return part if isinstance(part, bytes) else part.read_bytes()


def _checksum(path: Path) -> str:
    """The SHA-256, in hexadecimal, of a file without its last 64 bytes."""
    digest = hashlib.sha256()
    left = path.stat().st_size - _DIGEST
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 2**20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _written_checksum(path: Path) -> str:
    """The checksum that a file bears: its last 64 bytes as text."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _DIGEST))
        return file.read().decode("ascii", errors="replace")


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def _read_contents(archive: zipfile.ZipFile, path: Path, kind: str, version: int) -> Contents:
    """The contents table; InputError where the file is not of this kind and version."""
    try:
        if archive.getinfo(CONTENTS).file_size > _MAX_CONTENTS:
            raise ValueError
        contents = json.loads(zips.read_entry(archive, archive.getinfo(CONTENTS)))
        found_kind, found_version = contents["kind"], contents["version"]
        parts = contents["parts"].values()
        if not all(isinstance(part["bytes"], int) and part["sha256"] for part in parts):
            raise ValueError
    except Exception as error:  # zipfile, zlib and json raise errors of many classes on damage.
        raise InputError(
            f"{path} was altered, or is no {kind}: its {CONTENTS} cannot be read. Copy it again "
            "from its source"
        ) from error
    if found_kind != kind:
        raise InputError(f"{path} is a {found_kind}, expected a {kind}")
    if found_version != version:
        raise InputError(
            f"{path} is a {kind} of version {found_version}, expected version {version}: use the "
            "histojax that wrote it, or make it again"
        )
    return contents


def _check_parts(archive: zipfile.ZipFile, contents: Contents, path: Path) -> None:
    """Raises InputError where parts are missing, unknown or of another size; unpacks nothing."""
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    del sizes[CONTENTS]
    expected = {name: part["bytes"] for name, part in contents["parts"].items()}
    if missing := sorted(expected.keys() - sizes.keys()):
        raise InputError(
            f"{path} lacks {', '.join(missing[:5])} of its {len(expected)} parts: make it again"
        )
    if unknown := sorted(sizes.keys() - expected.keys()):
        raise InputError(
            f"{path} was altered: it holds {', '.join(unknown[:5])}, which its {CONTENTS} does not "
            "list"
        )
    if altered := sorted(name for name in expected if sizes[name] != expected[name]):
        raise InputError(
            f"{path} was altered in {', '.join(altered[:5])}: copy it again from its source"
        )
    for entry in archive.infolist():
        if entry.file_size > _ALWAYS_UNPACKED + _MOST_SHRUNK * entry.compress_size:
            raise InputError(
                f"{path} is no sound bundle: {entry.filename} would unpack from "
                f"{entry.compress_size:,} to {entry.file_size:,} bytes. Copy it again from its "
                "source"
            )


def _first_altered(archive: zipfile.ZipFile, contents: Contents) -> str | None:
    """The first part whose content is not the listed one; None where all parts are intact."""
    for name, part in contents["parts"].items():
        try:
            content = zips.read_entry(archive, archive.getinfo(name))
            if hashlib.sha256(content).hexdigest() != part["sha256"]:
                return name
        except Exception:  # zipfile and zlib raise errors of many classes on damage.
            return name
    return None
