"""The inspection of a folder of images before a run: what is there, what is wrong, what to run.

Nothing that is wrong with an image stops the inspection of the others.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from histojax.config import Boosting, Extraction, as_text
from histojax.datasets import Dataset, copies, groups, positive, site_tables
from histojax.errors import InputError
from histojax.images import reader
from histojax.images.names import Images, name_images
from histojax.inspection import recommend
from histojax.inspection.checks import run_checks
from histojax.inspection.discovery import DiscoveredImages, class_names, discover
from histojax.inspection.findings import NOTE, PROBLEM, Finding, ImageSet, problems_first, sentence
from histojax.inspection.image_quality import InspectedImage, inspect_image
from histojax.inspection.recommend import Recommendation
from histojax.utils import files
from histojax.utils.progress import Progress
from histojax.utils.words import quantity

_WORKERS = 4
_TO_FILL_IN = "CLASS"  # In a command, where the user has to decide.


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user knows of the images, and the split that would be made.

    Attributes:
      mpp: microns per pixel of all images; None to believe each file.
      classes: in their order, as for `datasets.load`.
      groups: table of groups, as for `datasets.groups.add_groups`.
      group_column: of that table, or what `datasets.load` takes without one.
      site_columns: likewise.
      folds: the most that are recommended.
      fold_seed: of the split.
      run: the folder that the commands write to; by default one named after the images.
    """

    mpp: float | None = None
    classes: tuple[str, ...] | None = None
    groups: str | Path | None = None
    group_column: str | None = None
    site_columns: Sequence[str] | None = None
    folds: int = Boosting.folds
    fold_seed: int = Boosting.fold_seed
    run: Path | None = None


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Everything that a report says of a folder of images.

    Attributes:
      place: what was inspected, as the user named it.
      image_set: the images.
      classes: names in the order of tables, BACH's in theirs; empty where nothing is labelled.
      extraction: the protocol whose views were tried.
      findings: problems first.
      recommendation: None where no image can be used.
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
        """The name of the folder, for titles."""
        return _folder_name(self.place)


def inspect(place: str | Path, extraction: Extraction, options: Options = Options()) -> Inspection:
    """Inspects the images at a place.

    Args:
      place: a folder of class folders, BACH's, a label table, or a folder of unlabelled images.
      extraction: the protocol; its views and target_mpp are tried.
      options: what the user knows.

    Raises:
      InputError: nothing is there, or no image.
    """
    place = files.as_path(place)
    column = None if options.groups else options.group_column
    without_table = options.groups is None
    of_sites = options.site_columns if without_table else None
    discovered = discover(place, options.classes, column, without_table, of_sites)
    if not discovered.paths:
        kinds = ("not read", "other files")
        others = [finding for finding in discovered.findings if finding.kind in kinds]
        raise InputError(
            f"{place} holds no image: expected files ending in {reader.SUFFIX_LIST}"
            + "".join(
                f". {' '.join((finding.message, '; '.join(finding.details[:5])))}".rstrip()
                for finding in others
            )
        )
    if options.groups is not None:
        discovered = _with_groups(discovered, options)
    images = _inspect_images(discovered.paths, options.mpp, extraction)
    image_set = ImageSet(
        discovered.names, images, discovered.labels, discovered.groups, discovered.sites
    )
    recommendation = _recommend(image_set, extraction, options)
    findings = [
        *discovered.findings,
        *run_checks(image_set, extraction),
        *_too_many_folds(recommendation, options.folds),
    ]
    classes = class_names(discovered.labels, options.classes)
    refused = any(finding.kind == "refused" for finding in discovered.findings)
    why_positive, positive_classes = _positive(classes)
    if recommendation:
        first = ("First settle what is refused: the steps refuse it, too.",) if refused else ()
        why = (*first, *recommendation.why, *why_positive)
        recommendation = dataclasses.replace(recommendation, why=why)
    commands = ()
    if recommendation and not refused:
        commands = _commands(
            place, recommendation, extraction, options, bool(classes), positive_classes
        )
        if any(not image_set.of_one_group(pair.first, pair.second) for pair in image_set.pairs):
            commands = tuple(_keeping_copies_together(command) for command in commands)
    return Inspection(
        place,
        image_set,
        classes=classes,
        extraction=extraction,
        findings=problems_first(findings),
        recommendation=recommendation,
        commands=commands,
    )


