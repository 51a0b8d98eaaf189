"""Descriptors to an ensemble: one LightGBM model per configuration, seed and fold.

python -m experiments.train --data=DIR --descriptors=DIR --models=OUT              10 folds, 5 seeds
python -m experiments.train --data=groups.csv --descriptors=DIR --models=OUT --seeds=3

--data gives names and labels (and groups, which then stay together in one fold); the images themselves are not read.
Uses every configuration that --descriptors holds; the authors' published descriptor files work as they are.

Writes OUT/folds.csv (image,label,fold; reused when it is there: put your own split there to use it), and for each model
OUT/<configuration>/seedS-foldFF.txt with its out-of-fold scores, (images, augmentations, classes), beside it as .npy.
Run again after a stop, it trains what is missing.

Time on two cores: 180 models of 58 images x 4 augmentations took 76 s; it grows with images x augmentations. The rate
and the time left are shown.
"""

from experiments import flags
from histojax import boost, datasets, ensembles, folds, store
from histojax.errors import InputError
from histojax.files import require_writable

flags.define_data()
flags.define_path("descriptors", "Folder of descriptors, as experiments.extract writes it.")
flags.define_path("models", "Folder to write folds and models to.")
flags.define_ensemble(boost.default_workers())
flags.define_protocol("boosting")


def main() -> None:
    boosting = flags.protocol("boosting").boosting
    descriptors, models = flags.path("descriptors"), flags.path("models")
    found = store.configurations(descriptors)
    if not found:
        raise InputError(f"{descriptors} holds no descriptors: run experiments.extract first")
    configurations = tuple(flags.FLAGS.configurations or found)
    if unknown := sorted(set(configurations) - set(found)):
        raise InputError(f"{descriptors} has no descriptors of {', '.join(unknown)}; it has {', '.join(found)}")
    flags.refuse_inside_data("models")
    dataset = datasets.load(flags.path("data"), flags.classes())
    require_writable(models)
    split = folds.load_or_make(models / ensembles.FOLDS, dataset, boosting.folds, boosting.fold_seed)
    trained = boost.train(descriptors, models, split, configurations, boosting, flags.FLAGS.workers)
    print(f"{trained} models trained, {len(configurations) * boosting.seeds * boosting.folds} are there: {models}")


if __name__ == "__main__":
    flags.run(main, __doc__)
