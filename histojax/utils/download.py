"""Fetching one file: with progress, resumed where it broke off, and never used with a wrong checksum."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from histojax.errors import InputError
from histojax.utils.progress import Progress

CHUNK = 1 << 20
TIMEOUT_S = 60


def md5(path: Path) -> str:
    """The file's MD5 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def fetch(url: str, path: Path, expected_md5: str) -> None:
    """Downloads `url` to `path`, through `path`.part, which a later call goes on with.

    Raises:
      InputError: the address does not answer, the transfer breaks off, or the checksum is not `expected_md5` (the
        partial file is then removed).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        transfer(url, part)
    except (OSError, http.client.HTTPException) as error:
        kept = part.stat().st_size if part.exists() else 0
        raise InputError(
            f"download of {url} failed: {error}. {kept:,} bytes are kept in {part}: run again to go on from there, or "
            f"put {path.name} into a folder yourself and name it with --weights_dir"
        ) from error
    found = md5(part)
    if found != expected_md5:
        part.unlink()
        raise InputError(
            f"{url} has md5 {found}, expected {expected_md5}: not used, and removed. Run again"
        )
    os.replace(part, path)


def transfer(url: str, part: Path) -> None:
    """Appends to `part` what it still lacks; starts anew where the server does not resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if (
            error.code == 416 and have
        ):  # Nothing is left to send: the checksum decides whether it is the file.
            return
        raise
    with response:
        resumed = response.status == 206
        have = have if resumed else 0
        total = have + int(response.headers.get("Content-Length", 0))
        with (
            open(part, "ab" if resumed else "wb") as out,
            Progress(f"download {part.stem}", total, "bytes") as bar,
        ):
            bar.add(have)
            while chunk := response.read(CHUNK):
                out.write(chunk)
                bar.add(len(chunk))
    if total and part.stat().st_size < total:
        raise ConnectionError(
            f"the connection closed after {part.stat().st_size:,} of {total:,} bytes"
        )
