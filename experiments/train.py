"""Descriptors to an ensemble: one LightGBM model per configuration, seed and fold.

histojax train --data=DIR --descriptors=DIR --models=OUT              10 folds, 5 seeds
histojax train --data=groups.csv --descriptors=DIR --models=OUT --seeds=3

--data gives names and labels (and groups, which then stay together in one fold); the images themselves are not read.
Uses every configuration that --descriptors holds; the authors' published descriptor files work as they are.

Writes OUT/folds.csv (image,label,fold; reused when it is there: put your own split there to use it), and for each model
OUT/<configuration>/seedS-foldFF.txt with its out-of-fold scores, (images, augmentations, classes), beside it as .npy.
Run again after a stop, it trains what is missing. OUT/times.csv says what each run took.

--boost=fast trains other trees (15 bins, three rows in ten drawn for each round) several times faster.
--dask_scheduler=tcp://HOST:8786 trains on a Dask cluster instead, the same models; see requirements-cluster.txt. Its
workers need histojax installed, but see none of the files named here.

Time on two cores: 180 models of 58 images x 4 augmentations took 76 s; it grows with images x augmentations. The rate
and the time left are shown.
"""

from experiments import flags
from histojax.learners import boost, boost_dask
from histojax.learners.training import TrainingJob
from histojax.utils.files import require_writable

flags.define_data()
flags.define_folds()
flags.define_path("descriptors", "Folder of descriptors, as histojax extract writes it.")
flags.define_path("models", "Folder to write folds and models to.")
flags.define_ensemble(boost.default_workers())
flags.define_path(
    "dask_scheduler",
    "Address of a Dask scheduler whose workers train; by default --workers.",
    False,
)
flags.define_protocol("boosting")


def main() -> None:
    boosting = flags.protocol("boosting").boosting
    descriptors, models = flags.path("descriptors"), flags.path("models")
    configurations = flags.configurations()
    flags.refuse_inside_data("models")
    dataset = flags.dataset()
    require_writable(models)
    split = flags.split(models, dataset, boosting.folds, boosting.fold_seed)
    if scheduler := flags.FLAGS.dask_scheduler:
        trained = boost_dask.train(
            TrainingJob(descriptors, models, split, configurations), boosting, scheduler
        )
    else:
        trained = boost.train(
            TrainingJob(descriptors, models, split, configurations), boosting, flags.FLAGS.workers
        )
    print(
        f"{trained} models trained, {len(configurations) * boosting.seeds * boosting.folds} are there: {models}"
    )


if __name__ == "__main__":
    flags.run(main, __doc__)