def _positive(classes: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """A sentence on which class is positive, and what --positive_classes needs; or nothing."""
    if len(classes) < 2:
        return (), ""
    try:
        return (sentence(positive.choose(classes).reason),), ""
    except InputError as error:
        return (sentence(str(error)),), _TO_FILL_IN


def _folder_name(place: Path) -> str:
    """The name of the folder at a place, or of a table without its ending."""
    if place.is_file():
        return place.stem
    return (place.resolve() if files.is_local(place) else place).name


def _with_groups(discovered: DiscoveredImages, options: Options) -> DiscoveredImages:
    """The images with the groups of a table, or with the reason why they have none."""
    images = name_images(discovered.paths, discovered.root)
    dataset = _unchecked_dataset(images, discovered.labels, None, options.classes)
    dataset = dataclasses.replace(dataset, sites=discovered.sites)
    others = tuple(finding for finding in discovered.findings if finding.kind != "no groups")
    try:
        dataset = groups.add_groups(dataset, options.groups, options.group_column)
        dataset = site_tables.add_sites(dataset, options.groups, options.site_columns)
    except InputError as error:
        problem = Finding(PROBLEM, "group", str(error))
        return dataclasses.replace(discovered, findings=(*discovered.findings, problem))
    notes = tuple(Finding(NOTE, "data", sentence(notice)) for notice in dataset.notices)
    found = others + notes
    return dataclasses.replace(
        discovered, groups=dataset.groups, findings=found, sites=dataset.sites
    )


def _unchecked_dataset(
    images: Images,
    labels: tuple[str, ...],
    groups: tuple[str, ...] | None,
    classes: tuple[str, ...] | None,
) -> Dataset:
    """A data set that need not be one that training would accept."""
    order = class_names(labels, classes) or ("",)
    indices = tuple(order.index(label) if label else 0 for label in labels)
    return Dataset(images, indices, order, groups)


def _inspect_images(
    paths: tuple[Path, ...], mpp: float | None, extraction: Extraction
) -> tuple[InspectedImage, ...]:
    """Inspects image files on a few threads."""
    images = []
    with (
        ThreadPoolExecutor(_WORKERS) as pool,
        Progress("inspect", len(paths), "images") as progress,
    ):
        for image in pool.map(lambda path: inspect_image(path, mpp, extraction), paths):
            images.append(image)
            progress.add(1)
    return tuple(images)


def _recommend(images: ImageSet, extraction: Extraction, options: Options) -> Recommendation | None:
    """What suits the images that can be used; None where there are none."""
    usable = images.usable()
    if not usable:
        return None
    kept, labels = [images.images[i] for i in usable], tuple(images.labels[i] for i in usable)
    dataset = None
    if all(labels) and len(set(labels)) > 1:
        found = name_images([image.path for image in kept])
        of_group = images.groups and tuple(images.groups[i] for i in usable)
        dataset = _unchecked_dataset(found, labels, of_group, options.classes)
        sets = copies.sets_of(images.names, [(pair.first, pair.second) for pair in images.pairs])
        dataset = copies.with_sets(dataset, [sets[i] for i in usable])
    recommendation = recommend.recommend(
        [image.size for image in kept],
        [image.mpp for image in kept],
        extraction.target_mpp or None,
        dataset,
        options.folds,
        options.fold_seed,
    )
    if all(view.mpp for view in extraction.views):
        stated = f"Images are resampled to the pixel sizes of {as_text(extraction.views)}."
        recommendation = dataclasses.replace(
            recommendation,
            views=extraction.views,
            target_mpp=0.0,
            why=(stated, *recommendation.why[2:]),
        )
    if unusable := len(images.images) - len(usable):
        first = (
            f"Take out the {quantity(unusable)} that cannot be used first: extraction refuses them."
        )
        recommendation = dataclasses.replace(recommendation, why=(first, *recommendation.why))
    return recommendation


def _too_many_folds(recommendation: Recommendation | None, folds: int) -> list[Finding]:
    """A problem where fewer folds than asked for can be filled."""
    if recommendation is None or recommendation.folds is None or recommendation.folds >= folds:
        return []
    message = f"{folds} folds cannot be filled: {recommendation.why[-1]}"
    return [Finding(PROBLEM, "folds", message)]


def _keeping_copies_together(command: str) -> str:
    """The command line with the flag that keeps copies in one fold, where it makes a split."""
    return f"{command} --group_copies" if command.startswith("histojax train ") else command


def _commands(
    place: Path,
    recommendation: Recommendation,
    extraction: Extraction,
    options: Options,
    labelled: bool,
    positive_classes: str,
) -> tuple[str, ...]:
    """The command lines that follow the recommendation; none where no view fits."""
    if not recommendation.views:
        return ()
    run = options.run or Path("runs") / (_folder_name(place) or "mine")
    source = {"data" if labelled else "images": place}
    if labelled and options.classes:
        source["classes"] = ",".join(options.classes)
    source["run"] = run
    views, target_mpp = recommendation.views, recommendation.target_mpp
    others = extraction.encoders != Extraction().encoders
    extract = source | {
        "encoders": ",".join(extraction.encoders) if others else "",
        "views": ",".join(view.name for view in views) if views != Extraction().views else "",
        "target_mpp": target_mpp,
        "mpp": options.mpp if target_mpp or any(view.mpp for view in views) else None,
    }
    train = source | {
        "folds": recommendation.folds,
        "groups": options.groups,
        "group_column": options.group_column,
        "site_columns": ",".join(options.site_columns or ()),
    }
    evaluate = {"data": place, "run": run, "positive_classes": positive_classes}
    steps = {"extract": extract}
    if recommendation.folds:
        steps |= {"train": train, "evaluate": evaluate}
    return tuple(
        shlex.join(
            ["histojax", step, *(f"--{name}={value}" for name, value in flags.items() if value)]
        )
        for step, flags in steps.items()
    )
