"""New images to classes, probabilities and doubt, by every model of an ensemble.

histojax predict --bundle=FILE --images=FOLDER --out=OUT
histojax predict --models=DIR --trained_on=DESCRIPTORS --images=FOLDER --out=OUT
histojax predict --models=DIR --descriptors=DIR --out=OUT     images described before
histojax predict --bundle=FILE --data=TEST --out=OUT           labelled images: how good, beside how sure

--images is a folder, one image, or a list (.txt with a path a line, .csv with a column image). They are described with
the protocol the models were trained on. OUT/predictions.csv has a row an image: the class, calibrated probabilities,
the carcinoma score and the decision at the operating point, how much augmentations and models disagree, the classes
that cannot be ruled out at --coverage, and whether, and why, the answer should not be used. The same unrounded in
predictions.jsonl; submission.csv (name,Class) and submission_probabilities.csv (case,class,P(...)) are what challenges
take. OUT/descriptors keeps the descriptors.

Images that cannot be predicted are listed in failures.csv and do not stop the others; with --strict they do. Each row
is written as it comes, and a second run goes on from there. Without --trained_on (a bundle has what it needs of it) it
is not known how far images are from the training images. For research, not for diagnosis.

Time: as histojax extract per image; the models score beside it, as many images at once as are waiting.
"""

from experiments import flags
from histojax import datasets
from histojax.errors import InputError
from histojax.prediction import predict

flags.define_model()
flags.define_images()
flags.define_labelled_images()
flags.define_path(
    "descriptors", "Folder of their descriptors; by default OUT/descriptors.", required=False
)
flags.define_path("out", "Folder to write predictions to.")
flags.define_prediction_options()
flags.define_mpp()
flags.define_bool("strict", "Stop at the first image that cannot be predicted.")
flags.define_runtime()


def main() -> None:
    runtime, descriptors, out = flags.runtime(), flags.path("descriptors"), flags.path("out")
    labelled, unlabelled = flags.path("data") is not None, not flags.no_images()
    if labelled + unlabelled + (descriptors is not None) == 0 or (labelled and unlabelled):
        raise InputError(
            "pass either --images (a folder, an image, or a list), --data (labelled), or --descriptors"
        )
    flags.refuse_inside_data("out")
    bundle, options = flags.model(), flags.prediction_options()
    if not labelled and not unlabelled:
        summary = predict.predict_descriptors(bundle, descriptors, out, options)
    else:
        dataset = datasets.load(flags.path("data"), require_all_classes=False) if labelled else None
        images = predict.ImageFiles(
            dataset.paths if labelled else flags.images(),
            flags.FLAGS.mpp,
            predict.labels_of(bundle, dataset) if labelled else None,
        )
        summary = predict.predict_images(
            bundle,
            images,
            out,
            descriptors=descriptors,
            options=options,
            strict=flags.FLAGS.strict,
            runtime=runtime,
        )
    print(f"{summary.text(bundle)}\n{out / 'predictions.csv'}")


if __name__ == "__main__":
    flags.run(main, __doc__)
