"""What extraction cost: extraction.csv, with a row for each run that finished. Needs no JAX."""

import dataclasses
from pathlib import Path

from histojax.errors import InputError
from histojax.utils import files

TABLE = "extraction.csv"


@dataclasses.dataclass(frozen=True)
class ExtractionRun:
    """A row of extraction.csv.

    Attributes:
      date: ISO 8601.
      images, crops: that it extracted; crops of all augmentations and views.
      seconds: in all, compilation included.
      first: seconds of these until the first image was on the device: compilation, mostly.
      parameter_bytes: of the encoder's parameters, as they are on each device.
      device: how many, and their kind.
    """

    date: str
    images: int
    crops: int
    seconds: float
    first: float
    parameter_bytes: int
    device: str


_FIELDS = dataclasses.fields(ExtractionRun)
_COLUMNS = tuple(field.name for field in _FIELDS)


@dataclasses.dataclass(frozen=True)
class ExtractionCost:
    """What all runs of a folder cost.

    Attributes:
      images, crops: that were timed; those of a run that was stopped are not.
      seconds: in all, compilation included.
      seconds_per_image: after each run's first image; of all images where no run had two.
      parameter_bytes, device: of the last run.
    """

    images: int
    crops: int
    seconds: float
    seconds_per_image: float
    parameter_bytes: int
    device: str

    @property
    def crops_per_second(self) -> float:
        """In crop mode hybrid most crops of these are not encoded one by one."""
        return self.crops / self.images / self.seconds_per_image


def record(folder: Path, run: ExtractionRun) -> None:
    """Adds a run to the folder's table."""
    rows = map(dataclasses.astuple, [*_read(folder), run])
    files.write_csv(folder / TABLE, rows, _COLUMNS)


def read(folder: Path) -> ExtractionCost | None:
    """The cost of all runs; None where none was recorded.

    Raises:
      InputError: the table is damaged.
    """
    runs = _read(folder)
    if not runs:
        return None
    images, seconds = sum(run.images for run in runs), sum(run.seconds for run in runs)
    later = images - len(runs)
    after_first = seconds - sum(run.first for run in runs)
    return ExtractionCost(
        images,
        sum(run.crops for run in runs),
        seconds,
        after_first / later if later else seconds / images,
        runs[-1].parameter_bytes,
        runs[-1].device,
    )


def _read(folder: Path) -> list[ExtractionRun]:
    path = folder / TABLE
    if not path.exists():
        return []
    rows = files.read_csv(path, _COLUMNS)
    try:
        return [
            ExtractionRun(**{field.name: field.type(row[field.name]) for field in _FIELDS})
            for row in rows
        ]
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({error}): remove it, and these descriptors have no known cost"
        ) from error
