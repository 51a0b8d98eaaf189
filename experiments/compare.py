"""Several methods on the same images, side by side: figures, paired differences to the first, seconds of training.

histojax compare --runs=trees=runs/trees,linear=runs/linear,mine=scores.csv --out=OUT

Each run is NAME=PATH, a folder of models (of trees, heads or fine-tuned networks) or a table of scores as for
histojax score. The first is what the others are compared with, all on the
images that every run judged. With --blend a last row has the mean of all scores.

Differences have 95 % intervals of the paired bootstrap, by group where a run knows groups, and McNemar's exact
test. Writes OUT/comparison.csv and OUT/comparison.json.
"""

import dataclasses
from pathlib import Path

from experiments import flags
from histojax.errors import InputError
from histojax.evaluation import comparison, evaluate, labelled_predictions, metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.learners import ensembles
from histojax.report import comparisons
from histojax.utils.files import as_path, require_writable

flags.define_list(
    "runs", "NAME=PATH of each run, the first to compare the others with.", required=True
)
flags.define_path("out", "Folder to write to.")
flags.define_bool("blend", "Adds the mean of all runs' scores as a run of its own.")
flags.define_list("classes", "Class names in order, for tables that do not name them.")
flags.define_positive()


def main() -> None:
    places = named(flags.FLAGS.runs)
    require_writable(flags.path("out"))
    runs = {name: load(place) for name, place in places.items()}
    judged = {name: len(run.names) for name, run in runs.items()}
    runs = comparison.restrict_to_common_images(runs)
    if flags.FLAGS.blend:
        if "blend" in runs:
            raise InputError("--blend adds a run of the name blend: call yours otherwise")
        runs["blend"] = comparison.blend(list(runs.values()))
    seconds = {
        name: ensembles.training_seconds(ensembles.load(place)) if place.is_dir() else None
        for name, place in places.items()
    }
    print(comparisons.write(flags.path("out"), runs, seconds, judged), end="")


def named(runs: list[str]) -> dict[str, Path]:
    """The places by name, in order."""
    pairs = [run.partition("=") for run in runs]
    if wrong := [
        run for run, (name, _, place) in zip(runs, pairs, strict=True) if not name or not place
    ]:
        raise InputError(
            f"--runs has {wrong[0]!r}, expected NAME=PATH, such as trees=runs/mine/models"
        )
    if len(pairs) < 2 or len({name for name, _, _ in pairs}) < len(pairs):
        raise InputError(
            f"--runs names {', '.join(name for name, _, _ in pairs)}; expected at least two, none twice"
        )
    return {name: as_path(place) for name, _, place in pairs}


def load(place: Path) -> LabelledPredictions:
    """A run's scores: of a folder of models, or of a table."""
    positive = flags.FLAGS.positive_classes
    if place.is_dir():
        return evaluate.load_out_of_fold(place, positive)
    found = labelled_predictions.load(place, flags.classes())
    return dataclasses.replace(found, positive=metrics.positive_classes(found.classes, positive))


if __name__ == "__main__":
    flags.run(main, __doc__)
