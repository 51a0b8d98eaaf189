"""Named parts in one file that cannot be altered unnoticed: a zip whose last 64 bytes, its comment, are the SHA-256, in
hexadecimal, of all before them.

The first part, `contents.json`, says what the file is, its version, and every other part's size and SHA-256. Any unzip
can open it. Nothing is ever unpacked to disk, nothing read can run code. A checksum shows damage, not who made a file.
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
SEAL = 64  # Characters of a SHA-256 in hexadecimal.
EPOCH = (1980, 1, 1, 0, 0, 0)  # The date of every part, so that equal parts give equal files.
MOST_CONTENTS = 2**24  # Bytes that contents.json may have.

Contents = dict[str, Any]


def write(path: Path, kind: str, version: int, parts: Mapping[str, bytes | Path]) -> str:
    """Writes parts, bytes or files, into one file, whole or not at all; returns the seal."""
    described = {
        name: {"bytes": size_of(part), "sha256": sha256_of(part)} for name, part in parts.items()
    }
    contents = {"kind": kind, "version": version, "parts": described}
    with files.atomic_write(path) as temporary:
        with zipfile.ZipFile(
            temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False
        ) as archive:
            archive.writestr(
                zipfile.ZipInfo(CONTENTS, EPOCH), json.dumps(contents, indent=2) + "\n"
            )
            for name, part in parts.items():
                entry = zipfile.ZipInfo(name, EPOCH)
                # Arrays hardly shrink; text does, to a third.
                entry.compress_type = (
                    zipfile.ZIP_STORED if name.endswith((".npz", ".npy")) else zipfile.ZIP_DEFLATED
                )
                with archive.open(entry, "w", force_zip64=True) as out:
                    out.write(part if isinstance(part, bytes) else part.read_bytes())
            archive.comment = bytes(SEAL)
        found = seal(temporary)
        with temporary.open("r+b") as file:
            file.seek(-SEAL, 2)
            file.write(found.encode())
    return found


def size_of(part: bytes | Path) -> int:
    return len(part) if isinstance(part, bytes) else part.stat().st_size


def sha256_of(part: bytes | Path) -> str:
    if isinstance(part, bytes):
        return hashlib.sha256(part).hexdigest()
    with part.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(path: Path) -> str:
    """SHA-256, in hexadecimal, of a file but for its last 64 bytes."""
    digest, left = hashlib.sha256(), path.stat().st_size - SEAL
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 2**20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def sealed_with(path: Path) -> str:
    """The seal that a file bears: its last 64 bytes as text."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - SEAL))
        return file.read().decode("ascii", errors="replace")


def names(path: Path) -> list[str]:
    """The parts of a sealed file that was opened before, by name."""
    with zipfile.ZipFile(path) as archive:
        return [name for name in archive.namelist() if name != CONTENTS]


@contextlib.contextmanager
def open_verified(path: Path, kind: str, version: int) -> Iterator[Callable[[str], bytes]]:
    """Opens a sealed file, checks all of it, and yields what reads a part of it by name.

    Raises:
      InputError: it is not there, no such file, of another version, cut short, altered, or without one of its parts;
        or a part is asked for that it does not have.
    """
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except FileNotFoundError as error:
            raise InputError(f"{path} is not there: expected a {kind}") from error
        except IsADirectoryError as error:
            raise InputError(f"{path} is a folder: expected a {kind}, which is one file") from error
        except (
            Exception
        ) as error:  # zipfile raises more than BadZipFile where sizes and places make no sense.
            how = "is cut short or damaged" if begins_as_zip(path) else "is something else"
            raise InputError(
                f"{path} {how}: expected a {kind}. Copy it again from its source"
            ) from error
        contents = contents_of(archive, path, kind, version)
        refuse_other_parts(archive, contents, path)
        if seal(path) != sealed_with(path):
            name = first_altered(archive, contents)
            where = f"in {name}" if name else "outside of its parts"
            raise InputError(
                f"{path} was altered after it was written ({where}): copy it again from its source"
            )

        def part(name: str) -> bytes:
            if name not in contents["parts"]:
                raise InputError(
                    f"{path} has no part {name}: it was made by another program, make it anew"
                )
            return archive.read(name)

        yield part


def begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def contents_of(archive: zipfile.ZipFile, path: Path, kind: str, version: int) -> Contents:
    """What a file says it holds; InputError where that is no `kind` of this version."""
    try:
        if archive.getinfo(CONTENTS).file_size > MOST_CONTENTS:
            raise ValueError
        contents = json.loads(archive.read(CONTENTS))
        found_kind, found = contents["kind"], contents["version"]
        if not all(
            isinstance(each["bytes"], int) and each["sha256"] for each in contents["parts"].values()
        ):
            raise ValueError
    except Exception as error:  # zipfile, zlib and json raise whatever damage throws up.
        raise InputError(
            f"{path} was altered, or is no {kind}: its {CONTENTS} cannot be read. Copy it again from its source"
        ) from error
    if found_kind != kind:
        raise InputError(f"{path} is a {found_kind}, expected a {kind}")
    if found != version:
        raise InputError(
            f"{path} is a {kind} of version {found}, expected version {version}: use the histojax that wrote it, or "
            "make it anew"
        )
    return contents


def refuse_other_parts(archive: zipfile.ZipFile, contents: Contents, path: Path) -> None:
    """Raises InputError where parts are missing, unknown, or of other sizes; nothing is unpacked."""
    there = {
        entry.filename: entry.file_size
        for entry in archive.infolist()
        if entry.filename != CONTENTS
    }
    wanted = {name: each["bytes"] for name, each in contents["parts"].items()}
    if missing := sorted(wanted.keys() - there.keys()):
        raise InputError(
            f"{path} lacks {', '.join(missing[:5])} of its {len(wanted)} parts: make it anew"
        )
    if extra := sorted(there.keys() - wanted.keys()):
        raise InputError(
            f"{path} was altered: it holds {', '.join(extra[:5])}, of which its {CONTENTS} says nothing"
        )
    if other := sorted(name for name in wanted if there[name] != wanted[name]):
        raise InputError(
            f"{path} was altered in {', '.join(other[:5])}: copy it again from its source"
        )


def first_altered(archive: zipfile.ZipFile, contents: Contents) -> str | None:
    """The first part that is not what contents.json says; None where the alteration lies between the parts."""
    for name, each in contents["parts"].items():
        try:
            if hashlib.sha256(archive.read(name)).hexdigest() != each["sha256"]:
                return name
        except Exception:  # As above.
            return name
    return None
