"""Which encoder: everything that is compared of several encoders on the same images and folds."""

import dataclasses
from collections.abc import Mapping, Sequence

from histojax import config
from histojax.evaluation import several
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.several import Agreement, Pair, Quantity, Runs
from histojax.extraction import provenance
from histojax.extraction.costs import ExtractionCost
from histojax.learners import ensembles
from histojax.learners.ensembles import Ensemble
from histojax.utils.words import quantity

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
      inputs: what each encoder was shown of an image: see `inputs_text`.
    """

    runs: Mapping[str, Runs]
    costs: Mapping[str, Cost]
    weights: Mapping[str, str]
    notes: Sequence[str] = ()
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)


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


def inputs_text(ensemble: Ensemble) -> str:
    """What an ensemble was shown of an image: `20 augmentations of 0.5-400 and 0.5-650`.

    Views are in the names of configurations; of imported features it is what is known of them.
    """
    views, unit = [], "augmentation"
    for name, made in ensemble.extractions.items():
        encoder, _ = config.split(name)
        view = name.removeprefix(encoder).removeprefix("-")
        if provenance.is_imported(made):
            unit, text = "draw", provenance.features_text(made)
            view = text.removeprefix(made["protocol"]["encoder"]).strip(" ()")
        views.append(view)
    first = ensemble.model(ensemble.configurations[0], 0, 0)
    count = ensembles.read_scores(ensembles.scores_path(first)).shape[1]
    known = " and ".join(dict.fromkeys(filter(None, views)))
    return quantity(count, unit) + (f" of {known}" if known else "")
