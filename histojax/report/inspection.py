"""An inspection as people and programs read it: text, inspection.json, images.csv, and a page with a contact sheet."""

import collections
import datetime
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from histojax.config import STAIN_STATUS
from histojax.inspection.findings import PROBLEM, Finding, quantity
from histojax.inspection.image_quality import InspectedImage
from histojax.inspection.inspection import Inspection
from histojax.inspection.recommend import format_size
from histojax.report import TEMPLATES
from histojax.utils import files, templates

PAGE, NUMBERS, TABLE = "inspection.html", "inspection.json", "images.csv"
LISTED = (
    10  # Details of a finding in the text, at most; of files that cannot be used all are listed.
)
DETAILED = 500  # Details of a finding on the page, at most.
SHEET = 480  # Pictures on the contact sheet at most, problem images first; about 6 MB.
BESIDE = 24  # Pictures beside a finding, at most.
PAIRED = ("conflict", "duplicate")
PICTURED = (
    *PAIRED,
    "blank",
    "stain",
    "colour",
    "cast",
    "dark",
    "clipped",
    "blurred",
)  # What one sees in a picture.
UNLABELLED = "unlabelled"

COLUMNS = (
    "image",
    "class",
    "group",
    "usable",
    "findings",
    "cause",
    "width",
    "height",
    "format",
    "mode",
    "um_per_px",
    "tissue_fraction",
    "stain_status",
    "stain_angle_degrees",
    "white_r",
    "white_g",
    "white_b",
    "absorbed_r",
    "absorbed_g",
    "absorbed_b",
    "clipped_fraction",
    "blur",
    "file_sha256",
)


class Shown(NamedTuple):
    """A picture of the contact sheet.

    Attributes:
      name: of the image.
      uri: its thumbnail; empty where there is none.
      marks: kinds of the findings about it.
      severity: the worst of them; empty where there are none.
    """

    name: str
    uri: str
    marks: tuple[str, ...]
    severity: str


def write(out: Path, inspection: Inspection) -> str:
    """Writes the three files into a folder and returns the text.

    Raises:
      InputError: nothing can be written there.
    """
    files.require_writable(out)
    files.write_json(out / NUMBERS, numbers(inspection))
    files.write_csv(out / TABLE, rows(inspection), COLUMNS)
    files.write_text(out / PAGE, page(inspection, datetime.datetime.now()))
    return text(inspection)


def text(inspection: Inspection) -> str:
    """What a person reads first: what is there, findings, what is suggested."""
    lines = [f"{inspection.place}: {summary(inspection)}", *facts(inspection), ""]
    for finding in inspection.findings:
        lines.append(
            f"{finding.severity.upper() if finding.severity == PROBLEM else finding.severity}: {finding.message}"
        )
        most = len(finding.details) if finding.kind == "unreadable" else LISTED
        lines += [f"    {detail}" for detail in finding.details[:most]]
        lines += (
            [f"    and {len(finding.details) - most} more"] if len(finding.details) > most else []
        )
    if not inspection.findings:
        lines.append("nothing odd was found")
    if inspection.recommendation:
        lines += ["", "suggested:", *(f"  {why}" for why in inspection.recommendation.why)]
        lines += [f"  {command}" for command in inspection.commands]
    return "\n".join(lines) + "\n"


def summary(inspection: Inspection) -> str:
    """58 images of 2 classes in 10 groups; 1 problem, 3 notes."""
    subject = inspection.image_set
    groups = len(set(subject.groups or ()) - {""})
    classes = len(inspection.classes)
    of = f" of {classes} class{'' if classes == 1 else 'es'}" if classes else ", unlabelled"
    within = f" in {quantity(groups, 'group')}" if groups else ""
    problems = sum(finding.severity == PROBLEM for finding in inspection.findings)
    notes = len(inspection.findings) - problems
    return f"{quantity(len(subject.images))}{of}{within}; {quantity(problems, 'problem')}, {quantity(notes, 'note')}"


def facts(inspection: Inspection) -> list[str]:
    """Images by class, sizes and pixel sizes, a line each."""
    subject = inspection.image_set
    lines = [
        f"sizes: {listed(size_counts(subject.images))}",
        f"pixel sizes: {listed(mpp_counts(subject.images))}",
    ]
    return (
        [f"classes: {listed(class_counts(inspection), 20)}", *lines]
        if inspection.classes
        else lines
    )


def listed(counts: dict[str, int], most: int = 6) -> str:
    """`a (3), b (2)`, and how many more."""
    told = [f"{name} ({number})" for name, number in list(counts.items())[:most]]
    return ", ".join(told) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def size_counts(looks: tuple[InspectedImage, ...]) -> dict[str, int]:
    """Images by size, the most frequent first."""
    return dict(
        collections.Counter(
            f"{format_size(look.size)} px" if look.size else "unknown" for look in looks
        ).most_common()
    )


def mpp_counts(looks: tuple[InspectedImage, ...]) -> dict[str, int]:
    """Images by pixel size, the most frequent first."""
    return dict(
        collections.Counter(
            f"{look.mpp:.3g} µm" if look.mpp else "unknown" for look in looks
        ).most_common()
    )


def class_counts(inspection: Inspection) -> dict[str, int]:
    """Images by class, in the order of the classes; those without one last."""
    counts = collections.Counter(inspection.image_set.labels)
    return {name: counts[name] for name in inspection.classes} | (
        {UNLABELLED: counts[""]} if counts[""] else {}
    )


