"""Labelled images in class folders: `<root>/<class>/<image>`, or with folders of patients between.

Folders below the class folders are patients (or slides), unless their names say that they are not.
Where more than one level of them may be, the caller is asked. A table beside the class folders that
knows the patients is used.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from histojax.config import BACH_CLASSES
from histojax.datasets import columns, dataset, groups, labels, site_tables, sites
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError
from histojax.images import reader
from histojax.utils import files
from histojax.utils.words import quantity

# Names of folders that are no patients: magnifications, kinds of files, parts of a split.
_NO_PATIENT = re.compile(
    r"\d+([.,]\d+)?\s*x|x\s*\d+|images?|imgs?|tiles?|patches|crops|photos?|pictures?|png|jpe?g|"
    r"tiff?|rgb|h&?e|normali[sz]ed|raw|original|train(ing)?|val(id(ation)?)?|test(ing)?",
    re.IGNORECASE,
)
# Names of folders whose images are hardly meant to be trained on.
_NO_IMAGES = re.compile(
    r"masks?|annotations?|segmentations?|overlays?|thumb(nail)?s?|previews?|excluded?|rejected|"
    r"discarded|unused|ignored?|trash|backups?|old|te?mp",
    re.IGNORECASE,
)
# Names of folders that are parts of a split rather than classes.
_SPLIT = re.compile(r"train(ing)?|val(id(ation)?)?|test(ing)?", re.IGNORECASE)
# The end of a file's name, without suffix, that is such an image of the file named without it.
_OF_IMAGE = re.compile(rf"[ ._-]({_NO_IMAGES.pattern})$", re.IGNORECASE)

# The folders between class folder and image, of each image.
_Between = Mapping[Path, tuple[str, ...]]


def load(
    root: Path,
    classes: tuple[str, ...] | None = None,
    require_all_classes: bool = True,
    group_column: str | None = None,
    with_groups: bool = True,
    site_columns: Sequence[str] | None = None,
) -> Dataset:
    """The images below the folders of `root`, labelled by folder name; hidden ones are ignored.

    A folder named InSitu or Invasive makes BACH's four classes the expected ones, unless `classes`
    says otherwise.

    Args:
      root: the folder of class folders.
      classes, require_all_classes: as for `datasets.load`.
      group_column: the level of folders below the class folders, from 1 on, that are patients; or
        the heading of a column of a table in `root`; or `none`. None to look for them.
      with_groups: whether groups are wanted.
      site_columns: what tells the site of an image, as for `datasets.load`.

    Raises:
      InputError: no class folders, one without images, or one of an unknown class; or it is not
        clear what the patients are.
    """
    folders = [path for path in files.list_folder(root)[0] if not path.name.startswith(".")]
    if not folders:
        raise InputError(
            f"{root} holds no class folders: expected {root}/<class>/<image>, or a label table"
        )
    expected = _expected_classes(root, [folder.name for folder in folders], classes)
    label_of, between = {}, {}
    for folder in folders:
        images = dataset.list_images_below(folder)
        if not images:
            raise InputError(
                f"class folder {folder} holds no {reader.KINDS} image: fill or remove it"
            )
        label_of |= dict.fromkeys(images, folder.name)
        between |= {path: path.relative_to(folder).parts[:-1] for path in images}
    _refuse_other_images(root, between)
    notices = [*dataset.left_out(root, label_of)]
    built = dataset.build(label_of, expected, None, require_all_classes, root, notices)
    if not with_groups or _is(group_column, columns.NO_GROUPS):
        built = _with_notice(built, _nested_notice(between, with_groups))
    else:
        built = _with_groups(built, root, between, group_column)
    return _with_sites(built, root, between, site_columns)


def _expected_classes(
    root: Path, names: Sequence[str], classes: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """The classes that are expected, None for any; InputError where a folder is of none of them."""
    if classes is None and all(map(_SPLIT.fullmatch, names)):
        raise InputError(
            f"{root} holds {', '.join(sorted(names))}, the parts of a split rather than classes: "
            f"pass one of them, such as {root}/{_part_to_train_on(names)}"
        )
    if classes is None and (others := sorted(filter(_NO_IMAGES.fullmatch, names))):
        raise InputError(
            f"{root} holds the class folder {', '.join(others)}, whose name says that its images "
            f"are not to be trained on: move it elsewhere or, if it is a class, pass --classes="
            f"{','.join(sorted(names))}"
        )
    expected = classes or (BACH_CLASSES if {*names} & {"InSitu", "Invasive"} else None)
    if expected and (unknown := sorted(set(names) - set(expected))):
        raise InputError(
            f"{root} holds class folders that are not expected: {', '.join(unknown)}; expected "
            f"{', '.join(expected)}. Remove or rename them, or name your classes with --classes."
            f"{labels.did_you_mean(unknown, expected)}"
        )
    return expected


def _part_to_train_on(names: Sequence[str]) -> str:
    return next((name for name in names if name.lower().startswith("train")), names[0])


def _refuse_other_images(root: Path, between: _Between) -> None:
    """Raises InputError where class folders hold masks, thumbnails or the like."""
    beside = {path.with_suffix("") for path in between}
    if masks := sorted(
        str(path.relative_to(root))
        for path in between
        if (end := _OF_IMAGE.search(path.stem))
        and end.start()
        and path.with_name(path.stem[: end.start()]) in beside
    ):
        raise InputError(
            f"{root} holds {quantity(len(masks), 'image')} named after another beside it "
            f"({', '.join(masks[:3])}), which is hardly one to be trained on: move such files "
            "elsewhere, or name the images in a table image,label"
        )
    folders = {path.parent: parts for path, parts in between.items()}
    if others := sorted(
        str(folder.relative_to(root))
        for folder, parts in folders.items()
        if any(map(_NO_IMAGES.fullmatch, parts))
    ):
        raise InputError(
            f"{root} holds images in {', '.join(others[:5])}, whose names say that they are not to "
            "be trained on: move them elsewhere, or name the images in a table image,label"
        )


def _with_sites(
    built: Dataset, root: Path, between: _Between, wanted: Sequence[str] | None
) -> Dataset:
    """The data set with the sites that tables beside the class folders tell, or folders in them.

    Raises:
      InputError: what is wanted is not there, or in several tables.
    """
    if sites.is_none(wanted):
        return built
    levels = [int(title) - 1 for title in wanted or () if title.isdecimal()]
    depth = max(map(len, between.values()))
    if wanted is None:
        levels = _site_levels(between)
    elif outside := [level + 1 for level in levels if not 0 <= level < depth]:
        raise InputError(
            f"--site_columns={outside[0]}: {root} has {depth} levels of folders below the class "
            "folders"
        )
    found, notices = {}, []
    for level in levels:
        title = f"folder {level + 1}"
        of = [(*between[path], *[""] * depth)[level] for path in built.paths]
        source = f"the folder {level + 1} below the class folder ({_examples(between, level)})"
        column = sites.read(title, of, source, wanted is not None)
        found[title] = column.values
        notices += column.notices
    titles = wanted and [title for title in wanted if not title.isdecimal()]
    if wanted is None or titles:
        beside, told = site_tables.beside(root, built.names, titles)
        found |= beside
        notices += told
    return dataclasses.replace(built, sites=found, notices=(*built.notices, *notices))


def _site_levels(between: _Between) -> list[int]:
    """The levels of folders, from 0 on, that every image has and whose names say site."""
    depth = min(map(len, between.values()))
    return [
        i
        for i in range(depth)
        if len({parts[i] for parts in between.values()}) > 1
        and all(sites.is_site_folder(parts[i]) for parts in between.values())
    ]


def _with_groups(
    built: Dataset, root: Path, between: _Between, group_column: str | None
) -> Dataset:
    """The data set with the groups of a table beside the class folders, or of the folders in them.

    Raises:
      InputError: both know groups, or it is not clear which table or which level of folders does.
    """
    level = int(group_column) if group_column and group_column.isdecimal() else None
    if level is not None:
        return _with_folders(built, root, between, level)
    found, notices = groups.find_beside(root, built.names, group_column)
    built = dataclasses.replace(built, notices=(*built.notices, *notices))
    levels = [] if group_column else _patient_levels(between)
    if group_column and not found:
        raise InputError(
            f"--group_column={group_column}: no table beside the class folders of {root} has such "
            "a column that knows images; of folders below the class folders, name the level"
        )
    if len(found) + (len(levels) > 0) > 1:
        sources = [path.name for path in found]
        sources += ["the folders in the class folders (--group_column=1)"] * (len(levels) > 0)
        raise InputError(
            f"{root}: several sources may say which images are of one patient: "
            f"{', '.join(sources)}. Name a table by --groups=TABLE"
        )
    if found:
        path, table = found.popitem()
        source = f"column {table.column} of {path.name}, beside the class folders,"
        built = groups.with_groups(built, table, source)
        return _with_notice(built, _nested_notice(between))
    if len(levels) > 1:
        shown = "; ".join(f"{i + 1}: {_examples(between, i)}" for i in levels)
        raise InputError(
            f"{root} has {len(levels)} levels of folders below the class folders that may be "
            f"patients ({shown}): name one by --group_column={levels[0] + 1} or the like, "
            f"--group_column={columns.NO_GROUPS} for none, or a table by --groups=TABLE"
        )
    if levels:
        return _with_folders(built, root, between, levels[0] + 1)
    return _with_notice(built, _nested_notice(between))


def _with_folders(built: Dataset, root: Path, between: _Between, level: int) -> Dataset:
    """The data set with the folders of a level, from 1 on, as groups."""
    if not 1 <= level <= max(map(len, between.values())):
        raise InputError(
            f"--group_column={level}: {root} has {max(map(len, between.values()))} levels of "
            "folders below the class folders"
        )
    of = tuple(
        between[path][level - 1] if len(between[path]) >= level else "" for path in built.paths
    )
    columns.require_one_spelling(str(root), of)
    below = "below the class folder" if level == 1 else f"{level} levels below the class folder"
    source = f"the folder {below} ({_examples(between, level - 1)})"
    notice = columns.group_notice(source, "patient", of)
    return dataclasses.replace(built, groups=of, notices=(*built.notices, notice))


def _patient_levels(between: _Between) -> list[int]:
    """The levels of folders, from 0 on, that every image has and that may be patients by name."""
    depth = min(map(len, between.values()))
    names = [{parts[i] for parts in between.values()} for i in range(depth)]
    levels = [i for i in range(depth) if not all(map(_NO_PATIENT.fullmatch, names[i]))]
    of_sites = _site_levels(between)  # Above a level of patients, these are none.
    return [i for i in levels if i not in of_sites] or levels


def _nested_notice(between: _Between, with_groups: bool = True) -> str:
    """A notice that images in folders below the class folders are read too; empty without any."""
    nested = sum(map(bool, between.values()))
    if not nested:
        return ""
    text = (
        f"{quantity(nested, 'image')} in folders below the class folders "
        f"({_examples(between, 0)}) read with the others"
    )
    if with_groups:
        text += "; the folders are not taken for patients, which --group_column=1 would do"
    return text


def _examples(between: _Between, level: int, most: int = 3) -> str:
    """The first names of folders of a level."""
    names = sorted({parts[level] for parts in between.values() if len(parts) > level})
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _with_notice(built: Dataset, notice: str) -> Dataset:
    return dataclasses.replace(built, notices=(*built.notices, notice)) if notice else built


def _is(group_column: str | None, word: str) -> bool:
    return group_column is not None and group_column.strip().casefold() == word
