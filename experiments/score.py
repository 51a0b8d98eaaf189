"""Any table of per-image predictions to judgement: metrics with intervals, calibration, operating point.

histojax score --scores=TABLE.csv --out=OUT
histojax score --scores=TABLE.csv --out=OUT --classes=Normal,Benign,InSitu,Invasive --sensitivity=0.99

TABLE.csv has a header: `label`, and probabilities `p0,p1,...` in the order of the classes (or `p_<class>`), or just
`predicted`; and, where known, `image`, `fold` and `group` (patient or slide). Whatever made the predictions: this
project, another, or a paper. histojax evaluate writes such a table too, out_of_fold.csv.

With groups, intervals resample whole groups. With folds, means and deviations over them are given, a temperature is
fitted out of fold, and the operating point for --sensitivity is chosen on other folds than it is judged on. Prints the
summary and writes it to OUT, with every number as CSV and JSON and the figures as PNG and PDF. Takes seconds.
"""

import dataclasses

from experiments import flags
from histojax.evaluation import labelled_predictions, metrics, statistics
from histojax.report.write import write_statistics
from histojax.utils.files import require_writable

flags.define_path("scores", "CSV table of predictions, a row an image.")
flags.define_path("out", "Folder to write to.")
flags.define_list(
    "classes", "Class names in the order of p0, p1, ...; by default BACH's, or those found."
)
flags.define_positive()
flags.define_sensitivity()


def main() -> None:
    table = labelled_predictions.load(flags.path("scores"), flags.classes())
    positive = metrics.positive_classes(table.classes, flags.FLAGS.positive_classes)
    out = flags.path("out")
    require_writable(out)
    judged = statistics.compute(
        dataclasses.replace(table, positive=positive), flags.FLAGS.sensitivity
    )
    print(write_statistics(out, judged), end="")


if __name__ == "__main__":
    flags.run(main, __doc__)
