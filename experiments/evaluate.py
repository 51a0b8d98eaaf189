"""Models to judgement: a page with the table of the paper, figures with their intervals, curves, mistakes, protocol.

histojax evaluate --models=DIR --report=OUT
histojax evaluate --models=DIR --report=OUT --data=DATA --descriptors=DIR     with pictures and stain

Reads the out-of-fold scores that histojax train kept; every image is judged only by models that never saw it. Prints
the summary and writes OUT/report.html, one file to be sent or printed; OUT/summary.txt; OUT/metrics.json with every
number; OUT/tables with table1.csv, statistics.csv, out_of_fold.csv and others; OUT/figures as PNG and PDF. On BACH
itself, with 10 folds, the published figures stand beside ours.

--test_data and --test_descriptors name a test set: every model scores it once, the scores are kept beside the models,
and it is reported beside the cross-validation, with the curve over the number of folds' models.

--data shows images: the most confident mistakes, those of each cell of the confusion matrix, and some on their way
through the pipeline. --descriptors tells how their stain normalisation went. --sensitivity is what the operating point
is chosen for. Takes seconds, and what reading at most 388 images takes.
"""

from experiments import flags
from histojax import datasets
from histojax.errors import InputError
from histojax.evaluation import test_set
from histojax.learners import ensembles
from histojax.report.write import write_report

flags.define_path("models", "Folder of models, as histojax train writes it.")
flags.define_path("report", "Folder to write the evaluation to.")
flags.define_path(
    "data", "The labelled images, as for histojax train, for pictures of them.", required=False
)
flags.define_tfds("data")
flags.define_path(
    "descriptors",
    "Folder of their descriptors, for how the stain normalisation went.",
    required=False,
)
flags.define_sensitivity()
flags.define_positive()
flags.define_path(
    "test_data",
    "Labelled images that no model was trained on, to judge the whole by.",
    required=False,
)
flags.define_path("test_descriptors", "Folder of their descriptors.", required=False)


def main() -> None:
    flags.refuse_inside_data("report")
    if flags.absolute(flags.path("report")) == flags.absolute(flags.path("models")):
        raise InputError("--report and --models are the same folder: name another for the report")
    keep_test_scores()
    print(
        write_report(
            flags.path("models"),
            flags.path("report"),
            flags.FLAGS.positive_classes,
            flags.FLAGS.sensitivity,
            flags.data(),
            flags.path("descriptors"),
        ),
        end="",
    )


def keep_test_scores() -> None:
    """Scores the test set, if there is one, by every model."""
    data, descriptors = flags.path("test_data"), flags.path("test_descriptors")
    if (data is None) != (descriptors is None):
        raise InputError(
            "--test_data and --test_descriptors go together: labelled images, and what describes them"
        )
    if data is not None:
        ensemble = ensembles.load(flags.path("models"))
        dataset = datasets.load(data, ensemble.folds.classes)
        test_set.score(ensemble, descriptors, test_set.from_dataset(dataset))


if __name__ == "__main__":
    flags.run(main, __doc__)
