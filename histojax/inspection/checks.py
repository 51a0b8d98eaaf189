"""What is wrong or odd with a folder of images: a rule each, problems told apart from notes.

looks [N], labels, groups -> findings, the grave ones first
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from histojax.config import STAIN_STATUS, STAIN_TOO_LITTLE_TISSUE, View
from histojax.images import reader
from histojax.images.padding import scaled_size
from histojax.images.resampling import SCALE_OF_TARGET, resampled_size
from histojax.inspection import near_duplicates
from histojax.inspection.image_quality import InspectedImage
from histojax.inspection.recommend import PAPER_MPP, format_size, mixed

PROBLEM, NOTE = "problem", "note"
FORMATS = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}

# Shares of tissue's optical density that lie in green and in blue. Hematoxylin and eosin both absorb green most: 58
# breast fields have green shares of 0.42 to 0.60 and blue ones of 0.12 to 0.18, three other fields blue ones of 0.27 to
# 0.32; grey has 0.33 of each, DAB 0.35 and 0.48.
LEAST_GREEN, MOST_BLUE = 0.38, 0.42
FAR, LEAST_SPREAD = (
    5.0,
    0.02,
)  # Robust deviations from the set's median share, and the least such deviation.
FEW = 8  # Images of fewer are not compared with each other.
# The brightest pixels are glass, and white, but in a field full of pale tissue, which is pink: there green is lowest.
TINT, PINK_TINT = 20.0, 50.0
DARK = 180.0  # Grey level of the brightest pixels, in their brightest channel.
MOST_CLIPPED = 0.05  # The fields above have at most 0.03.
# The fields above have a blur of 0.32 to 0.44, and blurred by a Gaussian of 2 px one of 0.57 to 0.68.
BLURRED, BLURRED_MORE = 0.5, 0.1  # At least so much, and so much more than the median.


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something a user should know.

    Attributes:
      severity: PROBLEM, what must be seen to before a run, or NOTE.
      kind: a word for tables and marks.
      says: what was found and what to do, in one sentence or two.
      details: a line each.
      images: places of the images it is about, in the order of the details where there is one for each.
    """

    severity: str
    kind: str
    message: str
    details: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """N images and what is known of them.

    Attributes:
      names: as the user knows them, relative to the folder.
      looks: what was seen.
      labels: class names, empty where unknown.
      groups: patients or slides, empty where unknown; None where groups are not known at all.
    """

    names: tuple[str, ...]
    images: tuple[InspectedImage, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None

    def usable(self) -> list[int]:
        """Places of the images that can be used."""
        return [i for i, look in enumerate(self.images) if not look.error]

    def seen(self) -> list[int]:
        """Places of the images that could be decoded."""
        return [i for i, look in enumerate(self.images) if look.quality]


def run_checks(subject: ImageSet, views: Sequence[View], target_mpp: float) -> list[Finding]:
    """Everything there is to say about images; `views` and `target_mpp` are those of the protocol."""
    return [
        *unreadable(subject),
        *same(subject),
        *crops(subject, views, target_mpp),
        *pixel_sizes(subject, target_mpp),
        *tissue(subject),
        *colours(subject),
        *glass(subject),
        *exposure(subject),
        *focus(subject),
        *forms(subject),
        *groups_of(subject),
    ]


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Problems before notes, else as they come."""
    return tuple(sorted(findings, key=lambda finding: finding.severity != PROBLEM))


def quantity(number: int, of: str = "image") -> str:
    """`1 image`, `2 images`."""
    return f"{number} {of}{'' if number == 1 else 's'}"


def told(
    severity: str, kind: str, says: str, subject: ImageSet, why: dict[int, str]
) -> list[Finding]:
    """A finding about the images of `why`, {place: reason}, or none; `{}` in `says` is their number."""
    details = tuple(f"{subject.names[i]}: {reason}" for i, reason in why.items())
    return (
        [Finding(severity, kind, says.format(quantity(len(why))), details, tuple(why))]
        if why
        else []
    )


def unreadable(subject: ImageSet) -> list[Finding]:
    """Images that cannot be used, each with its cause; those that are read by region all the same apart."""
    why = {
        i: look.error.removeprefix(f"{look.path} ")
        for i, look in enumerate(subject.images)
        if look.error
    }
    lost = {i: cause for i, cause in why.items() if not subject.images[i].quality}
    fields = {i: cause for i, cause in why.items() if i not in lost}
    return [
        *told(
            PROBLEM, "unreadable", "{} cannot be used: repair, convert or remove.", subject, lost
        ),
        *told(
            PROBLEM,
            "field",
            "{} too large or of several pages, to be read by region alone, as histojax heatmap "
            "does: to train on, cut them into tiles.",
            subject,
            fields,
        ),
    ]


def same(subject: ImageSet) -> list[Finding]:
    """Images that are the same or nearly: of two classes, on two sides of a split, or harmless."""
    seen = subject.seen()
    if len(seen) < 2:
        return []
    measured = [subject.images[i].quality for i in seen]
    prints = near_duplicates.Fingerprints(
        tuple(each.sha256 for each in measured), np.stack([each.fingerprint for each in measured])
    )
    conflicts, apart, together = [], [], []
    for pair in near_duplicates.find_pairs(prints):
        one, other = seen[pair.first], seen[pair.second]
        how = (
            "the same file"
            if pair.exact
            else f"correlation {pair.correlation:.2f} of their thumbnails"
        )
        if subject.labels[one] != subject.labels[other]:
            conflicts.append((one, other, how))
        elif (
            subject.groups and subject.groups[one] and subject.groups[one] == subject.groups[other]
        ):
            together.append((one, other, how))
        else:
            apart.append((one, other, how))
    return [
        *pairs(
            PROBLEM,
            "conflict",
            "{} of (nearly) the same image in two classes: one label is wrong.",
            subject,
            conflicts,
        ),
        *pairs(
            PROBLEM,
            "duplicate",
            "{} of (nearly) the same image: in two folds one is trained on while the other is "
            "judged. Remove one of each, or give both one group.",
            subject,
            apart,
        ),
        *pairs(
            NOTE,
            "duplicate",
            "{} of (nearly) the same image, each within a group.",
            subject,
            together,
        ),
    ]


def pairs(
    severity: str, kind: str, says: str, subject: ImageSet, found: list[tuple[int, int, str]]
) -> list[Finding]:
    """A finding about pairs of images, or none."""

    def called(place: int) -> str:
        label = subject.labels[place]
        return subject.names[place] + (f" ({label})" if label else "")

    details = tuple(f"{called(one)} and {called(other)}: {how}" for one, other, how in found)
    places = tuple(place for one, other, _ in found for place in (one, other))
    return (
        [Finding(severity, kind, says.format(quantity(len(found), "pair")), details, places)]
        if found
        else []
    )


def crops(subject: ImageSet, views: Sequence[View], target_mpp: float) -> list[Finding]:
    """Images that a crop of a view does not fit into."""
    found = []
    for view in views:
        why, usable = {}, subject.usable()
        for i in usable:
            look = subject.images[i]
            full = look.size
            if target_mpp and look.mpp:
                full = resampled_size(look.size, look.mpp / (target_mpp * SCALE_OF_TARGET))
            small = scaled_size(full, view.scale)
            if min(small) < view.crop_size:
                why[i] = f"{format_size(look.size)} px, {format_size(small)} at scale {view.scale}"
        crop = f"the {view.crop_size} px crop of view {view.name}"
        ending = f"smaller than {crop}: choose other --views, such as those suggested"
        if why and len(why) == len(usable):
            reason = ", ".join(sorted(set(why.values()))[:3])
            found.append(Finding(PROBLEM, "crop", f"All images are {ending} ({reason})."))
        else:
            found += told(PROBLEM, "crop", f"{{}} {ending}, or leave out.", subject, why)
    return found


def pixel_sizes(subject: ImageSet, target_mpp: float) -> list[Finding]:
    """Pixel sizes that are mixed, or known of some images only."""
    usable = subject.usable()
    known = {i: subject.images[i].mpp for i in usable if subject.images[i].mpp}
    unknown = {i: "no pixel size" for i in usable if i not in known}
    found = []
    if target_mpp:
        found += told(
            PROBLEM,
            "pixel size",
            "{} without a pixel size, which --target_mpp needs: pass --mpp.",
            subject,
            unknown,
        )
    elif len(known) < len(unknown):
        why = {i: f"{mpp:.3g} µm" for i, mpp in known.items()}
        found += told(
            NOTE,
            "pixel size",
            "{} with a pixel size, all others without: none is used.",
            subject,
            why,
        )
    elif unknown:
        found += told(
            NOTE,
            "pixel size",
            "{} without a pixel size, all others have one: pass --mpp if it is the same.",
            subject,
            unknown,
        )
    if known and not target_mpp and mixed(list(known.values())):
        low, high = min(known.values()), max(known.values())
        says = f"Pixel sizes go from {low:.3g} to {high:.3g} µm, so tissue is shown at different magnifications: pass "
        counts = collections.Counter(f"{mpp:.3g} µm" for mpp in known.values())
        details = tuple(f"{size}: {quantity(number)}" for size, number in counts.most_common())
        found.append(Finding(PROBLEM, "pixel size", f"{says}--target_mpp={PAPER_MPP}.", details))
    return found


def tissue(subject: ImageSet) -> list[Finding]:
    """Blank fields, and others whose stains cannot be told apart."""
    from histojax.ops import stain  # Here alone: it brings jax.

    blank, plain = {}, {}
    for i in subject.seen():
        measured = subject.images[i].quality
        if STAIN_STATUS[measured.stain_status] == STAIN_TOO_LITTLE_TISSUE:
            blank[i] = f"{measured.tissue_fraction:.1%} tissue"
        elif measured.stain_status:
            plain[i] = f"{measured.stain_angle:.1f} degrees between the stains"
    least = f"{stain.LEAST_TISSUE:.0%}"
    return [
        *told(
            PROBLEM,
            "blank",
            f"{{}} with hardly any tissue (below {least}): stain normalisation takes the reference "
            "stains there.",
            subject,
            blank,
        ),
        *told(
            PROBLEM,
            "stain",
            "{} in which two stains cannot be told apart: normalisation takes the reference stains "
            "there. Are they H&E?",
            subject,
            plain,
        ),
    ]


def colours(subject: ImageSet) -> list[Finding]:
    """Tissue that does not absorb light as H&E does, or not as the rest of the set does."""
    absorbed = {i: subject.images[i].quality.absorbed for i in judged(subject)}
    foreign, unlike = {}, {}
    shares = np.array(list(absorbed.values())).reshape(-1, 3)
    middle = np.median(shares, axis=0) if len(shares) else np.zeros(3)
    spread = (
        np.maximum(1.4826 * np.median(np.abs(shares - middle), axis=0), LEAST_SPREAD)
        if len(shares)
        else middle
    )
    for i, (red, green, blue) in absorbed.items():
        says = f"red, green, blue absorb {red:.0%}, {green:.0%}, {blue:.0%}"
        if green < LEAST_GREEN or blue > MOST_BLUE:
            foreign[i] = says
        elif len(shares) >= FEW and (np.abs(np.array(absorbed[i]) - middle) > FAR * spread).any():
            unlike[i] = (
                f"{says}; the median image {middle[0]:.0%}, {middle[1]:.0%}, {middle[2]:.0%}"
            )
    return [
        *told(
            PROBLEM,
            "colour",
            "{} with colours that are not those of H&E, whose stains absorb green most: grey, "
            "another stain, a colour cast, or swapped channels?",
            subject,
            foreign,
        ),
        *told(
            NOTE,
            "colour",
            "{} with colours far from the rest of the set: another scanner, stain or white balance?",
            subject,
            unlike,
        ),
    ]


def judged(subject: ImageSet) -> list[int]:
    """Places of the images with enough tissue to judge colour and focus by."""
    from histojax.ops import stain

    return [
        i for i in subject.seen() if subject.images[i].quality.tissue_fraction >= stain.LEAST_TISSUE
    ]


def glass(subject: ImageSet) -> list[Finding]:
    """A background that is tinted or dark."""
    tinted, dark = {}, {}
    for i in subject.seen():
        white = subject.images[i].quality.white
        rgb = ", ".join(f"{value:.0f}" for value in white)
        tint = max(white) - min(white)
        if max(white) < DARK:
            dark[i] = f"red, green, blue of the brightest pixels: {rgb}"
        elif tint > (PINK_TINT if white[1] == min(white) else TINT):
            tinted[i] = f"red, green, blue of the brightest pixels: {rgb}"
    return [
        *told(
            NOTE, "cast", "{} with a background that is not white: white balance?", subject, tinted
        ),
        *told(NOTE, "dark", "{} without any bright background: underexposed?", subject, dark),
    ]


def exposure(subject: ImageSet) -> list[Finding]:
    """Tissue that has run into an end of the range."""
    shares = {i: subject.images[i].quality.clipped for i in subject.seen()}
    why = {i: f"{share:.0%} of pixels" for i, share in shares.items() if share > MOST_CLIPPED}
    return told(
        NOTE,
        "clipped",
        "{} with channels at 0 or 255 in tissue: over- or underexposed.",
        subject,
        why,
    )


def focus(subject: ImageSet) -> list[Finding]:
    """Images that are blurred, against the rest; or all of them."""
    blur = {i: subject.images[i].quality.blur for i in judged(subject)}
    if not blur:
        return []
    middle = float(np.median(list(blur.values())))
    if middle > BLURRED:
        says = f"All images are soft (median blur {middle:.2f}; sharp ones: 0.3 to 0.45): out of focus, or enlarged?"
        return [Finding(NOTE, "blurred", says)]
    least = max(BLURRED, middle + BLURRED_MORE)
    why = {
        i: f"blur {value:.2f}, the median image {middle:.2f}"
        for i, value in blur.items()
        if value > least
    }
    return told(NOTE, "blurred", "{} out of focus.", subject, why)


def forms(subject: ImageSet) -> list[Finding]:
    """Files whose ending is not their format, and images that are converted to RGB."""
    named, converted = {}, {}
    for i in subject.usable():
        path, (form, mode) = subject.images[i].path, subject.images[i].file_format
        if FORMATS.get(path.suffix.lower(), form) != form:
            named[i] = f"it is {form}"
        if mode in reader.CONVERTED:
            converted[i] = reader.CONVERTED[mode]
    return [
        *told(
            NOTE,
            "ending",
            "{} with an ending of another format; they are read all the same.",
            subject,
            named,
        ),
        *told(NOTE, "converted", "{} not plain RGB: converted when read.", subject, converted),
    ]


def groups_of(subject: ImageSet) -> list[Finding]:
    """Groups in several classes, classes in one group, images of unknown group."""
    if subject.groups is None:
        return []
    found, classes, of_class = (
        [],
        collections.defaultdict(collections.Counter),
        collections.defaultdict(set),
    )
    for label, group in zip(subject.labels, subject.groups, strict=True):
        if group and label:
            classes[group][label] += 1
            of_class[label].add(group)
    several = {group: counts for group, counts in classes.items() if len(counts) > 1}
    if several:
        details = tuple(
            f"{group}: {', '.join(f'{label} {number}' for label, number in sorted(counts.items()))}"
            for group, counts in sorted(several.items())
        )
        says = f"{quantity(len(several), 'group')} of {len(classes)} in several classes; no fold splits a group."
        found.append(Finding(NOTE, "group", says, details))
    unknown = {i: "no group" for i, group in enumerate(subject.groups) if not group}
    found += told(
        NOTE,
        "group",
        "{} of unknown group: see --unknown_groups of histojax train.",
        subject,
        unknown,
    )
    for label, there in sorted(of_class.items()):
        if len(there) == 1 and (label, "") not in zip(subject.labels, subject.groups, strict=True):
            says = f"All images of class {label} are of one group: where that is held out, training lacks the class."
            found.append(Finding(PROBLEM, "group", says))
    return found
