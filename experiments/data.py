"""Flags of images: labelled or not, their groups and sites, and what TFDS has prepared."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from histojax.errors import InputError
from histojax.utils.files import is_local

from .flag_types import define_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from histojax.datasets import Dataset
    from histojax.images.names import Images
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
