"""Downloads a file with progress, resumes broken transfers, and checks the MD5."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from histojax.errors import InputError
from histojax.utils.progress import Progress

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60


def md5(path: Path) -> str:
    """The MD5 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def fetch(url: str, path: Path, expected_md5: str) -> None:
    """Downloads `url` to `path` by way of `path`.part, which a later call resumes.

    Raises:
      InputError: the address does not answer, the transfer breaks off, or the checksum is not
        `expected_md5` (the partial file is then removed).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        _transfer(url, partial)
    except (OSError, http.client.HTTPException) as error:
        kept = partial.stat().st_size if partial.exists() else 0
        raise InputError(
            f"download of {url} failed: {error}. {kept:,} bytes are kept in {partial}: run again "
            f"to resume, or put {path.name} into a folder yourself and name it with --weights_dir"
        ) from error
    actual_md5 = md5(partial)
    if actual_md5 != expected_md5:
        partial.unlink()
        raise InputError(
            f"{url} has md5 {actual_md5}, expected {expected_md5}: not used, and removed. Run again"
        )
    os.replace(partial, path)


def _transfer(url: str, partial: Path) -> None:
    """Appends what `partial` lacks; starts again where the server cannot resume."""
    received = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={received}-"} if received else {}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        # Nothing is left to send: the checksum decides whether the file is the right one.
        if error.code == 416 and received:
            return
        raise
    with response:
        resumed = response.status == 206
        if not resumed:
            received = 0
        total = received + int(response.headers.get("Content-Length", 0))
        with (
            open(partial, "ab" if resumed else "wb") as out,
            Progress(f"download {partial.stem}", total, "bytes") as bar,
        ):
            bar.add(received)
            while chunk := response.read(_CHUNK_BYTES):
                out.write(chunk)
                bar.add(len(chunk))
    size = partial.stat().st_size
    if total and size < total:
        raise ConnectionError(f"the connection closed after {size:,} of {total:,} bytes")
