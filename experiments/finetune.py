"""Images to an ensemble of fine-tuned encoders, one per encoder, view, seed and fold: the paper's section 2.2.

histojax finetune --data=DIR --models=OUT --encoders=ResNet --views=0.5-400     last block and a new head
histojax finetune --data=DIR --models=OUT --encoders=VGG --views=0.5-400 --blocks=all

The paper found this worse than boosted trees on frozen descriptors; with a copy of the trees' folds.csv in OUT, both
are judged on the same folds. Images are prepared, and crops drawn and augmented, as histojax extract does it; a part
of each fold's training images (whole groups where they are known) decides which epoch is kept, and no model sees the
images that it is judged on. These get --augmentations scores each, averaged over --crops crops.

Writes OUT/folds.csv, and for each model OUT/<configuration>/seedS-foldFF.npz (the trained arrays) with its out-of-fold
scores, (images, augmentations, classes), beside it as .npy. Every epoch is kept as a checkpoint until its model is
finished: run again after a stop, it goes on from there. histojax evaluate takes OUT as it takes the trees'.

Training runs on one device, and is a task for an accelerator. The rate and the time left are shown.
"""

from experiments import flags
from histojax.learners import finetune
from histojax.utils.files import require_writable

flags.define_data()
flags.define_folds()
flags.define_path("models", "Folder to write folds and models to.")
flags.define_protocol("extraction", "finetune")
flags.define_mpp()
flags.define_weights()
flags.define_bool("keep_checkpoints", "Keep the last checkpoint of finished models.")


def main() -> None:
    protocol = flags.protocol("extraction", "finetune")
    extraction, chosen, models = protocol.extraction, protocol.finetune, flags.path("models")
    flags.refuse_inside_data("models")
    dataset = flags.dataset()
    finetune.check(dataset.paths, extraction, flags.FLAGS.mpp)
    require_writable(models)
    split = flags.split(models, dataset, chosen.folds, chosen.fold_seed)
    trained = finetune.train(
        dataset,
        models,
        split,
        extraction,
        chosen,
        runtime=flags.weight_files(),
        mpp=flags.FLAGS.mpp,
        keep_checkpoints=flags.FLAGS.keep_checkpoints,
    )
    count = len(extraction.configurations) * chosen.seeds * split.count
    print(f"{trained} models trained, {count} are there: {models}")


if __name__ == "__main__":
    flags.run(main, __doc__)
