"""Zip files from elsewhere: opened if they are safe, read within limits, unpacked by file.

Files are written under names that the caller chooses, so no name in a zip decides where anything
goes. What a zip states about sizes is checked before anything is read, and no more than that is
unpacked.
"""

import dataclasses
import io
import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from histojax.errors import InputError
from histojax.utils import files
from histojax.utils.progress import Progress

# What zipfile and its decompressors raise on damaged files. Nothing is written where these are
# caught, so that a full disk is never taken for damage.
_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
_ERRORS += (NotImplementedError, UnicodeDecodeError)
_LONGEST_NAME = 1024  # With its folders.
# Parts of names that are a device to Windows, have characters that it or a terminal obeys, or are
# longer than files' names can be.
_NO_FILE = re.compile(
    r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?|.*[<>:\"|?*\x00-\x1f\x7f].*|.{256,}",
    re.IGNORECASE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in a zip or in a folder; `histojax.images.reader` reads it as it reads a path.

    Attributes:
      path: where it is.
      max_bytes: how many bytes it may have, unpacked.
      remedy: what to do where it is damaged, as the end of a message.
    """

    path: Path | zipfile.Path
    max_bytes: int
    remedy: str

    @property
    def file_name(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return self.path.stem

    @property
    def size(self) -> int:
        """How many bytes it has, unpacked, as a zip states it."""
        if isinstance(self.path, Path):
            return self.path.stat().st_size
        return self.path.root.getinfo(self.path.at).file_size

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
          InputError: it has too many bytes, or is damaged.
        """
        try:
            if self.size > self.max_bytes:
                raise InputError(
                    f"{self.path} has {self.size} bytes, expected {self.max_bytes} at most: "
                    f"{self.remedy}"
                )
            if isinstance(self.path, Path):
                return self.path.read_bytes()
            return read_entry(self.path.root, self.path.root.getinfo(self.path.at))
        except _ERRORS as error:
            why = str(error) or "it ends early"  # EOFError has no text.
            raise InputError(f"{self.path} cannot be read ({why}): {self.remedy}") from error

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.read_bytes())

    def is_file(self) -> bool:
        return self.path.is_file()

    def __str__(self) -> str:
        return str(self.path)


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """What an entry holds, of which no more than the zip states is unpacked.

    `ZipFile.read` unpacks all that there is before it looks at the size.
    """
    with archive.open(entry) as file:
        return file.read(entry.file_size)


def open_zip(archive: Path, remedy: str) -> zipfile.Path:
    """A zip as a folder.

    Raises:
      InputError: it is no zip or cut short, encrypted, or has links or names that lead out of its
        folder or that files cannot have everywhere; ends with `remedy`.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except _ERRORS as error:
        raise InputError(
            f"{archive} is no zip file, or is cut short ({error}): {remedy}"
        ) from error
    for info in opened.infolist():
        parts = re.split(r"[/\\]", info.filename)
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise InputError(
                f"{archive} holds {info.filename!r}, a name that leads out of its folder: do not "
                f"unpack it, {remedy}"
            )
        if any(map(_NO_FILE.fullmatch, parts)) or len(info.filename) > _LONGEST_NAME:
            raise InputError(
                f"{archive} holds {info.filename[:80]!r}, a name that files cannot have on every "
                f"system: do not unpack it, {remedy}"
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(
                f"{archive} holds {info.filename!r}, a link, which the published file does not: do "
                f"not unpack it, {remedy}"
            )
        if info.flag_bits & 1:
            raise InputError(
                f"{archive} is encrypted ({info.filename}), as the published file is not: {remedy}"
            )
    return zipfile.Path(opened)


def unpack(members: Mapping[Path, Member]) -> int:
    """Writes files to these paths, each whole or not at all, but for those that are there.

    Returns:
      How many were written.

    Raises:
      InputError: a file has too many bytes or is damaged, or the disk has no room for them.
    """
    missing = {path: member for path, member in members.items() if not _is_there(path, member)}
    if not missing:
        return 0
    folder = next(iter(missing)).parent
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sum(member.size for member in missing.values())
    files.require_room(folder, wanted, f"unpacking {len(missing)} files")
    with Progress("unpack", len(missing), "files") as bar:
        for path, member in missing.items():
            content = member.read_bytes()
            with files.atomic_write(path) as temporary:
                temporary.write_bytes(content)
            bar.add(1)
    return len(missing)


def _is_there(path: Path, member: Member) -> bool:
    return path.is_file() and path.stat().st_size == member.size
