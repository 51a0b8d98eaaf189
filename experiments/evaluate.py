"""Models to judgement: the cross-validated table of the paper, two-class figures, confusion matrix, ROC curve.

python -m experiments.evaluate --models=DIR --report=OUT

Reads the out-of-fold scores that experiments.train kept; every image is judged only by models that never saw it. Prints
the summary and writes OUT/summary.txt, table1.csv, metrics.json, out_of_fold.csv, confusion.png and roc.png. On BACH
itself, with 10 folds, the published figures stand beside ours. Takes seconds.
"""

from experiments import flags
from histojax import report

flags.define_path("models", "Folder of models, as experiments.train writes it.")
flags.define_path("report", "Folder to write the evaluation to.")
flags.define_positive()


def main() -> None:
    print(report.evaluate(flags.path("models"), flags.path("report"), flags.FLAGS.positive_classes), end="")


if __name__ == "__main__":
    flags.run(main, __doc__)
