"""Downloads a file with progress, resumes broken transfers, and checks size, room and MD5."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from absl import logging

from histojax.errors import InputError
from histojax.utils import files
from histojax.utils.progress import Progress

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60
_WEIGHTS_BY_HAND = "put {file} into a folder yourself and name it with --weights_dir"


def md5(path: Path) -> str:
    """The MD5 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def fetch(url: str, path: Path, expected_md5: str, by_hand: str = _WEIGHTS_BY_HAND) -> None:
    """Downloads `url` to `path` by way of `path`.part, which a later call resumes.

    Args:
      url: the address.
      path: of the file; one that is there is replaced once the new one is whole.
      expected_md5: of the file, in hexadecimal.
      by_hand: what to do with a file of that name that was fetched otherwise; ends a message.

    Raises:
      InputError: the address does not answer, the disk has no room, the transfer breaks off, or
        the checksum is not `expected_md5` (the partial file is then removed).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    remedy = by_hand.format(file=path.name, folder=path.parent)
    try:
        _transfer(url, partial)
    except (OSError, http.client.HTTPException) as error:
        kept = partial.stat().st_size if partial.exists() else 0
        again = "Run again"
        if kept:
            again = f"{kept:,} bytes are kept in {partial}: run again to resume"
        raise InputError(f"download of {url} failed: {error}. {again}, or {remedy}") from error
    actual_md5 = md5(partial)
    if actual_md5 != expected_md5:
        partial.unlink()
        raise InputError(
            f"{url} has md5 {actual_md5}, expected {expected_md5}: not used, and removed. Run "
            f"again, or {remedy}"
        )
    os.replace(partial, path)


def fetch_unless_there(url: str, path: Path, expected_md5: str, by_hand: str) -> bool:
    """Downloads a file, as `fetch` does, unless it is there whole; says so where it is damaged.

    Returns:
      Whether it was downloaded.

    Raises:
      InputError: as for `fetch`; a damaged file is kept then.
    """
    if path.exists():
        actual_md5 = md5(path)
        if actual_md5 == expected_md5:
            return False
        logging.warning(
            "%s is damaged (md5 %s, expected %s): it is downloaded again",
            path,
            actual_md5,
            expected_md5,
        )
    fetch(url, path, expected_md5, by_hand)
    return True


def _transfer(url: str, partial: Path) -> None:
    """Appends what `partial` lacks; starts again where the server cannot resume."""
    received = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={received}-"} if received else {}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        error.close()
        # Nothing is left to send: the checksum decides whether the file is the right one.
        if error.code == 416 and received:
            return
        raise
    with response:
        resumed = response.status == 206
        if not resumed:
            received = 0
        left = int(response.headers.get("Content-Length", 0))
        files.require_room(partial.parent, left, f"the rest of {url}" if received else url)
        total = received + left
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
