"""Do probabilities, prediction sets and abstentions hold for patients that no model saw? Groups are left out in turn.

histojax leave_groups_out --data=groups.csv --descriptors=DIR --out=OUT --folds=9
histojax leave_groups_out --data=groups.csv --descriptors=DIR --out=OUT --parts=5 --seeds=2 --boost=fast

For each group, or each of --parts bundles of groups, an ensemble is trained on the others, with a cross-validation of
its own whose folds are whole groups, and predicts what was left out as histojax predict does: nothing of it was used
for temperature, sets or what counts as typical. --data gives names, labels and groups; the images are not read.

Writes OUT/summary.txt, .md and .json: how often the sets have the true class beside the coverage stated, how large they
are, how many answers are abstained from and why, accuracy with and without those, and the calibration error before
and after. OUT/predictions.csv has a row for each coverage and image. Run again after a stop, it trains what is missing.

Time: as histojax train, as many times as there are parts.
"""

from experiments import flags
from histojax.errors import InputError
from histojax.learners import boost
from histojax.prediction import leave_groups_out
from histojax.report import leave_groups_out as pages
from histojax.utils.files import require_writable

flags.define_data()
flags.define_groups()
flags.define_path("descriptors", "Folder of descriptors, as histojax extract writes it.")
flags.define_path("out", "Folder to write models, predictions and summaries to.")
flags.define_ensemble(boost.default_workers())
flags.define_positive()
flags.define_integer(
    "parts", None, "Parts that the groups fall into; by default each is one.", lower_bound=2
)
flags.define_list("coverages", "Coverages of the prediction sets; 0.8,0.9 by default.")
flags.define_protocol("boosting")


def main() -> None:
    boosting, out = flags.protocol("boosting").boosting, flags.path("out")
    flags.refuse_inside_data("out")
    require_writable(out)
    coverages = [number(text) for text in flags.FLAGS.coverages or ()]
    transferred = leave_groups_out.run(
        flags.dataset(),
        flags.path("descriptors"),
        out,
        flags.configurations(),
        boosting,
        leave_groups_out.Options(
            flags.FLAGS.parts, coverages or leave_groups_out.COVERAGES, flags.FLAGS.positive_classes
        ),
        flags.FLAGS.workers,
    )
    print(pages.write(out, transferred, boosting), end="")


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--coverages has {text!r}, expected numbers between 0 and 1, such as 0.8,0.9"
        ) from None


if __name__ == "__main__":
    flags.run(main, __doc__)
