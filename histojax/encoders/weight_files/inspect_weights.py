"""What is in a file of weights, and which encoders it fits."""

import dataclasses
from pathlib import Path

from histojax import encoders
from histojax.encoders import Encoder, weights
from histojax.encoders.weight_files import fitting, official_files
from histojax.encoders.weight_files.fitting import Fit
from histojax.utils import array_files, download, files
from histojax.utils.array_files.stored import StoredArrays

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class FittingEncoder:
    """An encoder that a file fits.

    Attributes:
      name: of the encoder.
      fit: how its arrays are named.
      sha256: of its variables; empty where there are several copies of it in the file.
    """

    name: str
    fit: Fit
    sha256: str

    @property
    def text(self) -> str:
        """Lines for a person."""
        prefixes, left_out = self.fit.names.prefixes, sorted(self.fit.names.left_out)
        lines = [f"fits {self.name}, names of {self.fit.layout.name}"]
        if any(prefixes):
            lines[0] += f" behind {' and '.join(map(repr, prefixes))}"
        if left_out:
            more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
            lines.append(f"  left out: {', '.join(left_out[:_SHOWN])}{more}")
        if self.sha256:
            lines.append(f"  SHA-256 of the variables {self.sha256}")
        else:
            lines.append("  of several copies none is taken: save the one that you want by itself")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What is known of a file.

    Attributes:
      kind: of the file: HDF5, safetensors, .npz, PyTorch.
      sha256: of the file.
      official: the encoder whose official ImageNet file it is; empty for none.
      arrays: all, by name; their values cannot be read any more.
      fits: the encoders that it fits.
      closest: where there are none, what does not fit of the closest.
    """

    kind: str
    sha256: str
    official: str
    arrays: StoredArrays
    fits: tuple[FittingEncoder, ...]
    closest: str


def inspect(path: Path) -> Inspection:
    """What is in a file of weights.

    Raises:
      InputError: it cannot be read, or an encoder that it fits has values that are not finite.
    """
    with array_files.open_arrays(path) as (kind, arrays):
        pass
    by_encoder = {
        name: (encoder, weights.fits(encoder, arrays)[0])
        for name, encoder in encoders.ENCODERS.items()
    }
    found, checksums = [], {}
    for name, (encoder, fit) in by_encoder.items():
        if not fit.problems:
            # Rows of one network are read once.
            same = fit.layout.name, tuple(fit.names.sources.items())
            if same not in checksums:
                checksums[same] = _checksum(encoder, path, fit)
            found.append(FittingEncoder(name, fit, checksums[same]))
    closest = ""
    if not found:
        encoder, fit = min(by_encoder.values(), key=lambda pair: pair[1].distance)
        closest = fitting.misfit_text(encoder.name, fit)
    md5, official = download.md5(path), ""
    for name, encoder in encoders.ENCODERS.items():
        if md5 in official_files.md5s(encoder):
            official = name
    return Inspection(kind, files.sha256(path), official, arrays, tuple(found), closest)


def _checksum(encoder: Encoder, path: Path, fit: Fit) -> str:
    """The SHA-256 of the variables; empty where the file holds several copies."""
    if len(fit.names.prefixes) > 1:
        return ""
    return weights.checksum(weights.read(encoder, path).variables)
