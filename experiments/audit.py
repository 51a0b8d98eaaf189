"""Does a split leak? Shared patients or slides, and near-duplicate images.

histojax audit --data=DIR --models=DIR --groups=patients.xlsx         the split of trained models
histojax audit --data=DIR --split=folds.csv --groups=patients.csv     any split
histojax audit --data=DIR --groups=patients.csv --fold_maker=grouped  what training would make

--groups is a CSV or spreadsheet with a column of image names and one of patients or slides, such as
BACH's ICIAR2018_BACH_dataset_micro_patient.xlsx as it comes. Prints for each fold how many test
images share a group with training, and how many the class too; images of unknown group are counted
apart.

Copies are found by local features and laid on each other: turning by any angle, mirroring, crops
down to 70 %, another size, JPEG, another brightness, contrast or stain do not hide them. Fields of
one slide that overlap are found the same way and called overlapping: neither is turned, mirrored or
scaled, and each shows a part that the other lacks. A pair in two folds leaks; a pair of two classes
has a wrong label. Bare glass is compared as files alone.

Where pairs are in two folds, it says what accuracy becomes without: of --models, that of the images
without a copy in training; with --descriptors, that of linear heads fitted anew in the folds as
they are, and in folds that keep copies together, as those of --group_copies do.

Where descriptors were imported there are no images to compare, and groups alone are audited:
--descriptors names their folder.

With --out, writes audit.json, audit.csv (a row a fold), duplicates.csv, and duplicates.html with
the pairs side by side, the second laid on the first. All images are read once; an image takes about
0.07 s of a core, and the search less than that.
"""

from collections.abc import Sequence

from absl import flags

from histojax.datasets import Dataset, folds, leakage, positive
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.evaluation import copies as copies_study
from histojax.evaluation import evaluate
from histojax.evaluation.copies import CopiesStudy
from histojax.extraction import manifests, store
from histojax.inspection import near_duplicates, split_pairs
from histojax.inspection.near_duplicates import Pair
from histojax.inspection.split_pairs import SplitPair
from histojax.learners import ensembles
from histojax.report import audit, copies
from histojax.utils.files import require_writable

from . import data, protocol, runner, splits
from .flag_types import define_path

FLAGS = flags.FLAGS
LISTED = 10  # Most pairs in the printed text.

data.define_labelled()
splits.define_split()
define_path(
    "descriptors",
    "Folder of the images' descriptors, to tell what accuracy becomes without copies in training; "
    "of imported ones, where --data names slides of theirs.",
)
protocol.define_fold_count()
define_path("split", "Split to audit: CSV image,label,fold[,group][,copies].")
define_path("models", "Folder of models whose split is audited.")
define_path("out", "Folder to write to. Default: everything is printed alone.")


def main() -> None:
    slides = FLAGS.descriptors and manifests.imported_slides(
        FLAGS.descriptors, store.configurations(FLAGS.descriptors)
    )
    if not slides and FLAGS.models is not None and ensembles.of_imported(FLAGS.models):
        raise InputError(
            f"{FLAGS.models} was trained on imported features, of slides without images: pass the "
            "folder of their descriptors as --descriptors"
        )
    dataset = data.dataset(slides)
    if FLAGS.out is not None:
        data.refuse_inside_data("out")
        require_writable(FLAGS.out)
    refuse_flags_of_a_new_split()
    pairs = study = None
    if not slides:
        pairs = near_duplicates.find_pairs(near_duplicates.fingerprints(dataset.paths))
    split = split_to_audit(dataset, pairs)
    leaks = leakage.audit(split)
    print("\n".join(leakage.text_lines(leaks)), flush=True)
    if slides:
        print("\nnear-duplicates: not searched for, since descriptors were imported without images")
    else:
        pairs = split_pairs.pairs_in_split(pairs, split)
        print("\n".join(["", *split_pairs.summary_lines(pairs, split, LISTED)]), flush=True)
        study = accuracy_without_copies(pairs, split)
        if study is not None:
            print("\n".join(["", *copies.text_lines(study)]))
    if FLAGS.out is not None:
        written = audit.write(FLAGS.out, leaks, pairs, split, dataset, study)
        print(f"\n{FLAGS.out / written[0]}, {', '.join(written[1:])}")


def refuse_flags_of_a_new_split() -> None:
    """Raises InputError where flags both name a split and say how one is made."""
    if FLAGS.models is not None and FLAGS.split is not None:
        raise InputError("--split and --models both name a split: pass one")
    named = FLAGS.models is not None or FLAGS.split is not None
    if named and (FLAGS.fold_maker or FLAGS.paper_folds or FLAGS.group_copies):
        raise InputError(
            "--fold_maker, --paper_folds and --group_copies make a split, --split and --models "
            "name one: pass either"
        )


def accuracy_without_copies(pairs: Sequence[SplitPair], split: Folds) -> CopiesStudy | None:
    """What accuracy becomes without copies in training, as far as models or descriptors tell."""
    predictions = None
    if FLAGS.models is not None:
        try:
            predictions = evaluate.load_out_of_fold(FLAGS.models, (positive.NONE,))
        except InputError as error:
            print(f"note: the accuracy of the models is left out: {error}")
    configurations = store.configurations(FLAGS.descriptors) if FLAGS.descriptors else ()
    descriptors = FLAGS.descriptors if configurations else None
    return copies_study.study(predictions, pairs, split, descriptors, configurations)


def split_to_audit(dataset: Dataset, pairs: Sequence[Pair] | None) -> Folds:
    """The split that the flags name, or the one that training would make; `pairs` of images."""
    path = FLAGS.split if FLAGS.models is None else FLAGS.models / ensembles.FOLDS
    if path is None:
        dataset = splits.with_copies(dataset, found=pairs)
        return splits.paper_split(dataset) or folds.make(
            dataset, FLAGS.folds, FLAGS.fold_seed, FLAGS.fold_maker, FLAGS.unknown_groups
        )
    return folds.match_dataset(folds.load(path, dataset.classes), dataset, path)


if __name__ == "__main__":
    runner.run(main, __doc__)
