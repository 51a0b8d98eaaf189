"""Several methods on the same images: metrics, differences, training time.

histojax compare --runs=trees=runs/trees,linear=runs/linear,mine=scores.csv --out=OUT

Each run is NAME=PATH, a folder of models (of trees, heads or fine-tuned networks) or a table of
scores as for histojax score. The first is what the others are compared with, all on the images that
every run has scores of. With --blend a last row has the mean of all scores.

Differences have 95 % intervals of the paired bootstrap, by group where a run knows groups, and
McNemar's exact test. Writes OUT/comparison.csv and OUT/comparison.json.
"""

from pathlib import Path

from absl import flags

from histojax.datasets import positive
from histojax.errors import InputError
from histojax.evaluation import comparison, evaluate, labelled_predictions
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.learners import ensembles
from histojax.report import comparisons
from histojax.utils.files import as_path, require_writable

from . import data, models, runner
from .flag_types import define_path

FLAGS = flags.FLAGS

flags.DEFINE_list(
    "runs", None, "NAME=PATH of each run, the first to compare the others with.", required=True
)
define_path("out", "Folder to write to.", required=True)
flags.DEFINE_bool("blend", False, "Add the mean of all runs' scores as a run of its own.")
flags.DEFINE_list("classes", None, "Names of the classes in order, for tables without them.")
models.define_positive()


def main() -> None:
    paths = named_paths(FLAGS.runs)
    require_writable(FLAGS.out)
    runs = {name: load_run(path) for name, path in paths.items()}
    counts = {name: len(run.names) for name, run in runs.items()}
    runs = comparison.restrict_to_common_images(runs)
    if FLAGS.blend:
        if "blend" in runs:
            raise InputError("--blend adds a run of the name blend: call yours otherwise")
        runs["blend"] = comparison.blend(list(runs.values()))
    seconds = {
        name: ensembles.training_seconds(ensembles.load(path)) if path.is_dir() else None
        for name, path in paths.items()
    }
    print(comparisons.write(FLAGS.out, runs, seconds, counts))
    print(f"{FLAGS.out / 'comparison.csv'}, comparison.json")


def named_paths(runs: list[str]) -> dict[str, Path]:
    """The paths by name, in order."""
    pairs = [run.partition("=")[::2] for run in runs]
    for run, pair in zip(runs, pairs, strict=True):
        if "" in pair:
            raise InputError(f"--runs has {run!r}, expected NAME=PATH, such as trees=runs/models")
    names = [name for name, _ in pairs]
    if len(names) < 2 or len({*names}) < len(names):
        raise InputError(
            f"--runs names {', '.join(names)}; expected at least two, none of them twice"
        )
    return {name: as_path(path) for name, path in pairs}


def load_run(path: Path) -> LabelledPredictions:
    """A run's scores: of a folder of models, or of a table."""
    if path.is_dir():
        return evaluate.load_out_of_fold(path, FLAGS.positive_classes)
    table = labelled_predictions.load(path, data.classes())
    return table.with_positive(positive.choose(table.classes, FLAGS.positive_classes))


if __name__ == "__main__":
    runner.run(main, __doc__)
