"""Images to an ensemble of fine-tuned encoders: the paper's section 2.2.

histojax finetune --data=DIR --models=OUT --encoders=ResNet --views=0.5-400     last block, new head
histojax finetune --data=DIR --models=OUT --encoders=VGG --views=0.5-400 --blocks=all

Trains a network per encoder, view, seed and fold. The paper found this worse than boosted trees on
frozen descriptors; with a copy of the trees' folds.csv in OUT, both are evaluated on the same
folds. Images are prepared, and crops drawn and augmented, as in histojax extract. A part of each
fold's training images (whole groups where they are known) decides which epoch is kept, and no model
sees the images that it is evaluated on. These get --augmentations scores each, averaged over
--crops crops.

Writes OUT/folds.csv, and for each model OUT/<configuration>/seedS-foldFF.npz (the trained arrays)
and beside it, as .npy, its out-of-fold scores, (images, augmentations, classes). Every epoch is
kept as a checkpoint until its model is finished: after a stop, the same command goes on from there.
histojax evaluate takes OUT as it takes the trees' folder.

Training runs on one device, and is a task for an accelerator. The rate and the time left are shown.
"""

from absl import flags

from histojax.extraction import compiled
from histojax.learners import finetune
from histojax.utils.files import require_writable

from . import computing, data, models, protocol, runner, splits
from .flag_types import define_path

FLAGS = flags.FLAGS

data.define_labelled()
splits.define_split()
data.define_site_columns()
data.define_mpp()
protocol.define_preset("extraction", "finetune")
computing.define_weights()
define_path("models", "Folder to write folds and models to.", required=True)
flags.DEFINE_bool("keep_checkpoints", False, "Keep the last checkpoint of finished models.")


def main() -> None:
    data.refuse_inside_data("models")
    dataset = data.dataset()
    suit = protocol.suited_to(dataset.paths, FLAGS.mpp)
    chosen = protocol.from_flags("extraction", "finetune", suit=suit)
    extraction, tuning = chosen.extraction, chosen.finetune
    finetune.check(dataset.images, extraction, FLAGS.mpp)
    require_writable(FLAGS.models)
    compiled.keep_by_default(FLAGS.weights_cache)
    with models.split_kept_with_models(FLAGS.models):
        split = splits.load_or_make(FLAGS.models, dataset, tuning.folds, tuning.fold_seed)
        trained = finetune.train(
            dataset,
            FLAGS.models,
            split,
            extraction,
            tuning,
            runtime=computing.weight_files(),
            mpp=FLAGS.mpp,
            keep_checkpoints=FLAGS.keep_checkpoints,
        )
    count = len(extraction.configurations) * tuning.seeds * split.count
    print(f"{trained} models trained, {count} are there: {FLAGS.models}")
    models.print_doubts(FLAGS.models)


if __name__ == "__main__":
    runner.run(main, __doc__)
