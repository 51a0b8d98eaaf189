"""Do probabilities, prediction sets and abstentions hold for new patients?

histojax leave_groups_out --data=groups.csv --descriptors=DIR --out=OUT --folds=9
histojax leave_groups_out --data=groups.csv --descriptors=DIR --out=OUT --parts=5 --seeds=2 \\
    --boost=fast

Groups are left out in turn: for each group, or each of --parts sets of groups, an ensemble is
trained on the others, by a cross-validation of its own whose folds are whole groups, and predicts
what was left out as histojax predict does. Nothing of it was used for the temperature, the
prediction sets or the distribution of known images. --data gives names, labels and groups; the
images are not read.

Writes OUT/summary.txt, .md and .json: how often the sets hold the true class beside the coverage
stated, how large they are, how many answers are abstained from and why, accuracy with and without
those, and the calibration error before and after. OUT/predictions.csv has a row for each coverage
and image. After a stop, the same command trains what is missing.

Time: that of histojax train, as many times as there are parts.
"""

from absl import flags

from histojax.errors import InputError
from histojax.evaluation import own_data
from histojax.prediction import leave_groups_out
from histojax.report import leave_groups_out as pages
from histojax.utils.files import require_writable

from . import data, models, protocol, runner, splits
from .flag_types import define_path

FLAGS = flags.FLAGS

data.define_labelled()
data.define_groups()
splits.define_group_copies()
models.define_descriptors()
models.define_workers()
models.define_positive()
protocol.define_preset("boosting")
define_path("out", "Folder to write models, predictions and summaries to.", required=True)
flags.DEFINE_integer(
    "parts",
    None,
    "Parts that the groups fall into, left out one by one. Default: each group is one.",
    lower_bound=2,
)
flags.DEFINE_list("coverages", None, "Coverages of the prediction sets. Default: 0.8,0.9.")


def main() -> None:
    boosting = protocol.from_flags("boosting").boosting
    data.refuse_inside_data("out")
    require_writable(FLAGS.out)
    coverages = [as_number(text) for text in FLAGS.coverages or ()]
    configurations = models.configurations()
    dataset = data.dataset(models.imported_slides(configurations))
    own_data.require_same_files(dataset, FLAGS.descriptors)
    dataset = splits.with_copies(dataset)
    transferred = leave_groups_out.run(
        dataset,
        FLAGS.descriptors,
        FLAGS.out,
        configurations,
        boosting,
        leave_groups_out.Options(
            FLAGS.parts, coverages or leave_groups_out.COVERAGES, FLAGS.positive_classes
        ),
        FLAGS.workers,
    )
    print(pages.write(FLAGS.out, transferred, boosting))
    print(f"{FLAGS.out / 'summary.txt'}, summary.md, summary.json, predictions.csv")


def as_number(text: str) -> float:
    """A number; InputError where it is none."""
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--coverages has {text!r}, expected numbers between 0 and 1, such as 0.8,0.9"
        ) from None


if __name__ == "__main__":
    runner.run(main, __doc__)
