"""Where encoders come from: files of weights, official or published elsewhere, modules of users."""

import dataclasses

HUB = "https://huggingface.co"


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """An official ImageNet weight file, HDF5, without the dense top.

    Attributes:
      file, url, md5: its name, address and checksum.
      licence: of the weights that it was ported from.
    """

    file: str
    url: str
    md5: str
    licence: str = ""


@dataclasses.dataclass(frozen=True)
class Published:
    """Where an encoder's file of weights is published, and on which terms. It is never downloaded.

    Attributes:
      repository: at Hugging Face, organisation and name.
      files: what the file may be called there, the usual name first.
      licence: its name.
      terms: what the licence forbids: `non-commercial`, `non-commercial, no derivatives`; empty for
        nothing that concerns a user here.
      gate: what has to be done before the file can be had there; empty where nothing has.
      inferred: what of the row was inferred, not read off a public source; the file decides.
    """

    repository: str
    files: tuple[str, ...]
    licence: str
    terms: str = ""
    gate: str = ""
    inferred: str = ""

    @property
    def address(self) -> str:
        """Of its page."""
        return f"{HUB}/{self.repository}"

    @property
    def licence_text(self) -> str:
        """The licence with its terms: `CC BY-NC-ND 4.0 (non-commercial, no derivatives)`."""
        return f"{self.licence} ({self.terms})" if self.terms else self.licence


@dataclasses.dataclass(frozen=True)
class Origin:
    """The module that an encoder of a user comes from.

    Attributes:
      reference: what --encoders takes, without a folder: `net.py:ENCODER`, `package.net:ENCODER`.
      file_sha256: of its file; empty where there is none.
      code_sha256: of its code without comments, docstrings and layout.
    """

    reference: str
    file_sha256: str
    code_sha256: str
