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
from histojax.learners import ensembles

from . import runner
from .flag_types import define

FLAGS = flags.FLAGS
PER_CLASS, UNLABELLED = 12, 4

define("out", Path, Option("Folder to write everything to."), "runs/demo-random-weights")


def main() -> None:
    from histojax.extraction import compiled, devices  # Not above: training needs no JAX.

    from . import pipeline

    out, protocol = FLAGS.out, PRESETS["demo"]
    images, boosting = out / "images", protocol.boosting
    devices.split_cpu()
    compiled.keep_by_default()
    print(
        f"demo: synthetic tissue, UNTRAINED encoders (random weights), {protocol.models} models; "
        f"all below {out}"
    )
    synthetic.write_folder(images, PER_CLASS, UNLABELLED)
    dataset = datasets.load(images / "train")
    path = out / "models" / ensembles.FOLDS
    plan = pipeline.Plan(
        run=out,
        source=images / "train",
        dataset=dataset,
        split=folds.load_or_make(path, dataset, boosting.folds, boosting.fold_seed),
        protocol=protocol,
        new=unlabelled.find_images([images / "unlabelled"]),
        heatmaps=False,
    )
    pipeline.carry_out(plan, pipeline.load_encoders(dataset.images, protocol.extraction))


if __name__ == "__main__":
    runner.run(main, __doc__)
