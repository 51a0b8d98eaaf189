"""Predictions on disk as they come, so that a broken run goes on where it stopped.

OUT/predictions.csv and others    see `answers`
OUT/failures.csv                  images that could not be predicted, and why
OUT/run.json                      the models and options that the predictions were made with
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from histojax.errors import InputError
from histojax.extraction import provenance
from histojax.prediction import outputs
from histojax.prediction.bundle import Bundle
from histojax.prediction.outputs import Truth
from histojax.prediction.uncertainty import Prediction, PredictionOptions
from histojax.utils import files

FAILURES, RUN = "failures.csv", "run.json"


@dataclasses.dataclass(frozen=True)
class PredictionSummary:
    """What a run gave.

    Attributes:
      predictions: by name.
      failed: images that could not be predicted, and why.
      compared: what known labels say, in lines; empty where none are known.
    """

    predictions: tuple[Prediction, ...]
    failed: dict[str, str]
    compared: tuple[str, ...] = ()

    def text(self, bundle: Bundle) -> str:
        """A line or two for a person."""
        found = collections.Counter(each.predicted for each in self.predictions)
        lines = [", ".join(f"{name} {found[name]}" for name in bundle.classes)]
        if abstained := [each for each in self.predictions if each.abstain]:
            causes = collections.Counter(cause for each in abstained for cause in each.abstain)
            lines.append(
                f"abstain: {len(abstained)} of {len(self.predictions)} images ("
                + ", ".join(f"{cause} {count}" for cause, count in causes.most_common())
                + ")"
            )
        lines += self.compared
        if self.failed:
            lines.append(f"{len(self.failed)} images could not be predicted: {FAILURES}")
        return "\n".join(lines)


class Ledger:
    """Predictions on disk, as they come: `with Ledger(bundle, out, options) as ledger: ledger.add(prediction, digest)`.

    What an earlier run with the same models and options left is kept; what another left is made anew.
    """

    def __init__(
        self,
        bundle: Bundle,
        out: Path,
        options: PredictionOptions,
        truth: Mapping[str, Truth] | None = None,
    ):
        self.bundle, self.out, self.options, self.truth = bundle, out, options, truth or {}
        self.weights = provenance.weights(bundle.made_with.values())
        made_with = {"models": bundle.identity, "wishes": dataclasses.asdict(options)}
        same = (out / RUN).exists() and files.read_json(out / RUN, ()) == made_with
        earlier = outputs.read_lines(out / outputs.LINES) if same else []
        self.found = {prediction.image: (prediction, digest) for prediction, digest in earlier}
        files.write_json(out / RUN, made_with)

    def __enter__(self) -> "Ledger":
        self.rewrite(self.found.values())
        self.lines = (self.out / outputs.LINES).open("a", encoding="utf-8")
        self.table = (self.out / outputs.TABLE).open("a", encoding="utf-8", newline="")
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lines.close()
        self.table.close()

    def rewrite(self, found: Iterable[tuple[Prediction, str]]) -> None:
        """Writes both files anew."""
        found = list(found)
        rows = [self.row(prediction) for prediction, _ in found]
        files.write_text(self.out / outputs.LINES, "".join(outputs.line(*each) for each in found))
        files.write_csv(
            self.out / outputs.TABLE, rows, outputs.header(self.bundle.classes, bool(self.truth))
        )

    def row(self, prediction: Prediction) -> list[str]:
        """As it stands in predictions.csv."""
        truth = self.truth.get(prediction.image, ("", "")) if self.truth else None
        return outputs.row(prediction, self.weights, truth)

    def knows(self, image: str, digest: str) -> bool:
        """Whether an image was predicted already, from the very same file."""
        return image in self.found and self.found[image][1] == digest

    def add(self, prediction: Prediction, digest: str) -> None:
        """Adds a prediction to both files, at once, in place of one of another file of that name."""
        self.found[prediction.image] = prediction, digest
        self.lines.write(outputs.line(prediction, digest))
        self.table.write(outputs.as_csv([self.row(prediction)]))
        self.lines.flush()
        self.table.flush()

    def finish(self, wanted: set[str], failed: dict[str, str]) -> PredictionSummary:
        """Puts the wanted images in order, by name, and writes the submissions and the failures.

        Raises:
          InputError: no image could be predicted.
        """
        files.write_csv(self.out / FAILURES, sorted(failed.items()), ("image", "cause"))
        ordered = [self.found[image] for image in sorted(wanted & self.found.keys())]
        if not ordered:
            first = next(iter(failed.values()))
            raise InputError(f"none of {len(failed)} images could be predicted; the first: {first}")
        self.rewrite(ordered)
        predictions = tuple(prediction for prediction, _ in ordered)
        outputs.write_submissions(self.out, predictions, self.bundle.classes)
        compared = (
            outputs.compared(predictions, self.truth, self.options.coverage) if self.truth else ()
        )
        return PredictionSummary(predictions, failed, tuple(compared))
