"""The report of an inspection: text, inspection.json, images.csv, and a page with thumbnails."""

import collections
import dataclasses
import datetime
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from histojax.config import STAIN_STATUS
from histojax.inspection import split_pairs
from histojax.inspection.findings import PROBLEM, Finding
from histojax.inspection.image_quality import ImageQuality
from histojax.inspection.inspection import Inspection
from histojax.inspection.recommend import format_size
from histojax.report import TEMPLATES
from histojax.utils import files, templates
from histojax.utils.words import quantity

PAGE, NUMBERS, TABLE = "inspection.html", "inspection.json", "images.csv"
TEXT_DETAILS, PAGE_DETAILS = 10, 500  # Details of a finding, at most.
CONTACT_SHEET = 480  # Thumbnails on the contact sheet, at most; about 6 MB.
FINDING_IMAGES = 24  # Thumbnails beside a finding, at most.

_PAIRS = ("conflict", "duplicate", "overlap")  # Kinds of findings whose images come in pairs.
# Kinds of findings that one sees in a thumbnail.
_VISIBLE = (*_PAIRS, "blank", "stain", "colour", "cast", "dark", "clipped", "blurred")
_UNLABELLED = "unlabelled"

COLUMNS = (
    *("image", "class", "group", "usable", "findings", "cause"),
    *("width", "height", "format", "mode", "um_per_px"),
    *("tissue_fraction", "stain_status", "stain_angle_degrees", "white_r", "white_g", "white_b"),
    *("absorbed_r", "absorbed_g", "absorbed_b", "clipped_fraction", "blur", "file_sha256"),
)
_QUALITY_COLUMNS = 12  # The last ones.


@dataclasses.dataclass(frozen=True)
class SheetImage:
    """An image on the page.

    Attributes:
      name: of the image.
      uri: its thumbnail; empty where there is none.
      findings: their kinds.
      severity: of the worst of them; empty where there are none.
    """

    name: str
    uri: str
    findings: tuple[str, ...] = ()
    severity: str = ""


def write(out: Path | str, inspection: Inspection) -> str:
    """Writes the three files into a folder and returns the text.

    Raises:
      InputError: the folder cannot be written to.
    """
    out = files.as_path(out)
    files.require_writable(out)
    files.write_json(out / NUMBERS, numbers(inspection))
    files.write_csv(out / TABLE, _rows(inspection), COLUMNS)
    files.write_text(out / PAGE, page(inspection, datetime.datetime.now()))
    return text(inspection)


def text(inspection: Inspection) -> str:
    """The inspection as text: what there is, findings, and what is recommended."""
    lines = [f"{inspection.place}: {_summary(inspection)}", *_facts(inspection), ""]
    for finding in inspection.findings:
        severity, details = finding.severity, finding.details
        lines.append(f"{severity.upper() if severity == PROBLEM else severity}: {finding.message}")
        # Of files that cannot be used, all are listed.
        most = len(details) if finding.kind == "unreadable" else TEXT_DETAILS
        lines += [f"    {detail}" for detail in details[:most]]
        lines += [f"    and {len(details) - most} more"] if len(details) > most else []
    if not inspection.findings:
        lines.append("no problem was found")
    if inspection.recommendation:
        lines += ["", "recommended:"]
        lines += [f"  {line}" for line in (*inspection.recommendation.why, *inspection.commands)]
    return "\n".join(lines) + "\n"


def _summary(inspection: Inspection) -> str:
    """58 images of 2 classes in 10 groups; 1 problem, 3 notes."""
    images, classes = inspection.image_set.images, len(inspection.classes)
    groups = _group_count(inspection)
    problems = sum(finding.severity == PROBLEM for finding in inspection.findings)
    notes = quantity(len(inspection.findings) - problems, "note")
    of_classes = f" of {classes} class{'' if classes == 1 else 'es'}" if classes else ", unlabelled"
    in_groups = f" in {quantity(groups, 'group')}" if groups else ""
    return (
        f"{quantity(len(images))}{of_classes}{in_groups}; {quantity(problems, 'problem')}, {notes}"
    )


def _group_count(inspection: Inspection) -> int:
    return len(set(inspection.image_set.groups or ()) - {""})


def _facts(inspection: Inspection) -> list[str]:
    """A line each on classes, sizes and pixel sizes."""
    lines = [f"sizes: {_listed(_sizes(inspection))}"]
    lines.append(f"pixel sizes: {_listed(_pixel_sizes(inspection))}")
    if inspection.classes:
        lines.insert(0, f"classes: {_listed(_by_class(inspection), 20)}")
    return lines


def _listed(counts: dict[str, int], most: int = 6) -> str:
    """`a (3), b (2)`, and how many more."""
    listed = [f"{name} ({count})" for name, count in list(counts.items())[:most]]
    return ", ".join(listed) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _sizes(inspection: Inspection) -> dict[str, int]:
    """Images by size, the most frequent first."""
    sizes = [image.size for image in inspection.image_set.images]
    return _frequent_first(f"{format_size(size)} px" if size else "unknown" for size in sizes)


def _pixel_sizes(inspection: Inspection) -> dict[str, int]:
    """Images by pixel size, the most frequent first."""
    sizes = [image.mpp for image in inspection.image_set.images]
    return _frequent_first(f"{size:.3g} µm" if size else "unknown" for size in sizes)


def _frequent_first(values: Iterable[str]) -> dict[str, int]:
    return dict(collections.Counter(values).most_common())


def _by_class(inspection: Inspection) -> dict[str, int]:
    """Images by class, in the order of the classes; the unlabelled last."""
    counts = collections.Counter(inspection.image_set.labels)
    unlabelled = {_UNLABELLED: counts[""]} if counts[""] else {}
    return {name: counts[name] for name in inspection.classes} | unlabelled


