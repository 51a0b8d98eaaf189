"""Which encoders there are, on which terms, and where their files of weights are.

histojax encoders                                         a line for each, and where to get files
histojax encoders UNI2-h,Virchow2 --weights_dir=FOLDER    some of them, with files in a folder
histojax encoders --csv                                   the same and more as CSV

D is the width of the descriptor, M are million parameters; input and um/px are the side and the
pixel size of the one square that a published network is shown. This command downloads nothing:
ImageNet's files come when they are first used, all others you fetch. A file is looked for as
FOLDER/ENCODER/NAME, FOLDER/REPOSITORY/NAME, FOLDER/ORGANISATION/REPOSITORY/NAME and
FOLDER/ENCODER.safetensors or .bin, and in Hugging Face's cache ($HF_HUB_CACHE, $HF_HOME,
~/.cache/huggingface/hub).
"""

import csv
import dataclasses
import math
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

from absl import flags

from histojax.config import Option, Runtime
from histojax.encoders import ENCODERS, Encoder, weights
from histojax.encoders.sources import HUB
from histojax.encoders.weight_files import official_files, published_files
from histojax.errors import InputError
from histojax.utils import files

from . import computing, runner
from .flag_types import define

FLAGS = flags.FLAGS
POSITIONAL = ("names",)  # The flag that may be passed without its name.
_WIDTH = 100  # Of lines.

define("names", tuple[str, ...], Option("Names of encoders; all, where it is not passed."))
computing.define_weights()
flags.DEFINE_bool("csv", False, "Print CSV, with what lines for people leave out.")


@dataclasses.dataclass(frozen=True)
class Row:
    """What is said of an encoder; the fields are the columns of the CSV.

    Attributes:
      encoder: its name.
      width: of the descriptor, D.
      parameters: of the network.
      input_px, mpp: side and pixel size of what it is shown; empty where it takes any.
      taps: what the descriptor consists of.
      licence, terms, gate: of the published file: what it forbids, what it takes to get it.
      inferred: what of the encoder is not certain.
      source, file: where the file is published, and as what.
      found: where it is on this machine; empty for nowhere.
    """

    encoder: str
    width: int
    parameters: int
    input_px: int | str
    mpp: float | str
    taps: str
    licence: str
    terms: str
    gate: str
    inferred: str
    source: str
    file: str
    found: str


def main() -> None:
    runtime = computing.weight_files()
    known = {name.lower(): encoder for name, encoder in ENCODERS.items()}
    names = [name.lower() for name in FLAGS.names or known]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"no encoder is called {unknown[0]!r}, expected of {', '.join(ENCODERS)}")
    chosen = [known[name] for name in names]
    rows = [_row(encoder, runtime) for encoder in chosen]
    if FLAGS.csv:
        columns = [field.name for field in dataclasses.fields(Row)]
        table = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(map(dataclasses.asdict, rows))
        return
    print("\n".join([*_table(rows), "", *_files(chosen, rows)]).rstrip())


def _row(encoder: Encoder, runtime: Runtime) -> Row:
    native, published, official = encoder.native, encoder.published, encoder.weight_file
    source = published.address if published else official.url if official else ""
    file = published.files[0] if published else official.file if official else ""
    terms = published or official
    return Row(
        encoder=encoder.name,
        width=encoder.width,
        parameters=sum(map(math.prod, weights.shapes(encoder).values())),
        input_px=native.input_size if native else "",
        mpp=native.mpp if native else "",
        taps=" ".join(tap.layer for tap in encoder.outputs),
        licence=terms.licence if terms else "",
        terms=published.terms if published else "",
        gate=published.gate if published else "",
        inferred=published.inferred if published else "",
        source=source,
        file=file,
        found=str(_found(encoder, runtime) or ""),
    )


def _found(encoder: Encoder, runtime: Runtime) -> Path | None:
    """The file that a run with these flags would take, unless it would be downloaded."""
    if encoder.name in (named := dict(runtime.weight_files)):
        return published_files.in_place_of(encoder, named[encoder.name]).path
    if encoder.published:
        found = published_files.find(encoder, runtime.weights_dir)
        return found.path if found else None
    if encoder.weight_file is None:
        return None
    cache = runtime.cache or files.default_cache()
    path = official_files.place(encoder.weight_file, cache, runtime.weights_dir)
    return path if path.exists() else None


def _table(rows: Iterable[Row]) -> Iterable[str]:
    """A line for each encoder."""
    sizes = f"{'D':>6}{'M':>8}{'input':>7}{'um/px':>7}"
    yield f"{'encoder':<17}{sizes}  {'licence':<16}{'use':<15}weights"
    for row in rows:
        use = row.terms.split(",")[0]
        place = "here" if row.found else "absent"
        if not row.found and not ENCODERS[row.encoder].published:
            place = "downloaded at use" if row.source else "a file of yours"
        yield (
            f"{row.encoder:<17}{row.width:>6}{row.parameters / 1e6:>8.1f}{row.input_px or 'any':>7}"
            f"{row.mpp or 'any':>7}  {row.licence:<16}{use:<15}{place}"
        )


def _files(chosen: Iterable[Encoder], rows: Iterable[Row]) -> Iterable[str]:
    """Where files are, and where those that are absent may be had."""
    here = [f"{row.encoder:<13} {row.found}" for row in rows if row.found]
    absent = [
        f"{encoder.name:<13} {row.file} of {encoder.published.repository}"
        f"{'; ' if row.gate else ''}{row.gate}"
        for encoder, row in zip(chosen, rows, strict=True)
        if encoder.published and not row.found
    ]
    if here:
        yield from ["Here:", *here]
    if here and absent:
        yield ""
    if absent:
        yield (f"To get from {HUB} and to put into FOLDER/ENCODER/, with --weights_dir=FOLDER:")
    for line in absent:
        yield from textwrap.wrap(
            line, _WIDTH, subsequent_indent=" " * 14, break_on_hyphens=False, break_long_words=False
        )


if __name__ == "__main__":
    runner.run(main, __doc__, POSITIONAL)
