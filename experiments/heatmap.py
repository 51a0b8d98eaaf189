"""Where in the image: class probabilities over a grid of places, laid over the field, by every model of an ensemble.

histojax heatmap --bundle=FILE --images=FOLDER --out=OUT
histojax heatmap --models=DIR --images=IMAGE.tif --out=OUT

--images is a folder, one image, or a list (.txt with a path a line, .csv with a column image). Fields may be of any
size: they are read in tiles. Below OUT/<image> there will be

overview.html       everything on one page: the field, a map for each class, the carcinoma score, areas
<n>-<class>.png     the probability of a class; carcinoma.png the carcinoma score, classes.png the likeliest class
regions.geojson     regions at and above the operating point, as annotations for QuPath (drop the file onto the image)
grid.npy            float32 (classes, rows, columns), calibrated and not smoothed; NaN where there is too little tissue
grid.json           what the grid means: stride, first place, windows, pixel size, classes, models

A place is judged by what lies within 1.5 crops about it: the map is no sharper than that, whatever the --stride. Images
that cannot be mapped are listed in OUT/failures.csv and do not stop the others; with --strict they do. A second run
leaves alone what is there. For research, not for diagnosis.

Time: one pass of each encoder over the field for each augmentation, some 2.5 Mpx at scale 0.5 a minute for each on two
cores with VGG, several times that with the others.
"""

from experiments import flags
from histojax.heatmap import heatmap
from histojax.heatmap.heatmap import HeatmapOptions

flags.define_model()
flags.define_images()
flags.define_path("out", "Folder to write maps to.")
text = "Pixels of the file from one place to the next; by default a quarter of the smallest crop."
flags.define_integer("stride", HeatmapOptions.stride, text)
flags.define_integer(
    "augmentations", HeatmapOptions.augmentations, "Stain augmentations that are averaged over."
)
flags.define_float(
    "sigma",
    HeatmapOptions.sigma,
    "Deviation of the Gaussian that smooths pictures and regions, in places.",
)
flags.define_mpp()
flags.define_bool("strict", "Stop at the first image that cannot be mapped.")
flags.define_runtime()


def main() -> None:
    runtime, out = flags.runtime(), flags.path("out")
    given = flags.FLAGS
    options = HeatmapOptions(given.stride, given.augmentations, given.sigma, given.mpp)
    summary = heatmap.map_images(
        flags.model(), flags.images(), out, options, strict=given.strict, runtime=runtime
    )
    print(summary.text(out))


if __name__ == "__main__":
    flags.run(main, __doc__)
