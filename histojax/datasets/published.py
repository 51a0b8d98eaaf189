"""Published data sets on Zenodo: files, checksums, licences, and how they are downloaded."""

import dataclasses
import json
import urllib.request
from pathlib import Path

from histojax.errors import InputError
from histojax.utils import download

ZENODO = "https://zenodo.org"
_TIMEOUT_S = 60


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """A file of a record on Zenodo.

    Attributes:
      record: the number of the record.
      name: of the file.
      md5: in hexadecimal; None where Zenodo is asked for it before the download.
      licence: of the data.
      source: what to cite.
    """

    record: int
    name: str
    md5: str | None
    licence: str
    source: str

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{ZENODO}/records/{self.record}/files/{self.name}"

    @property
    def credit(self) -> str:
        """Source and licence in a line, as for a model card."""
        return f"{self.source}; {self.licence}"


_BACH = {
    "record": 3632035,
    "licence": "CC BY-NC-ND 4.0",
    "source": "BACH, Aresta et al. 2019, Medical Image Analysis 56:122-139",
}
FILES = {
    "crc": PublishedFile(
        53169,
        "Kather_texture_2016_image_tiles_5000.zip",
        "0ddbebfc56344752028fda72602aaade",
        "CC BY 4.0",
        "Kather et al. 2016, Scientific Reports 6:27988",
    ),
    "bach": PublishedFile(
        name="ICIAR2018_BACH_Challenge.zip", md5="8ae1801334aa943c44627c1eef3631b2", **_BACH
    ),
    "bach_test": PublishedFile(name="ICIAR2018_BACH_Challenge_TestDataset.zip", md5=None, **_BACH),
}


def fetch(file: PublishedFile, folder: Path) -> Path:
    """The file in `folder`, downloaded unless it is there whole; prints its licence before that.

    A file without a known checksum is taken as it is where it is there: what is in it is checked
    when it is unpacked.

    Raises:
      InputError: it cannot be downloaded, or is another file; the message says how to put it there
        by hand.
    """
    path = folder / file.name
    by_hand = (
        f"download {file.name} from {ZENODO}/records/{file.record} by other means and put it into "
        f"{folder}"
    )
    if file.md5 is None and path.exists():
        return path
    if not path.exists():
        print(f"downloading {file.url}\nlicence: {file.licence}; cite {file.source}", flush=True)
    download.fetch_unless_there(file.url, path, file.md5 or _ask_md5(file, by_hand), by_hand)
    return path


def _ask_md5(file: PublishedFile, by_hand: str) -> str:
    """The MD5 of a file as its record states it."""
    url = f"{ZENODO}/api/records/{file.record}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:
            checksums = {entry["key"]: entry["checksum"] for entry in json.load(reply)["files"]}
        return checksums[file.name].removeprefix("md5:")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{url} does not give the checksum of {file.name} ({error!r}): run again later, or "
            f"{by_hand}"
        ) from error
