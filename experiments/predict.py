"""New images to classes, probabilities and their uncertainty.

histojax predict --bundle=FILE --images=FOLDER --out=OUT
histojax predict --models=DIR --trained_on=DESCRIPTORS --images=FOLDER --out=OUT
histojax predict --models=DIR --descriptors=DIR --out=OUT      images whose descriptors are there
histojax predict --bundle=FILE --data=TEST --out=OUT           labelled images: how good, how sure
histojax predict --bundle=FILE --features=JOB --out=OUT        slides with imported features

Every model of the ensemble scores each image. --images is a folder, one image, or a list (.txt with
a path a line, .csv with a column image). Their descriptors are computed by the protocol that the
models were trained with. OUT/predictions.csv has a row an image: the class, calibrated
probabilities, the score of the positive classes and the decision at the operating point, how much
augmentations and models disagree, the classes that cannot be ruled out at --coverage, and whether,
and why, the answer should not be used. predictions.jsonl has the same unrounded; submission.csv
(name,Class) and submission_probabilities.csv (case,class,P(...)) are what challenges take.
OUT/descriptors keeps the descriptors.

Images that cannot be predicted are listed in failures.csv and do not stop the others, and the exit
code is 3 in place of 0; with --strict they do. Files of a folder that may be meant as images but
are of a kind that is not read are among them. Each row is written as it comes, and the same command
goes on from there.

Slides (SVS, NDPI, MRXS, SCN, BIF, CZI, DICOM, Philips TIFF) are read by OpenSlide, each whole and
as one field, at the level of its pyramid that the models' --target_mpp needs; one too large for
that is for histojax heatmap.

Models of imported features predict features: --features is what histojax import_descriptors takes,
and must come from the tool, encoder and tiles that the training features came from; the recipe in
the bundle makes them OUT/descriptors. --data then names slides, with labels, that are among them.

Without --trained_on, --models cannot say how far images are from the training images (a bundle
can). For research, not for diagnosis.

Time: that of histojax extract per image; the models score meanwhile, as many images at once as
wait.
"""

import sys

from absl import flags

from histojax.config import Option
from histojax.errors import InputError
from histojax.extraction import manifests
from histojax.prediction import bundled_encoders, features, predict
from histojax.prediction.bundle import Bundle
from histojax.prediction.summary import PredictionSummary
from histojax.prediction.uncertainty import PredictionOptions

from . import computing, data, models, runner
from .flag_types import define, define_path

FLAGS = flags.FLAGS

models.define_bundle()
models.define_prediction_options()
data.define_unlabelled()
data.define_mpp()
computing.define_runtime("checked", "xla_preset")
define_path(
    "data",
    "Labelled images in place of --images, class folders or a table; the predictions are "
    "evaluated too.",
)
data.define_group_column()
define_path(
    "descriptors",
    "Folder of the images' descriptors, which are predicted if no images are named. Default: "
    "OUT/descriptors.",
)
define_path("out", "Folder to write predictions to.", required=True)
define(
    "features",
    tuple[str, ...],
    Option("Features of slides, for models of imported ones: as for histojax import_descriptors."),
)
models.require_one_of("images", "data", "tfds", "descriptors", "features")
flags.DEFINE_bool("strict", False, "Stop at the first image that cannot be predicted.")


def main() -> None:
    unlabelled = FLAGS.images or FLAGS.tfds
    if FLAGS.data and unlabelled:
        raise InputError(
            f"pass --data or --{'images' if FLAGS.images else 'tfds'}, not both: images with "
            "labels, or without"
        )
    data.refuse_inside_data("out")
    bundle, options = models.bundle(), models.prediction_options()
    if bundle.imported or FLAGS.features:
        summary = predict_features(bundle, options)
    elif FLAGS.data or unlabelled:
        if FLAGS.data:
            dataset = data.of_bundle(FLAGS.data, bundle)
            labels = predict.labels_of(bundle, dataset)
            images = predict.ImageFiles(dataset.images, FLAGS.mpp, labels)
        else:
            images = predict.ImageFiles(data.unlabelled(), FLAGS.mpp)
        summary = predict.predict_images(
            bundle,
            images,
            FLAGS.out,
            descriptors=FLAGS.descriptors,
            options=options,
            strict=FLAGS.strict,
            runtime=computing.runtime(),
        )
    else:
        summary = predict.predict_descriptors(bundle, FLAGS.descriptors, FLAGS.out, options)
    print(f"{summary.text(bundle)}\n{FLAGS.out / 'predictions.csv'}")
    if summary.failed:
        sys.exit(runner.PARTLY_FAILED)


def predict_features(bundle: Bundle, options: PredictionOptions) -> PredictionSummary:
    """Predicts slides by imported features: those of --features, or of --descriptors."""
    if FLAGS.images or FLAGS.tfds:
        bundled_encoders.require(bundle)
    if bundle.imported:
        computing.refuse_where_imported()
    if not (FLAGS.features or FLAGS.descriptors):
        raise InputError("--data has labels alone: pass the slides' features, too, as --features")
    root, failed, names = FLAGS.descriptors or FLAGS.out / "descriptors", {}, None
    if FLAGS.features:
        new = features.import_new(bundle, FLAGS.features, root)
        names, failed = new.names, new.failed
        if FLAGS.strict and failed:
            slide, cause = next(iter(failed.items()))
            raise InputError(f"{slide}: {cause}")
    labels = None
    if FLAGS.data:
        slides = manifests.imported_slides(root, bundle.configurations) or {}
        dataset = data.of_bundle(FLAGS.data, bundle, slides)
        labels = predict.labels_of(bundle, dataset)
        names = dataset.names
    return predict.predict_descriptors(
        bundle, root, FLAGS.out, options, names=names, labels=labels, failed=failed
    )


if __name__ == "__main__":
    runner.run(main, __doc__)
