"""What crop mode shared costs on a data set: descriptors and cross-validated figures against crop mode exact.

histojax compare_crop_modes --data=DIR --out=OUT                      the paper's protocol, twice
histojax compare_crop_modes --data=groups.csv --out=OUT --weights=random --encoders=VGG \\
    --views=0.5-192,0.5-320 --augmentations=4 --crops=6 --seeds=3                  a small one, untrained encoder

Shared crops are windows of one pass over the whole image, and approximate exact ones, which the encoder sees by
themselves. Describes the images in both modes, trains an ensemble on each with the same folds and seeds, and prints,
for each tap, relative error and correlation of the descriptors; then accuracy and ROC AUC of both ensembles and their
difference, with a 95 % interval of a paired bootstrap: of whole groups where --data gives groups, else of images.

Writes OUT/crop_modes.json and OUT/crop_modes.csv, and OUT/exact and OUT/shared with descriptors and models. Run again
after a stop, it goes on from there. --crops_per_step and --pooling are for exact crops; shared ones take the defaults.

Time: that of histojax extract in both modes, and of two ensembles. The rate and the time left are shown.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments import flags
from histojax import datasets
from histojax.config import CROP_MODES, Boosting, Extraction, Runtime
from histojax.datasets import folds
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation import evaluate, metrics
from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.extraction import provenance, store
from histojax.learners import boost, ensembles
from histojax.learners.training import TrainingJob
from histojax.report import crop_modes
from histojax.utils.files import require_writable

flags.define_data()
flags.define_path("out", "Folder to write everything to.")
flags.define_positive()
flags.define_protocol("extraction", "boosting")
flags.define_mpp()
flags.define_runtime()


def main() -> None:
    if flags.FLAGS.crop_mode is not None:
        raise InputError("--crop_mode has no place here: both modes are compared, leave it out")
    flags.refuse_inside_data("out")
    out, protocol = flags.path("out"), flags.protocol("extraction", "boosting")
    modes = [dataclasses.replace(protocol.extraction, crop_mode=mode) for mode in CROP_MODES]
    boosting = protocol.boosting
    dataset = datasets.load(flags.data(), flags.classes())
    positive = metrics.positive_classes(dataset.classes, flags.FLAGS.positive_classes)
    require_writable(out)
    # Before the long work, for it may be refused.
    split = folds.load_or_make(
        out / "exact" / "models" / ensembles.FOLDS, dataset, boosting.folds, boosting.fold_seed
    )
    folds.save(split, out / "shared" / "models" / ensembles.FOLDS)
    runtime = flags.runtime()
    runtimes = runtime, dataclasses.replace(runtime, crops_per_step=None, pooling="xla")
    for mode, runtime in zip(modes, runtimes, strict=True):
        describe(dataset.paths, mode, out / mode.crop_mode / "descriptors", runtime)
    judged = [
        cases(out / mode.crop_mode, split, mode, boosting, dataset.groups, positive)
        for mode in modes
    ]

    made_with = [
        store.read_manifest(out / "exact" / "descriptors", name) for name in modes[0].configurations
    ]
    images, classes, groups = len(split.names), split.classes, dataset.groups
    comparison = crop_modes.CropModeComparison(
        data=f"{images} images of {len(classes)} classes ({', '.join(classes)}), {split.count} folds",
        weights=provenance.weights(made_with),
        resampled=f"{len(set(groups))} whole groups"
        if groups
        else f"{images} images (no groups are known)",
        positive=tuple(classes[i] for i in positive),
        agreements=agreements(out, split.names, *modes),
        effects=crop_modes.effects(*judged),
    )
    print(crop_modes.write(out, comparison), end="")


def describe(paths: Sequence[Path], extraction: Extraction, root: Path, runtime: Runtime) -> None:
    """Describes the images in one mode and prints its pace."""
    from histojax.extraction import (
        extract,  # Here alone: the processes that train import this file, and need no jax.
    )

    outcome = extract.run(paths, extraction, root, mpp=flags.FLAGS.mpp, runtime=runtime)
    crops = (
        outcome.described
        * extraction.augmentations
        * extraction.crops
        * len(extraction.configurations)
    )
    pace = (
        f", {crops} crops in {outcome.seconds:.1f} s, {crops / outcome.seconds:.3g} crops/s"
        if crops
        else ""
    )
    print(
        f"{extraction.crop_mode}: {outcome.described} images described, {outcome.done_before} were before{pace}"
    )


def cases(
    root: Path,
    split: Folds,
    extraction: Extraction,
    boosting: Boosting,
    groups: Sequence[str] | None,
    positive: Sequence[int],
) -> LabelledPredictions:
    """Trains what is missing of one mode's ensemble; its blended out-of-fold scores."""
    names = extraction.configurations
    boost.train(
        TrainingJob(root / "descriptors", root / "models", split, names),
        boosting,
        boost.default_workers(),
    )
    ensemble = ensembles.load(root / "models")
    blended = metrics.mean_scores([ensembles.out_of_fold(ensemble, name) for name in names])
    return evaluate.out_of_fold_predictions(
        dataclasses.replace(split, groups=groups).held_out(), blended, positive
    )


def agreements(
    out: Path, names: Sequence[str], exact: Extraction, shared: Extraction
) -> list[crop_modes.Agreement]:
    """Of every configuration, tap by tap."""
    from histojax import encoders

    found = []
    for name in exact.encoders:
        taps = {tap.layer: tap.channels for tap in encoders.get(name, exact.resnet_variant).outputs}
        for view in exact.views:
            pair = [
                store.read(
                    out / mode.crop_mode / "descriptors", mode.configuration(name, view), names
                )
                for mode in (exact, shared)
            ]
            found += crop_modes.agreement(exact.configuration(name, view), *pair, taps)
    return found


if __name__ == "__main__":
    flags.run(main, __doc__)