def marks(inspection: Inspection) -> list[list[Finding]]:
    """The findings about each image, the grave ones first."""
    about = [[] for _ in inspection.image_set.images]
    for finding in inspection.findings:
        for place in dict.fromkeys(finding.indices):
            about[place].append(finding)
    return about


def numbers(inspection: Inspection) -> dict[str, Any]:
    """Everything for programs; images.csv has the images."""
    subject, suggested = inspection.image_set, inspection.recommendation
    return {
        "place": str(inspection.place),
        "images": len(subject.images),
        "usable": len(subject.usable()),
        "classes": class_counts(inspection),
        "groups": groups_table(inspection),
        "sizes": size_counts(subject.images),
        "pixel_sizes": mpp_counts(subject.images),
        "views": [view.name for view in inspection.extraction.views],
        "target_mpp": inspection.extraction.target_mpp,
        "findings": [
            {
                "severity": finding.severity,
                "kind": finding.kind,
                "says": finding.message,
                "details": finding.details,
                "images": [subject.names[i] for i in dict.fromkeys(finding.indices)],
            }
            for finding in inspection.findings
        ],
        "suggestion": suggested
        and {
            "views": [view.name for view in suggested.views],
            "target_mpp": suggested.target_mpp,
            "folds": suggested.folds,
            "why": suggested.why,
            "commands": inspection.commands,
        },
    }


def groups_table(inspection: Inspection) -> dict[str, dict[str, int]]:
    """Images of each group by class; nothing where groups are not known."""
    subject, found = inspection.image_set, collections.defaultdict(collections.Counter)
    for group, label in zip(subject.groups or (), subject.labels, strict=False):
        found[group][label or UNLABELLED] += 1
    return {group: dict(counts) for group, counts in sorted(found.items())}


def rows(inspection: Inspection) -> list[list[Any]]:
    """A row an image, below COLUMNS."""
    subject, found = inspection.image_set, []
    groups = subject.groups or [""] * len(subject.images)
    for name, look, label, group, about in zip(
        subject.names, subject.images, subject.labels, groups, marks(inspection), strict=True
    ):
        kinds = ";".join(dict.fromkeys(finding.kind for finding in about))
        height, width = look.size or ("", "")
        of_file = [width, height, *look.file_format, look.mpp or ""]
        found.append(
            [name, label, group, int(not look.error), kinds, look.error, *of_file, *measured(look)]
        )
    return found


def measured(look: InspectedImage) -> list[Any]:
    """The measures of an image, as cells; empty ones where it has none."""
    each = look.quality
    if each is None:
        return [""] * 12
    return [
        f"{each.tissue_fraction:.4f}",
        STAIN_STATUS[each.stain_status],
        "" if each.stain_angle is None else f"{each.stain_angle:.2f}",
        *(f"{value:.0f}" for value in each.white),
        *(f"{value:.3f}" for value in each.absorbed or ()),
        *([] if each.absorbed else [""] * 3),
        f"{each.clipped:.4f}",
        f"{each.blur:.3f}",
        each.sha256,
    ]


def sheet(inspection: Inspection) -> dict[str, tuple[list[Shown], int]]:
    """Pictures by class, problem images first, and how many more images each class has."""
    subject, by_class = inspection.image_set, {name: [] for name in class_counts(inspection)}
    for name, look, label, about in zip(
        subject.names, subject.images, subject.labels, marks(inspection), strict=True
    ):
        kinds = tuple(dict.fromkeys(finding.kind for finding in about))
        severity = about[0].severity if about else ""
        uri = look.quality.thumbnail if look.quality else ""
        by_class[label or UNLABELLED].append(Shown(name, uri, kinds, severity))
    most, cut = SHEET // max(1, len(by_class)), {}
    for name, pictures in by_class.items():
        pictures.sort(key=lambda each: (each.severity != PROBLEM, not each.marks))
        cut[name] = pictures[:most], len(pictures[most:])
    return cut


def beside(inspection: Inspection, finding: Finding) -> list[Shown]:
    """Pictures for a finding, where they tell something; pairs stand side by side."""
    subject = inspection.image_set
    places = finding.indices[:BESIDE] if finding.kind in PICTURED else ()
    return [Shown(subject.names[i], subject.images[i].quality.thumbnail, (), "") for i in places]


def page(inspection: Inspection, made: datetime.datetime) -> str:
    """One HTML file with its style, script and pictures inside."""
    subject = inspection.image_set
    return templates.render(
        TEMPLATES,
        "inspection.html",
        inspection=inspection,
        name=inspection.name,
        summary=summary(inspection),
        cards={
            "images": len(subject.images),
            "that can be used": len(subject.usable()),
            "classes": len(inspection.classes) or "–",
            "groups": len(set(subject.groups) - {""}) if subject.groups else "–",
        },
        pictures=[beside(inspection, finding) for finding in inspection.findings],
        most=DETAILED,
        paired=PAIRED,
        by_class=class_counts(inspection),
        groups=groups_table(inspection),
        sizes=size_counts(subject.images),
        mpps=mpp_counts(subject.images),
        views=", ".join(view.name for view in inspection.extraction.views),
        sheet=sheet(inspection),
        commands=[map(shlex.quote, shlex.split(command)) for command in inspection.commands],
        made=made.strftime("%Y-%m-%d %H:%M"),
    )
