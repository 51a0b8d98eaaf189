"""Where in the image: maps of class probabilities.

histojax heatmap --bundle=FILE --images=FOLDER --out=OUT
histojax heatmap --models=DIR --images=IMAGE.tif --out=OUT

Every model of an ensemble scores a grid of positions. --images is a folder, one image, or a list
(.txt with a path a line, .csv with a column image). Images may be of any size: they are read in
tiles. So are slides (SVS, NDPI, MRXS, SCN, BIF, CZI, DICOM, Philips TIFF), at the level of their
pyramid that the models' --target_mpp needs. OUT/<image> will hold

overview.html       one page: the image beside a map for each class and of the positive score, whose
                    colours can be faded; areas; whether and why not to believe it
<n>-<class>.png     the probability of a class; positive.png the score of the positive classes;
                    classes.png the likeliest class
regions.geojson     regions whose score is at or above the operating point, and what is far from the
                    training images, as annotations for QuPath (drop the file onto the image)
grid.npy            float32 (classes, rows, columns), calibrated and not smoothed; NaN where there
                    is too little tissue
grid.json           what the grid means: stride, first position, windows, pixel size, classes,
                    models

A grid position is scored by what lies within 1.5 crops of it: the map is no sharper than that,
whatever the --stride. One pass over the field serves all positions, since a crop of a network's
maps is a window of them. That does not apply to encoders that make a vector of an image, as vision
transformers do: crops go through these one by one, --crop_step of their side apart, and each window
is the crop nearest to it.

Images that cannot be mapped are listed in OUT/failures.csv and do not stop the others, and the exit
code is 3 in place of 0; with --strict they do. A second run leaves alone what is there. For
research, not for diagnosis.

Time: one pass of each encoder over the image for each augmentation, some 2.5 Mpx at scale 0.5 a
minute for each on two cores with VGG, several times that with the others. Of an encoder that makes
vectors, four crops for each crop's area of tissue; --crop_step=1 takes a quarter of that.
"""

import dataclasses
import sys

from absl import flags

from histojax.heatmap import answers, heatmap, passes
from histojax.heatmap.heatmap import HeatmapOptions
from histojax.prediction import bundled_encoders
from histojax.prediction.predict import ImageFiles

from . import computing, data, models, runner
from .flag_types import define_path

FLAGS = flags.FLAGS

models.define_bundle()
data.define_unlabelled()
data.define_mpp()
computing.define_runtime()
define_path("out", "Folder to write maps to.", required=True)
flags.DEFINE_integer(
    "stride",
    HeatmapOptions.stride,
    "Pixels of the file from one grid position to the next. Default: a quarter of the smallest "
    "crop.",
)
flags.DEFINE_integer(
    "augmentations", HeatmapOptions.augmentations, "Stain augmentations that are averaged over."
)
flags.DEFINE_float(
    "crop_step",
    HeatmapOptions.crop_step,
    "Of encoders that make a vector of a crop: from one crop to the next, in crops, at most 1. "
    "Default: 0.5; with others it is not known which places are unlike the training images.",
)
flags.DEFINE_float(
    "sigma",
    HeatmapOptions.sigma,
    "Standard deviation, in grid positions, of the Gaussian that smooths pictures and regions.",
)
define_path(
    "predictions",
    "Folder that histojax predict wrote for the same images: its descriptors and options are used.",
)
flags.DEFINE_bool(
    "predict",
    True,
    "Predict each image first; without it maps cannot say whether histojax predict would abstain.",
)
flags.DEFINE_bool("strict", False, "Stop at the first image that cannot be mapped.")


def main() -> None:
    runtime = computing.runtime()
    data.refuse_inside_data("out")
    options = HeatmapOptions(
        FLAGS.stride, FLAGS.augmentations, FLAGS.sigma, FLAGS.mpp, crop_step=FLAGS.crop_step
    )
    options.check()
    bundle = models.bundle()
    bundled_encoders.require(bundle)
    images = data.unlabelled()
    encoder_set = bundled_encoders.load(bundle, runtime)
    passes.check_encoders(encoder_set, options.crop_step)
    predicted = None
    if FLAGS.predict:
        predicted = answers.predict_fields(
            bundle, ImageFiles(images, FLAGS.mpp), FLAGS.out, encoder_set, FLAGS.predictions
        )
    if FLAGS.predictions:
        sensitivity = answers.options_of(FLAGS.predictions, bundle).sensitivity
        options = dataclasses.replace(options, sensitivity=sensitivity)
    summary = heatmap.map_images(
        bundle,
        images,
        FLAGS.out,
        options,
        predicted=predicted,
        strict=FLAGS.strict,
        encoder_set=encoder_set,
    )
    print(summary.text(FLAGS.out))
    if summary.failed:
        sys.exit(runner.PARTLY_FAILED)


if __name__ == "__main__":
    runner.run(main, __doc__)
