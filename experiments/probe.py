"""Descriptors to an ensemble of heads, side by side with the trees: one per configuration, seed and fold.

histojax probe --data=DIR --descriptors=DIR --models=OUT                     linear, 10 folds, 5 seeds
histojax probe --data=DIR --descriptors=DIR --models=OUT --head=hidden       with a hidden layer

Arguments are those of histojax train; with a copy of its folds.csv in OUT, the heads are judged on the trees' folds.
A part of each fold's training images (whole groups where they are known) decides when training stops; a head never sees
the images that it is judged on. All heads are trained together, on an accelerator where there is one.

Writes OUT/folds.csv, and for each head OUT/<configuration>/seedS-foldFF.npz (weights that take the descriptors as they
are, see histojax/heads.py) with its out-of-fold scores, (images, augmentations, classes), beside it as .npy. Run again
after a stop, it trains what is missing. histojax evaluate and histojax predict take OUT as they take the trees'.

Time on two cores: 180 models of 58 images x 4 augmentations took 12 s linear, 34 s with a hidden layer.
"""

from experiments import flags
from histojax.extraction import devices
from histojax.learners import probe
from histojax.learners.training import TrainingJob
from histojax.utils.files import require_writable

flags.define_data()
flags.define_folds()
flags.define_path("descriptors", "Folder of descriptors, as histojax extract writes it.")
flags.define_path("models", "Folder to write folds and heads to.")
flags.define_ensemble()
flags.define_protocol("probe")


def main() -> None:
    chosen = flags.protocol("probe").probe
    descriptors, models = flags.path("descriptors"), flags.path("models")
    configurations = flags.configurations()
    flags.refuse_inside_data("models")
    dataset = flags.dataset()
    require_writable(models)
    devices.split_cpu()
    split = flags.split(models, dataset, chosen.folds, chosen.fold_seed)
    trained = probe.train(TrainingJob(descriptors, models, split, configurations), chosen)
    print(
        f"{trained} models trained, {len(configurations) * chosen.seeds * split.count} are there: {models}"
    )


if __name__ == "__main__":
    flags.run(main, __doc__)
