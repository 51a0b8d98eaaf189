"""Any table of predictions to metrics, calibration and operating point.

histojax score --scores=TABLE.csv --out=OUT
histojax score --scores=TABLE.csv --out=OUT --classes=Normal,Benign,InSitu,Invasive \\
    --sensitivity=0.99

TABLE.csv has a header: `label`, and probabilities `p0,p1,...` in the order of the classes (or
`p_<class>`), or just `predicted`; and, where known, `image`, `fold` and `group` (patient or slide).
Whatever made the predictions: this project, another, or a paper. histojax evaluate writes such a
table too, out_of_fold.csv.

With groups, intervals resample whole groups. With folds, means and deviations over them are shown,
a temperature is fitted out of fold, and the operating point for --sensitivity is chosen on other
folds than those it is evaluated on. Prints the summary and writes it to OUT, with every number as
CSV and JSON and the figures as PNG and PDF. Takes seconds.
"""

from absl import flags

from histojax.datasets import positive
from histojax.evaluation import labelled_predictions, statistics
from histojax.report.write import write_statistics
from histojax.utils.files import require_writable

from . import data, models, runner
from .flag_types import define_path

FLAGS = flags.FLAGS

define_path("scores", "CSV table of predictions, a row an image.", required=True)
define_path("out", "Folder to write to.", required=True)
flags.DEFINE_list(
    "classes",
    None,
    "Names of the classes in the order of p0, p1, ... Default: BACH's, or those in the table.",
)
models.define_positive()
models.define_sensitivity()


def main() -> None:
    table = labelled_predictions.load(FLAGS.scores, data.classes())
    table = table.with_positive(positive.choose(table.classes, FLAGS.positive_classes))
    require_writable(FLAGS.out)
    print(write_statistics(FLAGS.out, statistics.compute(table, FLAGS.sensitivity)))
    print(f"{FLAGS.out / 'summary.txt'}, metrics.json, tables, figures")


if __name__ == "__main__":
    runner.run(main, __doc__)
