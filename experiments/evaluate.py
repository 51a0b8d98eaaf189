"""Models to a report: the paper's table, intervals, curves and mistakes.

histojax evaluate --models=DIR --report=OUT
histojax evaluate --models=DIR --report=OUT --data=DATA --descriptors=DIR    with pictures and stain

Reads the out-of-fold scores that were kept in training; every image is evaluated only by models
that never saw it. Prints the summary, which begins with what the numbers allow, and writes
OUT/report.html, one file to be sent or printed; OUT/summary.txt; OUT/metrics.json with every
number; OUT/tables with table1.csv, statistics.csv, out_of_fold.csv and others; OUT/figures as PNG
and PDF. On BACH itself, with 10 folds, the published figures stand beside ours.

--test_data and --test_descriptors name a test set: every model scores it once, the scores are kept
beside the models, and it is reported beside the cross-validation, with the curve over the number of
folds' models.

--data shows images: the most confident mistakes, those of each cell of the confusion matrix, and
some on their way through the pipeline. --descriptors tells how their stain normalisation went.
Both must be the models' own: other images, labels or protocols are refused. Imported descriptors
have neither images nor stain, so these sections are left out.
Where a column of --data (when training, or passed here) tells the site, scanner, batch or date of
images, the report says whether the class goes with it and, with --descriptors, whether descriptors
tell it and what accuracy becomes when whole sites are left out; --site_columns names other columns.
--sensitivity is what the operating point is chosen for. Takes seconds; with --data all images are
read, to find copies among them.
"""

from absl import flags

from histojax import datasets
from histojax.errors import InputError
from histojax.evaluation import test_set
from histojax.extraction import manifests
from histojax.learners import ensembles
from histojax.report.write import write_report

from . import data, models, runner
from .flag_types import define_path

FLAGS = flags.FLAGS

define_path("models", "Folder of models that histojax train or its like wrote.", required=True)
define_path("report", "Folder to write the report to.", required=True)
define_path("data", "The labelled images that the models were trained on, to show some of them.")
data.define_tfds("data")
define_path("descriptors", "Folder of their descriptors, to tell how stain normalisation went.")
define_path("test_data", "Labelled images that no model was trained on, to evaluate all models on.")
data.define_group_column()
data.define_site_columns()
define_path("test_descriptors", "With --test_data: the folder of their descriptors.")
models.define_sensitivity()
models.define_positive()


def main() -> None:
    data.refuse_inside_data("report")
    if data.absolute(FLAGS.report) == data.absolute(FLAGS.models):
        raise InputError("--report and --models are the same folder: name another for the report")
    score_test_set()
    text = write_report(
        FLAGS.models,
        FLAGS.report,
        FLAGS.positive_classes,
        FLAGS.sensitivity,
        data.label_table(),
        FLAGS.descriptors,
        site_columns=FLAGS.site_columns,
    )
    print(text)
    print(f"{FLAGS.report / 'report.html'}, summary.txt, metrics.json, tables, figures")


def score_test_set() -> None:
    """Scores the test set, if there is one, by every model."""
    if (FLAGS.test_data is None) != (FLAGS.test_descriptors is None):
        raise InputError(
            "--test_data and --test_descriptors go together: labelled images and their descriptors"
        )
    if FLAGS.test_data is not None:
        ensemble = ensembles.load(FLAGS.models)
        classes, column = ensemble.folds.classes, FLAGS.group_column
        slides = manifests.imported_slides(FLAGS.test_descriptors, ensemble.configurations)
        if slides is None and ensembles.of_imported(FLAGS.models):
            raise InputError(
                f"{FLAGS.test_descriptors} has no imported descriptors of "
                f"{', '.join(ensemble.configurations)}, which the models were trained on: import "
                "the features of the test slides (histojax import_descriptors), and pass that "
                "folder as --test_descriptors"
            )
        dataset = data.told(
            datasets.load(
                FLAGS.test_data, classes, group_column=column, slides=slides, site_columns=("none",)
            )
        )
        test_set.score(ensemble, FLAGS.test_descriptors, test_set.from_dataset(dataset))


if __name__ == "__main__":
    runner.run(main, __doc__)
