"""Flags of images: labelled or not, their groups and folds, and what TFDS has prepared."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from histojax import config
from histojax.config import Option
from histojax.errors import InputError
from histojax.utils.files import is_local
from histojax.utils.words import quantity

from .flag_types import define, define_path, define_switch_or_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from histojax.datasets import Dataset
    from histojax.datasets.folds import Folds
    from histojax.images.names import Images
    from histojax.inspection.findings import ImageSet
    from histojax.inspection.near_duplicates import Pair
    from histojax.prediction.bundle import Bundle

FLAGS = flags.FLAGS


def define_labelled(required: bool = True) -> None:
    """Defines where labelled images are: --data, or --tfds, and --classes."""
    define_path(
        "data",
        "Labelled images: a folder of class folders (with folders of patients in them, or not), "
        "BACH's folder as unzipped, or a table (CSV, .xlsx) image,label[,patient].",
    )
    define_tfds("data", required)
    define_group_column()
    flags.DEFINE_list(
        "classes", None, "Names of the classes in order. Default: BACH's order, else alphabetical."
    )


def define_group_column() -> None:
    """Defines what says which labelled images are of one patient or slide."""
    flags.DEFINE_string(
        "group_column",
        None,
        "The column of patients or slides in --data (or in --groups, where that is passed); of "
        "nested folders, the level below the class folders, from 1 on; none uses no groups. "
        "Default: the only one whose heading says so.",
    )


def define_site_columns() -> None:
    """Defines what says at which site, by which scanner or when images were made."""
    flags.DEFINE_list(
        "site_columns",
        None,
        "The columns of site, scanner, batch or date in --data (or in --groups, where that is "
        "passed); of nested folders, levels below the class folders, from 1 on; none takes none. "
        "Default: those whose headings say so, and TCGA's barcodes.",
    )


def define_tfds(other: str, required: bool = False) -> None:
    """Defines --tfds, which takes the place of another flag, and where and what it reads."""
    flags.DEFINE_string(
        "tfds",
        None,
        f"Data set that TFDS has prepared as array_record, in place of --{other}: "
        "NAME[/CONFIG][:VERSION].",
    )
    define_path(
        "tfds_data_dir",
        "With --tfds: the folder of TFDS's data sets. Default: $TFDS_DATA_DIR, or "
        "~/tensorflow_datasets.",
    )
    flags.DEFINE_string("tfds_split", "train", "With --tfds: the split to read.")
    flags.mark_flags_as_mutual_exclusive([other, "tfds"], required)


def define_unlabelled() -> None:
    """Defines where images without labels are: --images, or --tfds."""
    define_path(
        "images",
        "Images without labels: a folder with images in or below it, one image, or a list (.txt, "
        "or a table with a column image).",
    )
    define_tfds("images")


def define_mpp() -> None:
    """Defines --mpp, the pixel size of all images."""
    flags.DEFINE_float(
        "mpp",
        None,
        "Microns per pixel of the images, where their files do not say it or say it wrongly; "
        "needed where --target_mpp is set or views are in microns.",
        lower_bound=0.01,
        upper_bound=20.0,
    )
    flags.register_validator("mpp", lambda mpp: mpp is None or mpp == mpp, "--mpp is not a number")


def define_groups() -> None:
    """Defines what the groups of labelled images are."""
    define_path(
        "groups", "Table of the patient or slide of each image: CSV, or BACH's patient spreadsheet."
    )


def define_split() -> None:
    """Defines how labelled images are split into folds, and what their groups are."""
    text = (
        "How images are split into folds: stratified by class; grouped, which keeps patients or "
        "slides whole too; or paper, the authors' own folds. Default: grouped where groups are "
        "known, else stratified."
    )
    define("fold_maker", str, Option(text, choices=config.FOLD_MAKERS))
    define_groups()
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


def label_table() -> Path | None:
    """The labelled images of --data, or the label table of --tfds; None where neither is passed.

    Raises:
      InputError: as for `histojax.datasets.tfds.label_table`.
    """
    from histojax.datasets import tfds

    return tfds.label_table(*tfds_arguments()) if FLAGS.tfds else FLAGS.data


def tfds_arguments() -> tuple[str, Path | None, str]:
    """Name, folder and split, as the functions of `histojax.datasets.tfds` take them."""
    return FLAGS.tfds, FLAGS.tfds_data_dir, FLAGS.tfds_split


def classes() -> tuple[str, ...] | None:
    """The names in --classes."""
    return tuple(FLAGS.classes) if FLAGS.classes else None


def dataset(slides: "Images | None" = None) -> "Dataset":
    """The labelled images of --data or --tfds, with the groups of --groups; prints the notices.

    `slides` are those with imported descriptors, among which they are looked up; None for images.
    """
    from histojax import datasets
    from histojax.datasets import columns, groups, site_tables

    table = FLAGS["groups"].value if "groups" in FLAGS else None
    column, of_sites = FLAGS.group_column, site_columns()
    if table is None:
        options = {"group_column": column, "site_columns": of_sites}
        return told(datasets.load(label_table(), classes(), slides=slides, **options))
    own = None if of_sites is None else [columns.NO_GROUPS]  # Those named are of the table.
    labelled = datasets.load(
        label_table(), classes(), with_groups=False, slides=slides, site_columns=own
    )
    return told(site_tables.add_sites(groups.add_groups(labelled, table, column), table, of_sites))


def site_columns() -> "Sequence[str] | None":
    """What --site_columns names; none where a script makes no use of them."""
    from histojax.datasets import columns

    return FLAGS.site_columns if "site_columns" in FLAGS else (columns.NO_GROUPS,)


def of_bundle(source: Path, bundle: "Bundle", slides: "Images | None" = None) -> "Dataset":
    """Labelled images to predict, in the classes of a bundle; prints the notices."""
    from histojax import datasets

    column = FLAGS.group_column
    return told(
        datasets.load(
            source,
            bundle.classes,
            False,
            group_column=column,
            slides=slides,
            site_columns=site_columns(),
        )
    )


def told(labelled: "Dataset") -> "Dataset":
    """The data set, after its notices are printed."""
    _print_notices(labelled.notices)
    return labelled


def _print_notices(notices: "Iterable[str]") -> None:
    for notice in notices:
        print(f"note: {notice}")


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


def split(models: Path, dataset: "Dataset", count: int, seed: int) -> "Folds":
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


def unlabelled() -> "Images":
    """The images of --images, or of --tfds, by name.

    Raises:
      InputError: there are none, or one is named twice.
    """
    from histojax.datasets import tfds
    from histojax.images.names import name_images

    if FLAGS.tfds:
        return name_images(tfds.image_paths(*tfds_arguments()))
    return find_unlabelled(FLAGS.images)


def find_unlabelled(source: Path) -> "Images":
    """The images that a source names, see `histojax.datasets.unlabelled`; prints the notices."""
    from histojax.datasets import unlabelled

    found = unlabelled.find([source])
    _print_notices(found.notices)
    return found.images


def refuse_inside_data(name: str) -> None:
    """Raises InputError where an output, or --new, lies in the folder of --data, --images or --new.

    There it would be a class, or its pictures images to predict.
    """
    output = FLAGS[name].value
    for flag in {"data", "images", "new"} & {*FLAGS} - {name}:
        source = FLAGS[flag].value
        if source is None or not source.is_dir():
            continue
        if absolute(output).is_relative_to(absolute(source)):
            raise InputError(
                f"--{name}={output} lies inside --{flag}={source}: name a folder outside of it"
            )


def absolute(path: Path) -> Path:
    """The path without links and dots; a URI as it is."""
    return path.resolve() if is_local(path) else path
