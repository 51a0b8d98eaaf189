"""Descriptors to an ensemble of trees: LightGBM or XGBoost models for each fold.

histojax train --data=DIR --descriptors=DIR --models=OUT              10 folds, 5 seeds
histojax train --data=groups.csv --descriptors=DIR --models=OUT --seeds=3

Trains a model per configuration, seed and fold. --data gives names and labels, and patients where
they are known, whose images stay in one fold; a line says which, or warns. Of the images a few
files are read, to see that the descriptors are of them. Every configuration in --descriptors is
used; the authors' published descriptor files work as they are.

Writes OUT/folds.csv (image,label,fold), which is reused where it is there already: put your own
split there to use it. For each model, writes OUT/<configuration>/seedS-foldFF.txt (.json of
XGBoost) and beside it, as .npy, its out-of-fold scores, (images, augmentations, classes). After a
stop, the same command trains what is missing. OUT/times.csv says what each run took.

--boost=fast trains other trees (15 bins, a tenth of the rows drawn for each round, a fifth of the
channels for each tree) ten times faster; below 4,000 training rows it draws more of them, into
smaller leaves. --protocol=small, for few images or patients, does so in four folds.
--boost=xgboost trains XGBoost's trees, with such settings; they are for a GPU (--tree_device=cuda),
since on a CPU fast ones take less time. --dask_scheduler=tcp://HOST:8786 trains the same
models on a Dask cluster; see requirements-cluster.txt. Its workers need histojax, but none of the
files named here.

Models that learned nothing, and ensembles that do no better than chance, are told at the end.

Time on two cores: 180 models of 58 images x 4 augmentations took 76 s; it grows with images x
augmentations. The rate and the time left are shown.
"""

from absl import flags

from histojax.evaluation import own_data
from histojax.learners import boost, boost_dask, xgboost_trees
from histojax.learners.training import TrainingJob
from histojax.utils.files import require_writable

from . import data, models, protocol, runner, splits
from .flag_types import define_path

FLAGS = flags.FLAGS

data.define_labelled()
splits.define_split()
data.define_site_columns()
models.define_descriptors()
models.define_workers()
protocol.define_preset("boosting")
define_path("models", "Folder to write folds and models to.", required=True)
flags.DEFINE_enum(
    "tree_device",
    "cpu",
    xgboost_trees.DEVICES,
    "What trains the models of --boost=xgboost; cuda is best with --workers=1. It is recorded, "
    "since models of the two differ in their last digits.",
)
flags.DEFINE_string(
    "dask_scheduler",
    None,
    "Address of a Dask scheduler whose workers train, in place of --workers.",
)


def main() -> None:
    boosting = protocol.from_flags("boosting").boosting
    configurations = models.configurations()
    data.refuse_inside_data("models")
    dataset = data.dataset(models.imported_slides(configurations))
    own_data.require_same_files(dataset, FLAGS.descriptors)
    require_writable(FLAGS.models)
    with models.split_kept_with_models(FLAGS.models):
        split = splits.load_or_make(FLAGS.models, dataset, boosting.folds, boosting.fold_seed)
        job = TrainingJob(FLAGS.descriptors, FLAGS.models, split, configurations)
        if FLAGS.dask_scheduler:
            trained = boost_dask.train(job, boosting, FLAGS.dask_scheduler)
        else:
            trained = boost.train(job, boosting, FLAGS.workers, FLAGS.tree_device)
    count = len(configurations) * boosting.seeds * boosting.folds
    print(f"{trained} models trained, {count} are there: {FLAGS.models}")
    models.print_doubts(FLAGS.models)


if __name__ == "__main__":
    runner.run(main, __doc__)
