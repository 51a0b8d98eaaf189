"""Named parts in one zip file, in which any alteration is noticed.

The first part, `contents.json`, says what kind of file it is, its version, and the size and
SHA-256 of every other part. The zip's comment, its last 64 bytes, is the SHA-256 of all bytes
before them, in hexadecimal. Any zip program can open the file. Nothing is ever unpacked to disk,
and nothing that is read can run code. A checksum shows damage, not who made a file.
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from histojax.errors import InputError
from histojax.utils import files

CONTENTS = "contents.json"
_SEAL_BYTES = 64  # A SHA-256 in hexadecimal.
_DATE = (1980, 1, 1, 0, 0, 0)  # Of every part, so that equal parts give equal files.
_MAX_CONTENTS_BYTES = 2**24

Contents = dict[str, Any]


def write(path: Path, kind: str, version: int, parts: Mapping[str, bytes | Path]) -> str:
    """Writes parts, bytes or files, into one file, whole or not at all; returns its seal."""
    listed = {name: _size_and_sha256(part) for name, part in parts.items()}
    contents = {"kind": kind, "version": version, "parts": listed}
    with files.atomic_write(path) as temporary:
        with zipfile.ZipFile(
            temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False
        ) as archive:
            archive.writestr(zipfile.ZipInfo(CONTENTS, _DATE), files.to_json(contents))
            for name, part in parts.items():
                entry = zipfile.ZipInfo(name, _DATE)
                # Arrays hardly shrink; text does, to a third.
                stored = name.endswith((".npz", ".npy"))
                entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as out:
                    out.write(part if isinstance(part, bytes) else part.read_bytes())
            archive.comment = bytes(_SEAL_BYTES)
        computed = seal(temporary)
        with temporary.open("r+b") as file:
            file.seek(-_SEAL_BYTES, 2)
            file.write(computed.encode())
    return computed


def _size_and_sha256(part: bytes | Path) -> Contents:
    if isinstance(part, bytes):
        return {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
    return {"bytes": part.stat().st_size, "sha256": files.sha256(part)}


def seal(path: Path) -> str:
    """The SHA-256, in hexadecimal, of a file without its last 64 bytes."""
    digest = hashlib.sha256()
    remaining = path.stat().st_size - _SEAL_BYTES
    with path.open("rb") as file:
        while remaining > 0 and (block := file.read(min(remaining, 2**20))):
            digest.update(block)
            remaining -= len(block)
    return digest.hexdigest()


def sealed_with(path: Path) -> str:
    """The seal written in a file: its last 64 bytes as text."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _SEAL_BYTES))
        return file.read().decode("ascii", errors="replace")


def names(path: Path) -> list[str]:
    """The names of the parts of a file that `open_verified` accepted."""
    with zipfile.ZipFile(path) as archive:
        return [name for name in archive.namelist() if name != CONTENTS]


@contextlib.contextmanager
def open_verified(path: Path, kind: str, version: int) -> Iterator[Callable[[str], bytes]]:
    """Opens a file, verifies all of it, and yields a function that reads a part by name.

    Raises:
      InputError: the file is not there, of another kind or version, cut short, altered, or lacks
        one of its parts; or a part is asked for that it does not have.
    """
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except FileNotFoundError as error:
            raise InputError(f"{path} is not there: expected a {kind}") from error
        except IsADirectoryError as error:
            raise InputError(f"{path} is a folder: expected a {kind}, which is one file") from error
        # zipfile raises more than BadZipFile where sizes and offsets make no sense.
        except Exception as error:
            problem = "is cut short or damaged" if _starts_as_zip(path) else "is something else"
            raise InputError(
                f"{path} {problem}: expected a {kind}. Copy it again from its source"
            ) from error
        contents = _read_contents(archive, path, kind, version)
        _require_listed_parts(archive, contents, path)
        if seal(path) != sealed_with(path):
            name = _first_altered(archive, contents)
            where = f"in {name}" if name else "outside of its parts"
            raise InputError(
                f"{path} was altered after it was written ({where}): copy it again from its source"
            )

        def read_part(name: str) -> bytes:
            if name not in contents["parts"]:
                raise InputError(
                    f"{path} has no part {name}: it was made by another program, make it anew"
                )
            return archive.read(name)

        yield read_part


def _starts_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def _read_contents(archive: zipfile.ZipFile, path: Path, kind: str, version: int) -> Contents:
    """The table of contents; InputError where it is not that of a `kind` of this version."""
    try:
        if archive.getinfo(CONTENTS).file_size > _MAX_CONTENTS_BYTES:
            raise ValueError
        contents = json.loads(archive.read(CONTENTS))
        found_kind = contents["kind"]
        found_version = contents["version"]
        parts = contents["parts"].values()
        if not all(isinstance(part["bytes"], int) and part["sha256"] for part in parts):
            raise ValueError
    except Exception as error:  # zipfile, zlib and json raise many kinds on damaged bytes.
        raise InputError(
            f"{path} was altered, or is no {kind}: its {CONTENTS} cannot be read. Copy it again "
            "from its source"
        ) from error
    if found_kind != kind:
        raise InputError(f"{path} is a {found_kind}, expected a {kind}")
    if found_version != version:
        raise InputError(
            f"{path} is a {kind} of version {found_version}, expected version {version}: use the "
            "histojax that wrote it, or make it anew"
        )
    return contents


def _require_listed_parts(archive: zipfile.ZipFile, contents: Contents, path: Path) -> None:
    """Raises InputError where parts are missing, not listed, or of another size; reads no part."""
    sizes = {
        entry.filename: entry.file_size
        for entry in archive.infolist()
        if entry.filename != CONTENTS
    }
    listed = {name: part["bytes"] for name, part in contents["parts"].items()}
    if missing := sorted(listed.keys() - sizes.keys()):
        raise InputError(
            f"{path} lacks {', '.join(missing[:5])} of its {len(listed)} parts: make it anew"
        )
    if unlisted := sorted(sizes.keys() - listed.keys()):
        raise InputError(
            f"{path} was altered: it holds {', '.join(unlisted[:5])}, which its {CONTENTS} does "
            "not list"
        )
    if altered := sorted(name for name in listed if sizes[name] != listed[name]):
        raise InputError(
            f"{path} was altered in {', '.join(altered[:5])}: copy it again from its source"
        )


def _first_altered(archive: zipfile.ZipFile, contents: Contents) -> str | None:
    """The first part with another SHA-256 than listed; None if only bytes between them differ."""
    for name, part in contents["parts"].items():
        try:
            if hashlib.sha256(archive.read(name)).hexdigest() != part["sha256"]:
                return name
        except Exception:  # zipfile and zlib raise many kinds on damaged bytes.
            return name
    return None
