"""Which images a report shows: the most confident ones of each cell of the confusion matrix, the most confident
mistakes, pairs that look the same, and one of each class on its way through the pipeline.
"""

import collections
import dataclasses
from pathlib import Path

import numpy as np

from histojax import datasets
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation.evaluate import Evaluation
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.images.thumbnails import thumbnails
from histojax.inspection import near_duplicates
from histojax.inspection.near_duplicates import SplitPair
from histojax.report import gallery
from histojax.report.gallery import Picture

MISTAKES = 24  # Shown at most.
IN_A_CELL, IN_ALL_CELLS = 24, 360  # Thumbnails, at most.
PAIRS = 12  # Of near-duplicates shown at most.
COMPARED = (
    1000  # Images looked through for near-duplicates at most; histojax audit knows no such limit.
)
STRIPS = 4  # Images on their way through the pipeline, at most.


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What there is to see.

    Attributes:
      said: why there are none, or which are missing; a line each.
      thumbnails: data URIs by image name.
      pipeline: by image name.
      pairs: near-duplicates, those that leak first; None where images were not compared.
      split: the images that `pairs` refers to.
    """

    said: tuple[str, ...] = ()
    thumbnails: dict[str, str] = dataclasses.field(default_factory=dict)
    pipeline: dict[str, list[Picture]] = dataclasses.field(default_factory=dict)
    pairs: tuple[SplitPair, ...] | None = None
    split: Folds | None = None

    def pair_names(self) -> list[tuple[str, str]]:
        """The names of the pairs to show."""
        shown = [each.pair for each in (self.pairs or ())[:PAIRS]]
        return [(self.split.names[pair.first], self.split.names[pair.second]) for pair in shown]


def by_cell(cases: LabelledPredictions) -> dict[tuple[int, int], list[int]]:
    """Images of each cell (truth, predicted) that has any, the most confident answers first."""
    found = collections.defaultdict(list)
    for i in most_confident(cases, np.arange(len(cases.names))):
        found[int(cases.truth[i]), int(cases.predicted[i])].append(int(i))
    return dict(found)


def mistakes(cases: LabelledPredictions) -> list[int]:
    """Wrong answers, the most confident first."""
    return most_confident(cases, np.flatnonzero(cases.truth != cases.predicted)).tolist()


def most_confident(cases: LabelledPredictions, chosen: np.ndarray) -> np.ndarray:
    """Images by falling confidence; as they come where there are no scores."""
    if cases.scores is None:
        return chosen
    return chosen[np.argsort(-cases.scores[chosen].max(axis=1), kind="stable")]


def in_a_cell(cells: int) -> int:
    """How many thumbnails each of so many cells gets."""
    return min(IN_A_CELL, max(1, IN_ALL_CELLS // max(1, cells)))


def find(evaluation: Evaluation, data: Path | None) -> Pictures:
    """The pictures of an evaluation from its labelled images.

    Raises:
      InputError: there is no labelled data set at `data`.
    """
    if data is None:
        return Pictures(("No images were given: pass --data to see pictures in place of names.",))
    dataset = datasets.load(data)
    paths = dict(zip(dataset.names, dataset.paths, strict=True))
    cases = evaluation.out_of_fold.predictions
    cells = by_cell(cases)
    wanted = [i for chosen in cells.values() for i in chosen[: in_a_cell(len(cells))]] + mistakes(
        cases
    )[:MISTAKES]
    twins = find_pairs(evaluation.ensemble.folds, paths)
    names = dict.fromkeys(
        [cases.names[i] for i in wanted] + [name for pair in twins.pair_names() for name in pair]
    )
    uris = thumbnails({name: paths[name] for name in names if name in paths})
    said = [*twins.said]
    if absent := [name for name in cases.names if name not in paths]:
        said.append(f"Not among the images given ({len(absent)}): {some(absent)}.")
    if unread := [name for name in names if name in paths and name not in uris]:
        said.append(f"Cannot be read ({len(unread)}): {some(unread)}.")
    strips, why = pipelines(evaluation, paths)
    return dataclasses.replace(twins, said=(*said, *why), thumbnails=uris, pipeline=strips)


def find_pairs(folds: Folds, paths: dict[str, Path]) -> Pictures:
    """The pairs of images of a split that look the same, or why they were not looked for."""
    split = folds.take(np.flatnonzero([name in paths for name in folds.names]))
    if not 1 < len(split.names) <= COMPARED:
        many = f"{len(split.names)} images are too many to look for near-duplicates here: run histojax audit."
        return Pictures((many,) if split.names[1:] else ())
    try:
        prints = near_duplicates.fingerprint([paths[name] for name in split.names])
    except InputError as error:
        return Pictures((f"No search for near-duplicates: {error}",))
    return Pictures(
        pairs=near_duplicates.pairs_in_split(near_duplicates.find_pairs(prints), split), split=split
    )


def some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def pipelines(
    evaluation: Evaluation, paths: dict[str, Path]
) -> tuple[dict[str, list[Picture]], list[str]]:
    """The first image of each class on its way, and why there is none where there is none."""
    protocols = [
        gallery.protocol(made_with) for made_with in evaluation.ensemble.extractions.values()
    ]
    protocols = [each for each in protocols if each["scale"] == protocols[0]["scale"]]
    cases, strips = evaluation.out_of_fold.predictions, {}
    for k in range(len(cases.classes)):
        there = [
            cases.names[i] for i in np.flatnonzero(cases.truth == k) if cases.names[i] in paths
        ]
        if not there or len(strips) == STRIPS:
            continue
        try:
            strips[there[0]] = gallery.pipeline(paths[there[0]], protocols)
        except InputError as error:
            return strips, [f"Pipeline: {error}"]
        except ImportError:
            return {}, ["No pictures of the pipeline: they need jax, which is not installed here."]
    return strips, []
