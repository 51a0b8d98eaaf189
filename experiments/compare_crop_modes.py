"""What crop mode hybrid costs on a data set, against crop mode exact.

histojax compare_crop_modes --data=DIR --out=OUT                     the paper's protocol, twice
histojax compare_crop_modes --data=groups.csv --out=OUT --weights=random --encoders=VGG \\
    --views=0.5-192,0.5-320 --augmentations=4 --crops=6 --seeds=3    a small one, untrained encoder

Computes descriptors in both modes, trains an ensemble on each with the same folds and seeds, and
prints, for each tap, the error on the same crops, which hybrid measures on --checked images; how
close the images' means over augmentations are, of which each mode draws its own; and how much
augmentations of an image vary in hybrid, as a share of exact's. Then accuracy and ROC AUC of both
ensembles and their difference, with a 95 % interval of a paired bootstrap: of whole groups where
--data gives groups, else of images.

Writes OUT/crop_modes.json and OUT/crop_modes.csv, and OUT/exact and OUT/hybrid with descriptors and
models. After a stop, the same command goes on from there. --crops_per_step and --pooling are for
exact crops; hybrid takes the defaults.

Time: that of histojax extract in both modes, and of two ensembles. The rate and the time left are
shown.
"""

import dataclasses
from collections.abc import Sequence

from absl import flags

from histojax.config import CROP_MODES, Extraction, Protocol
from histojax.datasets import folds, leakage, positive
from histojax.datasets.folds import Folds
from histojax.evaluation import evaluate
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import manifests, store
from histojax.learners import ensembles
from histojax.report import crop_modes
from histojax.utils.files import require_writable

from . import computing, data, models, protocol, runner, variants
from .flag_types import define_path

FLAGS = flags.FLAGS

data.define_labelled()
data.define_mpp()
models.define_positive()
protocol.define_preset("extraction", "boosting", but="crop_mode")
computing.define_runtime("checked")
define_path("out", "Folder to write everything to.", required=True)


def main() -> None:
    data.refuse_inside_data("out")
    out, dataset = FLAGS.out, data.dataset()
    suit = protocol.suited_to(dataset.paths, FLAGS.mpp)
    chosen = protocol.from_flags("extraction", "boosting", suit=suit)
    modes = [dataclasses.replace(chosen.extraction, crop_mode=mode) for mode in CROP_MODES]
    check(modes)
    boosting = chosen.boosting
    print(positive.choose(dataset.classes, FLAGS.positive_classes).reason)
    require_writable(out)
    # Before the long work, for it may be refused.
    path = out / "exact" / "models" / ensembles.FOLDS
    split = folds.load_or_make(path, dataset, boosting.folds, boosting.fold_seed)
    folds.save(split, out / "hybrid" / "models" / ensembles.FOLDS)
    print(leakage.kept_together(split))
    runtime = computing.runtime()
    runtimes = runtime, dataclasses.replace(runtime, crops_per_step=None, pooling="xla")
    for extraction, runtime in zip(modes, runtimes, strict=True):
        folder = out / extraction.crop_mode
        variants.extract(folder, dataset.images, extraction, FLAGS.mpp, runtime)
    predictions = [train_in_mode(split, extraction, chosen) for extraction in modes]
    print(crop_modes.write(out, comparison(split, modes, predictions)), end="")


def check(modes: Sequence[Extraction]) -> None:
    """Raises InputError where an encoder has no maps for a mode, before any long work."""
    # Not above: the processes that train import this file, and need no JAX.
    from histojax import encoders
    from histojax.extraction import loaded_encoders

    chosen = [encoders.get(name) for name in modes[0].encoders]
    loaded_encoders.require_maps(
        chosen,
        "crop mode hybrid takes windows of",
        "leave it out of --encoders, there is no second mode to compare",
    )
    for extraction in modes:
        loaded_encoders.check(extraction, "xla")


def train_in_mode(split: Folds, extraction: Extraction, chosen: Protocol) -> LabelledPredictions:
    """Trains what is missing of one mode's ensemble; its mean out-of-fold scores."""
    folder = FLAGS.out / extraction.crop_mode
    models, names = folder / "models", extraction.configurations
    variants.train(folder / "descriptors", models, split, names, chosen)
    return evaluate.load_out_of_fold(models, FLAGS.positive_classes, names)


def comparison(
    split: Folds, modes: Sequence[Extraction], predictions: Sequence[LabelledPredictions]
) -> crop_modes.CropModeComparison:
    """Both modes side by side."""
    descriptors = FLAGS.out / "exact" / "descriptors"
    extractions = [manifests.read(descriptors, name) for name in modes[0].configurations]
    images, classes, groups = len(split.names), split.classes, split.groups
    return crop_modes.CropModeComparison(
        data=f"{images} images of {len(classes)} classes ({', '.join(classes)}), "
        f"{split.count} folds",
        weights=manifests.weights_text(extractions),
        resampled=f"{len(set(groups))} whole groups"
        if groups
        else f"{images} images (no groups are known)",
        positive=tuple(classes[i] for i in predictions[0].positive),
        agreements=agreements(split.names, *modes),
        effects=crop_modes.effects(*predictions),
    )


def agreements(
    names: Sequence[str], exact: Extraction, hybrid: Extraction
) -> list[crop_modes.Agreement]:
    """The agreement of descriptors, configuration by configuration and tap by tap."""
    from histojax import encoders

    rows = []
    for encoder in exact.encoders:
        outputs = encoders.get(encoder, exact.resnet_variant).outputs
        taps = {tap.layer: tap.channels for tap in outputs}
        for view in exact.views:
            (_, one), (root, other) = pair = [
                (FLAGS.out / mode.crop_mode / "descriptors", mode.configuration(encoder, view))
                for mode in (exact, hybrid)
            ]
            measured = (manifests.read(root, other) or {}).get("crop_error", {}).get("taps", {})
            descriptors = [store.read(*place, names) for place in pair]
            errors = {tap: error["largest_error"] for tap, error in measured.items()}
            rows += crop_modes.agreement(one, *descriptors, taps, errors)
    return rows


if __name__ == "__main__":
    runner.run(main, __doc__)
