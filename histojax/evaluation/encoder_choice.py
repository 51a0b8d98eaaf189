"""Which encoder: everything that is compared of several encoders on the same images and folds."""

import dataclasses
from collections.abc import Mapping, Sequence

from histojax.evaluation import several
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.several import Agreement, Pair, Quantity, Runs
from histojax.extraction.costs import ExtractionCost

CHOSEN = "chosen by other folds"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What an encoder costs.

    Attributes:
      width: channels of its descriptors, of all views together; None where it is not known.
      extraction: None where the descriptors were there before.
      training: seconds by learner; None where they are not known.
    """

    width: int | None
    extraction: ExtractionCost | None
    training: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class EncoderComparison:
    """Several encoders on the same images and folds.

    Attributes:
      runs: out-of-fold predictions by encoder, by learner.
      costs: by encoder.
      weights: a line on the weights of each encoder.
      notes: what a reader must know of the data.
    """

    runs: Mapping[str, Runs]
    costs: Mapping[str, Cost]
    weights: Mapping[str, str]
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Judged:
    """Everything that is shown of one learner.

    Attributes:
      learner: a key of `EncoderComparison.runs`.
      encoders: names.
      blends: names of what is blended, that of all first.
      chosen: the encoder with the lowest log-loss on all other folds, for each fold.
      quantities: of the encoders, the blends and CHOSEN, in the same draws.
      agreements: of each pair of encoders.
    """

    learner: str
    encoders: tuple[str, ...]
    blends: tuple[str, ...]
    chosen: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    agreements: tuple[Agreement, ...]

    @property
    def main(self) -> Quantity:
        """What encoders are judged by in words."""
        return several.judged_by(self.quantities)

    @property
    def against_chosen(self) -> list[Pair]:
        """The pairs of a blend and what it is held against."""
        return [(CHOSEN, name) for name in self.blends]


def judge(learner: str, runs: Runs, draws: int = DRAWS) -> Judged:
    """Computes all that is shown of one learner; runs are by encoder, with scores and folds."""
    blends = several.blends(runs)
    chosen, chosen_by = several.choose_by_other_folds(runs)
    quantities = several.of_metrics({**runs, **blends, CHOSEN: chosen}, draws)
    return Judged(
        learner,
        tuple(runs),
        tuple(blends),
        tuple(chosen_by),
        tuple(quantities),
        tuple(several.agreements(runs, draws)),
    )
