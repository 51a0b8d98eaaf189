"""Flags of splits: how labelled images go into folds, and which are kept together in one."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from histojax import config
from histojax.config import Option
from histojax.errors import InputError
from histojax.utils.words import quantity

from . import data
from .flag_types import define, define_path, define_switch_or_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histojax.datasets import Dataset
    from histojax.datasets.folds import Folds
    from histojax.inspection.findings import ImageSet
    from histojax.inspection.near_duplicates import Pair

FLAGS = flags.FLAGS


def define_split() -> None:
    """Defines how labelled images are split into folds, and what their groups are."""
    text = (
        "How images are split into folds: stratified by class; grouped, which keeps patients or "
        "slides whole too; or paper, the authors' own folds. Default: grouped where groups are "
        "known, else stratified."
    )
    define("fold_maker", str, Option(text, choices=config.FOLD_MAKERS))
    data.define_groups()
    text = (
        "Whether an image of unknown group is a group of its own, belongs to one group together "
        "with the others, or is trained on only."
    )
    unknown = Option(text, choices=config.UNKNOWN_GROUPS)
    define("unknown_groups", str, unknown, default="own")
    define_path("paper_folds", "With --fold_maker=paper: the authors' folds-10.pkl.")
    define_group_copies()


def define_group_copies() -> None:
    """Defines whether copies of images are kept together with their patients."""
    define_switch_or_path(
        "group_copies",
        "Keep images that are copies of one image, and fields that overlap, in one fold, with all "
        "of their patients or slides. They are searched for in the images, or named by a table of "
        "pairs, such as duplicates.csv of histojax audit. What was found stands in folds.csv, and "
        "holds for every later run in its folder.",
    )


def paper_split(dataset: "Dataset") -> "Folds | None":
    """The authors' split, where --fold_maker=paper asks for it."""
    from histojax.datasets import paper_folds

    if (FLAGS.fold_maker == "paper") != bool(FLAGS.paper_folds):
        raise InputError("--fold_maker=paper and --paper_folds=folds-10.pkl go together")
    return paper_folds.load(FLAGS.paper_folds, dataset) if FLAGS.paper_folds else None


def with_copies(
    dataset: "Dataset", models: Path | None = None, found: "Sequence[Pair] | None" = None
) -> "Dataset":
    """The data set with its groups joined by copies, as --group_copies asks; prints what was found.

    Args:
      dataset: labelled images.
      models: a folder whose split, where it was made with copies, decides: nothing is searched for.
      found: pairs of these images, where they were searched already.

    Raises:
      InputError: there are no images to search; the table does not fit; or other flags say that the
        split does not keep groups.
    """
    from histojax.datasets import copies, folds
    from histojax.images import reader
    from histojax.inspection import near_duplicates, split_pairs
    from histojax.learners import ensembles

    if dataset.copies is not None:
        return dataset
    asked, path = FLAGS.group_copies, models and models / ensembles.FOLDS
    recorded = path and folds.recorded_copies(path, dataset.names)
    if recorded is not None:
        if asked is False:
            raise InputError(
                f"{path} was made with --group_copies: leave out --nogroup_copies, or train in "
                "another folder"
            )
        return copies.with_sets(dataset, recorded)
    if not asked:
        return dataset
    if "fold_maker" in FLAGS and FLAGS.fold_maker in ("stratified", "paper"):
        raise InputError(
            f"--group_copies keeps copies in one fold, --fold_maker={FLAGS.fold_maker} does not: "
            "pass either"
        )
    if asked is not True:
        pairs = copies.read_pairs(asked, dataset.names)
    elif all(map(reader.is_image_name, dataset.paths)):
        if found is None:
            found = near_duplicates.find_pairs(near_duplicates.fingerprints(dataset.paths))
        print("\n".join(split_pairs.found_lines(found, dataset)))
        pairs = [(pair.first, pair.second) for pair in found]
    else:
        raise InputError(
            "--group_copies has no images to search, since descriptors were imported without them: "
            "pass a table of pairs, --group_copies=PAIRS.csv with the columns first and second"
        )
    sets = copies.sets_of(dataset.names, pairs)
    print(copies.notice(dataset.groups, sets))
    return copies.with_sets(dataset, sets)


def ask_about_copies(found: "ImageSet", dataset: "Dataset", split: "Folds", page: Path) -> None:
    """Asks what to do with images that are copies of each other, or overlap, in two folds.

    Args:
      found: the images as inspected, with pairs.
      dataset: the same images, or some of them.
      split: theirs.
      page: of the inspection, for the message.

    Raises:
      InputError: there are some, and no flag says what to do with them.
    """
    if FLAGS.group_copies is not None or FLAGS.fold_maker or split.copies is not None:
        return
    fold_of = dict(zip(split.names, split.folds.tolist(), strict=True))
    folds = {path: fold_of[name] for name, path in dataset.images.items()}
    in_folds = [[folds.get(found.images[i].path) for i in (p.first, p.second)] for p in found.pairs]
    if crossing := sum(one != other and None not in (one, other) for one, other in in_folds):
        raise InputError(
            f"in {quantity(crossing, 'pair')} of images that are copies or overlap, one would be "
            f"trained on while the other is predicted, so that figures would be too good (see "
            f"{page}): pass --group_copies, which keeps them in one fold, or --nogroup_copies to "
            "go on as it is. Nothing was extracted yet"
        )


def load_or_make(models: Path, dataset: "Dataset", count: int, seed: int) -> "Folds":
    """The split in the models' folder, or a new one by the flags, saved there."""
    # Not above: extraction works without scikit-learn.
    from histojax.datasets import folds, leakage, sites
    from histojax.learners import ensembles

    path, dataset = models / ensembles.FOLDS, with_copies(dataset, models)
    maker = paper_split(dataset) or FLAGS.fold_maker
    made = folds.load_or_make(path, dataset, count, seed, maker, FLAGS.unknown_groups)
    if "site_columns" in FLAGS:
        sites.save(dataset.names, dataset.sites, models, sites.is_none(FLAGS.site_columns))
    print(f"split: {made.origin}\n{leakage.kept_together(made)}")
    return made
