"""Labelled images from a folder of class folders, BACH as unzipped, or a label table.

load(path) -> Dataset. Images without labels: unlabelled.py; data sets prepared by TFDS: tfds.py;
patients and slides: groups.py; slides with descriptors and no image: described.py;
cross-validation: folds.py, paper_folds.py, leakage.py.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from histojax.datasets import bach, columns, described, folders, sites, tables
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.images.names import Images
from histojax.utils import files


def load(
    path: str | Path,
    classes: tuple[str, ...] | None = None,
    require_all_classes: bool = True,
    group_column: str | None = None,
    with_groups: bool = True,
    slides: Images | None = None,
    site_columns: Sequence[str] | None = None,
) -> Dataset:
    """The labelled images at `path`.

    Args:
      path: a label table (CSV or .xlsx); `ICIAR2018_BACH_Challenge`, its `Photos` or the folder
        above; or a folder of class folders.
      classes: the classes in the order to use; by default BACH's order where they are BACH's, else
        alphabetical.
      require_all_classes: whether there must be at least two classes and images of each, as for
        training.
      group_column: what says which images are of one patient or slide: the heading of a column of
        the table (or of one beside the class folders), the level of folders below the class
        folders, from 1 on, or `none`. By default it is looked for.
      with_groups: whether groups are looked for at all.
      slides: the files of imported descriptors by name, among which the images are looked up; None
        for image files.
      site_columns: what tells the site, scanner, batch or date of images: headings of columns,
        levels of folders, or `none`. By default it is looked for, see `sites`.

    Raises:
      InputError: the images or labels are not usable; the message says what to do.
    """
    path = files.as_path(path)
    options = classes, require_all_classes, group_column, with_groups, site_columns
    loaded = _load(path, slides, *options)
    of, notices = sites.with_barcodes(loaded.names, loaded.sites, site_columns)
    return dataclasses.replace(loaded, sites=of, notices=(*loaded.notices, *notices))


def _load(
    path: Path,
    slides: Images | None,
    classes: tuple[str, ...] | None,
    require_all_classes: bool,
    group_column: str | None,
    with_groups: bool,
    site_columns: Sequence[str] | None,
) -> Dataset:
    """By what is at the path."""
    options = classes, require_all_classes, group_column, with_groups, site_columns
    if slides is not None:
        return described.load(path, slides, *options)
    if path.is_file():
        return tables.load(path, *options)
    if not path.is_dir():
        raise InputError(
            f"{path} is not there: expected a folder of class folders, BACH's folder, or a label "
            "table"
        )
    if photos := bach.find_photos(path):
        if group_column and group_column.strip().casefold() != columns.NO_GROUPS:
            raise InputError(
                f"--group_column={group_column}: {path} is BACH's folder, which says nothing of "
                "patients; name a table of them by --groups"
            )
        if site_columns is not None and not sites.is_none(site_columns):
            raise InputError(
                f"--site_columns={','.join(site_columns)}: {path} is BACH's folder, which does not "
                "tell sites"
            )
        return bach.load(photos, classes, require_all_classes)
    return folders.load(path, *options)