def _by_group(inspection: Inspection) -> dict[str, dict[str, int]]:
    """Images of each group by class; empty where groups are not known."""
    image_set, counts = inspection.image_set, collections.defaultdict(collections.Counter)
    for group, label in zip(image_set.groups or (), image_set.labels, strict=False):
        counts[group][label or _UNLABELLED] += 1
    return {group: dict(by_class) for group, by_class in sorted(counts.items())}


def _findings_by_image(inspection: Inspection) -> list[list[Finding]]:
    """The findings about each image, problems first."""
    findings = [[] for _ in inspection.image_set.images]
    for finding in inspection.findings:
        for i in dict.fromkeys(finding.indices):
            findings[i].append(finding)
    return findings


def numbers(inspection: Inspection) -> dict[str, Any]:
    """Everything for programs, except the images, which are in images.csv."""
    image_set, recommendation = inspection.image_set, inspection.recommendation
    findings = [
        {
            "severity": finding.severity,
            "kind": finding.kind,
            "says": finding.message,
            "details": finding.details,
            "images": [image_set.names[i] for i in dict.fromkeys(finding.indices)],
        }
        for finding in inspection.findings
    ]
    return {
        "place": str(inspection.place),
        "images": len(image_set.images),
        "usable": len(image_set.usable()),
        "classes": _by_class(inspection),
        "groups": _by_group(inspection),
        "sizes": _sizes(inspection),
        "pixel_sizes": _pixel_sizes(inspection),
        "duplicates": split_pairs.kinds(image_set.pairs),
        "views": [view.name for view in inspection.extraction.views],
        "target_mpp": inspection.extraction.target_mpp,
        "findings": findings,
        "suggestion": recommendation
        and {
            "views": [view.name for view in recommendation.views],
            "target_mpp": recommendation.target_mpp,
            "folds": recommendation.folds,
            "why": recommendation.why,
            "commands": inspection.commands,
        },
    }


def _rows(inspection: Inspection) -> list[list[Any]]:
    """A row for each image, below COLUMNS."""
    image_set, rows = inspection.image_set, []
    groups = image_set.groups or [""] * len(image_set.images)
    findings = _findings_by_image(inspection)
    for i, image in enumerate(image_set.images):
        kinds = dict.fromkeys(finding.kind for finding in findings[i])
        height, width = image.size or ("", "")
        rows.append(
            [
                *(image_set.names[i], image_set.labels[i], groups[i]),
                *(int(not image.error), ";".join(kinds), image.error),
                *(width, height, *image.file_format, image.mpp or ""),
                *(_quality(image.quality) if image.quality else [""] * _QUALITY_COLUMNS),
            ]
        )
    return rows


def _quality(quality: ImageQuality) -> list[str]:
    """The cells of an image that could be decoded."""
    angle, absorbed = quality.stain_angle, quality.absorbed
    return [
        f"{quality.tissue_fraction:.4f}",
        STAIN_STATUS[quality.stain_status],
        "" if angle is None else f"{angle:.2f}",
        *(f"{value:.0f}" for value in quality.white),
        *((f"{value:.3f}" for value in absorbed) if absorbed else [""] * 3),
        f"{quality.clipped:.4f}",
        f"{quality.blur:.3f}",
        quality.fingerprint.sha256,
    ]


def contact_sheet(inspection: Inspection) -> dict[str, tuple[list[SheetImage], int]]:
    """The images to show of each class, problems first, and how many more the class has."""
    image_set = inspection.image_set
    by_class = {name: [] for name in _by_class(inspection)}
    for i, findings in enumerate(_findings_by_image(inspection)):
        quality = image_set.images[i].quality
        image = SheetImage(
            name=image_set.names[i],
            uri=quality.thumbnail if quality else "",
            findings=tuple(dict.fromkeys(finding.kind for finding in findings)),
            severity=findings[0].severity if findings else "",
        )
        by_class[image_set.labels[i] or _UNLABELLED].append(image)
    most, sheet = CONTACT_SHEET // max(1, len(by_class)), {}
    for name, images in by_class.items():
        images.sort(key=lambda image: (image.severity != PROBLEM, not image.findings))
        sheet[name] = images[:most], len(images[most:])
    return sheet


def _images_of(inspection: Inspection, finding: Finding) -> list[SheetImage]:
    """The images to show beside a finding, if it is one that can be seen."""
    image_set = inspection.image_set
    indices = finding.indices[:FINDING_IMAGES] if finding.kind in _VISIBLE else ()
    return [SheetImage(image_set.names[i], image_set.images[i].quality.thumbnail) for i in indices]


def page(inspection: Inspection, made: datetime.datetime) -> str:
    """The page: one HTML file with its style, script and thumbnails inside."""
    return templates.render(
        TEMPLATES,
        "inspection.html",
        inspection=inspection,
        name=inspection.name,
        summary=_summary(inspection),
        cards={
            "images": len(inspection.image_set.images),
            "usable images": len(inspection.image_set.usable()),
            "classes": len(inspection.classes) or "–",
            "groups": _group_count(inspection) or "–",
        },
        images=[_images_of(inspection, finding) for finding in inspection.findings],
        most_details=PAGE_DETAILS,
        pairs=_PAIRS,
        by_class=_by_class(inspection),
        by_group=_by_group(inspection),
        sizes=_sizes(inspection),
        pixel_sizes=_pixel_sizes(inspection),
        views=", ".join(view.name for view in inspection.extraction.views),
        sheet=contact_sheet(inspection),
        commands=[map(shlex.quote, shlex.split(command)) for command in inspection.commands],
        made=made.strftime("%Y-%m-%d %H:%M"),
    )
