"""A first look at images: what is there, what is wrong, what to run.

histojax inspect_data DIR --out=OUT           class folders, BACH as unzipped, unlabelled images
histojax inspect_data labels.csv --out=OUT    a table image,label[,patient]
histojax inspect_data DIR --groups=patients.xlsx --mpp=0.25 --out=OUT

Prints findings, problems before notes, and a suggestion with the commands to copy. It looks for
images that cannot be used, each with the cause; near-duplicates, also between two classes; crops of
--protocol or --views that do not fit; pixel sizes that differ or are missing; blank images; colours
unlike H&E or unlike the rest; tinted background, clipping, blur; groups in several classes, and
classes too small for the folds; a size, format or sharpness that alone tells the classes apart, or
a class that goes with the site, scanner, batch or date that a column tells.
Nothing that is wrong stops the rest. With --out, writes OUT/inspection.html (one file, with a
contact sheet), OUT/inspection.json and OUT/images.csv, a row an image.

--mpp says the microns per pixel of all images; --target_mpp, and --views in microns, try the views
on images resampled as histojax extract would. Time on two cores: about 0.15 s for an image of
896 x 768, after some seconds to start.
"""

from absl import flags, logging

from histojax.errors import InputError
from histojax.inspection import discovery, inspection
from histojax.report import inspection as pages
from histojax.utils.files import require_writable

from . import data, protocol, runner
from .flag_types import define_path

FLAGS = flags.FLAGS
POSITIONAL = ("data",)  # Flags whose values may be passed without their names.

data.define_labelled(required=False)
data.define_site_columns()
data.define_groups()
data.define_mpp()
protocol.define_preset("extraction")
protocol.define_fold_count()
define_path("out", "Folder to write to. Default: findings are printed alone.")


def main() -> None:
    source, out = data.label_table(), FLAGS.out
    if source is None:
        raise InputError(
            "name what to inspect: histojax inspect_data DIR (or --data=DIR, or --tfds=NAME)"
        )
    if out is not None:
        data.refuse_inside_data("out")
        require_writable(out)
    logging.set_verbosity(logging.ERROR)  # What is converted is a finding.
    options = inspection.Options(
        mpp=FLAGS.mpp,
        classes=data.classes(),
        groups=FLAGS.groups,
        group_column=FLAGS.group_column,
        site_columns=FLAGS.site_columns,
        folds=FLAGS.folds,
        fold_seed=FLAGS.fold_seed,
        run=FLAGS.run,
    )
    paths = discovery.discover(source, data.classes()).paths
    suit = protocol.suited_to(paths, FLAGS.mpp)
    chosen = protocol.from_flags("extraction", suit=suit)
    inspected = inspection.inspect(source, chosen.extraction, options)
    print(pages.write(out, inspected) if out else pages.text(inspected), end="")
    if out is not None:
        print(f"\n{out / pages.PAGE}, {pages.NUMBERS}, {pages.TABLE}")


if __name__ == "__main__":
    runner.run(main, __doc__, POSITIONAL)
