"""The whole pipeline on synthetic tissue with untrained encoders: what ./run.sh runs.

histojax demo

Renders 48 labelled and 4 unlabelled images of synthetic H&E tissue, describes them with all three encoders at two crop
sizes, trains the fold ensemble, prints and writes the evaluation, packs the ensemble into one file, and predicts the
unlabelled images from that file alone. Everything goes below runs/demo-random-weights; run again, it skips what is
done. The encoders are He-initialised, not trained, so the figures show that the pipeline works and nothing else. Takes
about 3 minutes on two cores.
"""

from experiments import flags
from histojax import datasets
from histojax.config import PRESETS
from histojax.datasets import folds, synthetic, unlabelled
from histojax.extraction import devices, extract
from histojax.learners import boost, ensembles
from histojax.learners.training import TrainingJob
from histojax.prediction import bundle, model_card, predict
from histojax.report.write import write_report

PER_CLASS, UNLABELLED = 12, 4

flags.define_path("out", "Folder to write everything to.", required=False)
flags.FLAGS.set_default("out", "runs/demo-random-weights")


def main() -> None:
    out, protocol = flags.path("out"), PRESETS["demo"]
    descriptors, models = out / "descriptors", out / "models"
    devices.split_cpu()
    print(
        f"demo: synthetic tissue, UNTRAINED encoders (random weights), {protocol.models} models; all below {out}"
    )
    synthetic.write_folder(out / "images", PER_CLASS, UNLABELLED)
    dataset = datasets.load(out / "images" / "train")
    extract.run(dataset.paths, protocol.extraction, descriptors)
    boosting = protocol.boosting
    split = folds.load_or_make(
        models / ensembles.FOLDS, dataset, boosting.folds, boosting.fold_seed
    )
    configurations = protocol.extraction.configurations
    boost.train(
        TrainingJob(descriptors, models, split, configurations), boosting, boost.default_workers()
    )
    print(
        write_report(models, out / "report", data=out / "images" / "train", descriptors=descriptors)
    )
    packed = out / "demo.histojax"
    made = bundle.from_models(models, descriptors=descriptors)
    bundle.write(packed, made, models, model_card.card(made), {})
    new = unlabelled.find_images([out / "images" / "unlabelled"])
    outcome = predict.predict_images(bundle.load(packed), new, out / "predictions")
    print(
        f"unlabelled images, by {packed} alone: {outcome.text(made)}; {out / 'predictions' / 'predictions.csv'}"
    )
    print(f"the report, to open in a browser: {out / 'report' / 'report.html'}")


if __name__ == "__main__":
    flags.run(main, __doc__)
