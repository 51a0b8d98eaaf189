"""The whole pipeline on synthetic tissue with untrained encoders.

histojax demo

This is what ./run.sh runs: it renders 48 labelled and 4 unlabelled images of synthetic H&E tissue,
computes their descriptors with all three encoders at two crop sizes, trains the ensemble, prints
and writes the report, packs the ensemble into one file, and predicts the unlabelled images from
that file alone. Everything goes below --out; run again, it skips what is done. The encoders are
He-initialised, not trained, so the figures show that the pipeline works and nothing else. Takes
about 3 minutes on two cores.
"""

from pathlib import Path

from absl import flags

from histojax import datasets
from histojax.config import PRESETS, Option
from histojax.datasets import folds, synthetic, unlabelled
from histojax.extraction import devices, extract
from histojax.learners import boost, ensembles
from histojax.learners.training import TrainingJob
from histojax.prediction import bundle, model_card, predict
from histojax.report.write import write_report

from . import runner
from .flag_types import define

FLAGS = flags.FLAGS
PER_CLASS, UNLABELLED = 12, 4

define("out", Path, Option("Folder to write everything to."), "runs/demo-random-weights")


def main() -> None:
    out, protocol = FLAGS.out, PRESETS["demo"]
    boosting, configurations = protocol.boosting, protocol.extraction.configurations
    images, descriptors, models = out / "images", out / "descriptors", out / "models"
    devices.split_cpu()
    print(
        f"demo: synthetic tissue, UNTRAINED encoders (random weights), {protocol.models} models; "
        f"all below {out}"
    )
    synthetic.write_folder(images, PER_CLASS, UNLABELLED)
    dataset = datasets.load(images / "train")
    extract.run(dataset.images, protocol.extraction, descriptors)
    path = models / ensembles.FOLDS
    split = folds.load_or_make(path, dataset, boosting.folds, boosting.fold_seed)
    job = TrainingJob(descriptors, models, split, configurations)
    boost.train(job, boosting, boost.default_workers())
    print(write_report(models, out / "report", data=images / "train", descriptors=descriptors))
    packed = out / "demo.histojax"
    made = bundle.from_models(models, descriptors=descriptors)
    bundle.write(packed, made, models, model_card.card(made), {})
    new = unlabelled.find_images([images / "unlabelled"])
    summary = predict.predict_images(bundle.load(packed), new, out / "predictions")
    print(
        f"unlabelled images, by {packed} alone: {summary.text(made)}; "
        f"{out / 'predictions' / 'predictions.csv'}"
    )
    print(f"the report, to open in a browser: {out / 'report' / 'report.html'}")


if __name__ == "__main__":
    runner.run(main, __doc__)
