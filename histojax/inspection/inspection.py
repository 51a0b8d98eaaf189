"""A folder of images looked over before a day is spent on it: who is there, how it looks, what is wrong, what to run.

class folders, BACH, a label table or a flat folder -> Inspection. Nothing that is wrong with the data stops the rest.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from histojax.config import Extraction
from histojax.datasets import Dataset, groups
from histojax.errors import InputError
from histojax.images import reader
from histojax.inspection import checks, image_quality, recommend
from histojax.inspection.checks import PROBLEM, Finding, ImageSet
from histojax.inspection.discovery import DiscoveredImages, class_names, discover
from histojax.inspection.recommend import Recommendation
from histojax.utils import files
from histojax.utils.progress import Progress

WORKERS = 4


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Everything that is told.

    Attributes:
      place: what was inspected, as the user named it.
      subject: the images.
      classes: names in the order of tables; those of BACH in theirs; empty where nothing is labelled.
      extraction: the protocol whose views were tried.
      findings: problems first.
      suggestion: None where no image can be used.
      commands: to copy.
    """

    place: Path
    image_set: ImageSet
    classes: tuple[str, ...]
    extraction: Extraction
    findings: tuple[Finding, ...]
    recommendation: Recommendation | None
    commands: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the data are called: their folder's name."""
        return folder_name(self.place)


def inspect(
    place: Path,
    extraction: Extraction,
    *,
    mpp: float | None = None,
    classes: tuple[str, ...] | None = None,
    table: Path | None = None,
    column: str | None = None,
    most_folds: int = 10,
    fold_seed: int = 0,
) -> Inspection:
    """Inspects the images at a place.

    Args:
      place: a folder of class folders, BACH's, a label table, or a folder of unlabelled images.
      extraction: the protocol; its views and target_mpp are tried.
      mpp: microns per pixel of all images; None to believe each file.
      classes: the classes in the order wished, as for `datasets.load`.
      table, column: of groups, as for `datasets.groups.add_groups`.
      most_folds, fold_seed: of the split that would be made.

    Raises:
      InputError: nothing is there, or no image.
    """
    listing = discover(place, classes)
    if not listing.paths:
        endings = ", ".join(reader.SUFFIXES)
        other = "".join(
            f". {finding.message}" for finding in listing.findings if finding.kind == "other files"
        )
        raise InputError(f"{place} holds no image: expected files ending in {endings}{other}")
    if table is not None:
        listing = with_groups(listing, classes, table, column)
    with (
        ThreadPoolExecutor(WORKERS) as pool,
        Progress("inspect", len(listing.paths), "images") as bar,
    ):
        seen = []
        for look in pool.map(lambda path: image_quality.inspect_image(path, mpp), listing.paths):
            seen.append(look)
            bar.add(1)
    subject = ImageSet(listing.names, tuple(seen), listing.labels, listing.groups)
    found = [
        *listing.findings,
        *checks.run_checks(subject, extraction.views, extraction.target_mpp),
    ]
    suggested = suggest(subject, extraction.target_mpp, classes, most_folds, fold_seed)
    if suggested and suggested.folds is not None and suggested.folds < most_folds:
        found.append(
            Finding(PROBLEM, "folds", f"{most_folds} folds cannot be filled: {suggested.why[-1]}")
        )
    return Inspection(
        place=place,
        image_set=subject,
        classes=class_names(listing.labels, classes),
        extraction=extraction,
        findings=checks.ordered(found),
        recommendation=suggested,
        commands=commands(place, suggested, extraction, mpp, classes, table, column)
        if suggested
        else (),
    )


def folder_name(place: Path) -> str:
    """The name of the folder at a place, or of the table's."""
    folder = place.parent if place.is_file() else place
    return (folder.resolve() if files.is_local(folder) else folder).name


def with_groups(
    listing: DiscoveredImages, classes: tuple[str, ...] | None, table: Path, column: str | None
) -> DiscoveredImages:
    """The listing with the groups of a table, or with the reason why it has none."""
    try:
        attached = groups.add_groups(
            as_dataset(listing.paths, listing.labels, None, classes), table, column
        )
    except InputError as error:
        return dataclasses.replace(
            listing, findings=(*listing.findings, Finding(PROBLEM, "group", str(error)))
        )
    return dataclasses.replace(listing, groups=attached.groups)


def as_dataset(
    paths: Sequence[Path],
    labels: Sequence[str],
    of_group: Sequence[str] | None,
    classes: tuple[str, ...] | None,
) -> Dataset:
    """A data set that nobody checked."""
    order = class_names(labels, classes) or ("",)
    indices = tuple(order.index(label) if label else 0 for label in labels)
    return Dataset(tuple(paths), indices, order, of_group and tuple(of_group))


def suggest(
    subject: ImageSet,
    target_mpp: float,
    classes: tuple[str, ...] | None,
    most_folds: int,
    fold_seed: int,
) -> Recommendation | None:
    """What suits the images that can be used; None where there are none."""
    usable = subject.usable()
    if not usable:
        return None
    seen, labels = [subject.images[i] for i in usable], [subject.labels[i] for i in usable]
    labelled = None
    if all(labels) and len(set(labels)) > 1:
        of_group = subject.groups and [subject.groups[i] for i in usable]
        labelled = as_dataset([look.path for look in seen], labels, of_group, classes)
    sizes, mpps = [look.size for look in seen], [look.mpp for look in seen]
    suggested = recommend.recommend(sizes, mpps, target_mpp, labelled, most_folds, fold_seed)
    if left_out := len(subject.images) - len(usable):
        first = f"Take out the {checks.quantity(left_out)} that cannot be used first: extraction refuses them."
        suggested = dataclasses.replace(suggested, why=(first, *suggested.why))
    return suggested


def commands(
    place: Path,
    suggested: Recommendation,
    extraction: Extraction,
    mpp: float | None,
    classes: tuple[str, ...] | None,
    table: Path | None,
    column: str | None,
) -> tuple[str, ...]:
    """The command lines that follow the suggestion; none where no view fits."""
    if not suggested.views:
        return ()
    root = Path("runs") / (folder_name(place) or "mine")
    labelled = suggested.folds is not None
    source = [f"--data={place}" if labelled else f"--images={place}"]
    source += [f"--classes={','.join(classes)}"] if classes and labelled else []
    views = ",".join(view.name for view in suggested.views)
    described = [
        "extract",
        *source,
        f"--descriptors={root / 'descriptors'}",
        *([f"--views={views}"] if suggested.views != Extraction().views else []),
        *([f"--target_mpp={suggested.target_mpp}"] if suggested.target_mpp else []),
        *([f"--mpp={mpp}"] if mpp and suggested.target_mpp else []),
    ]
    trained = [
        "train",
        *source,
        f"--descriptors={root / 'descriptors'}",
        f"--models={root / 'models'}",
        f"--folds={suggested.folds}",
        *([f"--groups={table}"] if table else []),
        *([f"--group_column={column}"] if column else []),
    ]
    return tuple(
        shlex.join(["histojax", name, *more])
        for name, *more in ([described, trained] if labelled else [described])
    )
