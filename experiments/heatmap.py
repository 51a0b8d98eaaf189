"""Where in the image: maps of class probabilities.

histojax heatmap --bundle=FILE --images=FOLDER --out=OUT
histojax heatmap --models=DIR --images=IMAGE.tif --out=OUT

Every model of an ensemble scores a grid of positions. --images is a folder, one image, or a list
(.txt with a path a line, .csv with a column image). Images may be of any size: they are read in
tiles. OUT/<image> will hold

overview.html       one page: the image, a map for each class, the positive score, areas
<n>-<class>.png     the probability of a class; carcinoma.png the score of the positive classes;
                    classes.png the likeliest class
regions.geojson     regions at and above the operating point, as annotations for QuPath (drop the
                    file onto the image)
grid.npy            float32 (classes, rows, columns), calibrated and not smoothed; NaN where there
                    is too little tissue
grid.json           what the grid means: stride, first position, windows, pixel size, classes,
                    models

A grid position is scored by what lies within 1.5 crops of it: the map is no sharper than that,
whatever the --stride. Images that cannot be mapped are listed in OUT/failures.csv and do not stop
the others, and the exit code is 3 in place of 0; with --strict they do. A second run leaves alone
what is there. For research, not for diagnosis.

Time: one pass of each encoder over the image for each augmentation, some 2.5 Mpx at scale 0.5 a
minute for each on two cores with VGG, several times that with the others.
"""

from absl import flags

from histojax.heatmap import heatmap
from histojax.heatmap.heatmap import HeatmapOptions

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
    "sigma",
    HeatmapOptions.sigma,
    "Standard deviation, in grid positions, of the Gaussian that smooths pictures and regions.",
)
flags.DEFINE_bool("strict", False, "Stop at the first image that cannot be mapped.")


def main() -> None:
    runtime = computing.runtime()
    options = HeatmapOptions(FLAGS.stride, FLAGS.augmentations, FLAGS.sigma, FLAGS.mpp)
    summary = heatmap.map_images(
        models.bundle(), data.unlabelled(), FLAGS.out, options, strict=FLAGS.strict, runtime=runtime
    )
    print(summary.text(FLAGS.out))


if __name__ == "__main__":
    runner.run(main, __doc__)
