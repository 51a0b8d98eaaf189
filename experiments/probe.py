"""Descriptors to an ensemble of heads, to stand beside the trees.

histojax probe --data=DIR --descriptors=DIR --models=OUT                 linear, 10 folds, 5 seeds
histojax probe --data=DIR --descriptors=DIR --models=OUT --head=hidden   with a hidden layer

Trains a head per configuration, seed and fold. Flags are those of histojax train; with a copy of
its folds.csv in OUT, the heads are evaluated on the trees' folds. A part of each fold's training
images (whole groups where they are known) decides when training stops; a head never sees the images
that it is evaluated on. All heads are trained together, on an accelerator where there is one.

Writes OUT/folds.csv, and for each head OUT/<configuration>/seedS-foldFF.npz (weights that take the
descriptors as they are, see histojax/learners/heads.py) and beside it, as .npy, its out-of-fold
scores, (images, augmentations, classes). After a stop, the same command trains what is missing.
histojax evaluate and histojax predict take OUT as they take the trees' folder.

Time on two cores: 180 models of 58 images x 4 augmentations took 12 s linear, 34 s with a hidden
layer.
"""

from absl import flags

from histojax.evaluation import own_data
from histojax.extraction import compiled, devices
from histojax.learners import probe
from histojax.learners.training import TrainingJob
from histojax.utils.files import require_writable

from . import data, models, protocol, runner, splits
from .flag_types import define_path

FLAGS = flags.FLAGS

data.define_labelled()
splits.define_split()
data.define_site_columns()
models.define_descriptors()
protocol.define_preset("probe")
define_path("models", "Folder to write folds and heads to.", required=True)


def main() -> None:
    heads = protocol.from_flags("probe").probe
    configurations = models.configurations()
    data.refuse_inside_data("models")
    dataset = data.dataset(models.imported_slides(configurations))
    own_data.require_same_files(dataset, FLAGS.descriptors)
    require_writable(FLAGS.models)
    devices.split_cpu()
    compiled.keep_by_default()
    with models.split_kept_with_models(FLAGS.models):
        split = splits.load_or_make(FLAGS.models, dataset, heads.folds, heads.fold_seed)
        job = TrainingJob(FLAGS.descriptors, FLAGS.models, split, configurations)
        trained = probe.train(job, heads)
    count = len(configurations) * heads.seeds * split.count
    print(f"{trained} models trained, {count} are there: {FLAGS.models}")
    models.print_doubts(FLAGS.models)


if __name__ == "__main__":
    runner.run(main, __doc__)
