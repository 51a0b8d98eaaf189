"""Checks of a set of images: each is a function from the set to findings, problems or notes.

To add a check, write such a function and call it in `run_checks`.
"""

import collections

import numpy as np

from histojax.config import STAIN_STATUS, STAIN_TOO_LITTLE_TISSUE, Extraction
from histojax.images import reader
from histojax.images.padding import by_resolution, scaled_size
from histojax.images.resampling import Resampling, most_enlarged, resampled_size
from histojax.inspection import confounding, near_duplicates
from histojax.inspection.findings import NOTE, PROBLEM, Finding, ImageSet
from histojax.inspection.recommend import PAPER_MPP, format_size, mixed
from histojax.ops import stain
from histojax.utils.words import quantity

_FORMATS = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_FORMATS |= {".bmp": "BMP", ".webp": "WEBP", ".jpe": "JPEG", ".jfif": "JPEG"}

# Shares of tissue's optical density that lie in green and in blue. Hematoxylin and eosin both
# absorb green most: 58 breast fields have green shares of 0.42 to 0.60 and blue ones of 0.12 to
# 0.18, three other fields blue ones of 0.27 to 0.32; grey has 0.33 of each, DAB 0.35 and 0.48.
_LEAST_GREEN, _MOST_BLUE = 0.38, 0.42
# Robust deviations from the set's median share, the least such deviation, and the fewest images
# that are compared with each other.
_FAR, _LEAST_SPREAD, _FEW = 5.0, 0.02, 8
# Differences of grey levels between the channels of the brightest pixels. These are glass, and
# white, unless a field is full of pale tissue, which is pink: its green is lowest.
_TINT, _PINK_TINT = 20.0, 50.0
_DARK = 180.0  # Grey level of the brightest pixels, in their brightest channel.
_MOST_CLIPPED = 0.05  # The fields above have at most 0.03.
# The least blur of a blurred image, and by how much it is above the median. The fields above have a
# blur of 0.32 to 0.44, and after a Gaussian filter of 2 px one of 0.57 to 0.68.
_BLURRED, _BLURRED_MORE = 0.5, 0.1


def run_checks(images: ImageSet, extraction: Extraction) -> list[Finding]:
    """All findings about images, whose crops and pixel sizes the protocol decides."""
    return [
        *_unreadable(images),
        *_same_images(images),
        *_crops_that_do_not_fit(images, extraction),
        *_enlarged(images, extraction),
        *_pixel_sizes(images, extraction),
        *_tissue(images),
        *_colours(images),
        *_background(images),
        *_exposure(images),
        *_focus(images),
        *_file_formats(images),
        *_groups(images),
        *confounding.check(images),
        *confounding.check_sites(images),
    ]


def _unreadable(images: ImageSet) -> list[Finding]:
    """Images that cannot be used; those that can be read by region apart."""
    unreadable, by_region = {}, {}
    for i, image in enumerate(images.images):
        if image.error:
            reasons = by_region if image.quality else unreadable
            reasons[i] = image.error.removeprefix(f"{image.path} ")
    cannot = "{} cannot be used: repair, convert or remove."
    large = (
        "{} too large, or of several pages, which only histojax heatmap can read, by region: to "
        "train on, cut into tiles."
    )
    return [
        *images.finding(PROBLEM, "unreadable", cannot, unreadable),
        *images.finding(PROBLEM, "field", large, by_region),
    ]


def _same_images(images: ImageSet) -> list[Finding]:
    """Pairs of copies, and of fields that overlap: of two classes, in two groups, or in one."""
    kinds = {name: [] for name in ("conflict", "copies", "overlaps", "classes", "harmless")}
    for pair in images.pairs:
        is_overlap = pair.kind == near_duplicates.OVERLAP
        if images.labels[pair.first] != images.labels[pair.second]:
            kind = "classes" if is_overlap else "conflict"
        elif images.of_one_group(pair.first, pair.second):
            kind = "harmless"
        else:
            kind = "overlaps" if is_overlap else "copies"
        kinds[kind].append((pair.first, pair.second, near_duplicates.likeness(pair)))
    conflict = "{} of copies of one image in two classes: one label is wrong."
    leak = (
        ": in two folds, one is trained on while the other is predicted. --group_copies keeps them "
        "in one fold; without it, "
    )
    copies = "{} of copies of one image" + leak + "remove one of each."
    overlaps = "{} of fields that overlap" + leak + "give both the same group."
    classes = "{} of fields that overlap, of two classes: --group_copies keeps them in one fold."
    harmless = "{} of copies of one image, or of fields that overlap, each within a group."
    return [
        *_pairs(PROBLEM, "conflict", conflict, images, kinds["conflict"]),
        *_pairs(PROBLEM, "duplicate", copies, images, kinds["copies"]),
        *_pairs(PROBLEM, "overlap", overlaps, images, kinds["overlaps"]),
        *_pairs(NOTE, "overlap", classes, images, kinds["classes"]),
        *_pairs(NOTE, "duplicate", harmless, images, kinds["harmless"]),
    ]


def _pairs(
    severity: str, kind: str, message: str, images: ImageSet, pairs: list[tuple[int, int, str]]
) -> list[Finding]:
    """A finding about pairs of images, or none; a pair is two indices, and how they are alike."""

    def shown(i: int) -> str:
        return images.names[i] + (f" ({images.labels[i]})" if images.labels[i] else "")

    if not pairs:
        return []
    details = tuple(
        f"{shown(one)} and {shown(other)}: {likeness}" for one, other, likeness in pairs
    )
    indices = tuple(i for one, other, _ in pairs for i in (one, other))
    said = f"{quantity(len(pairs), 'pair')} ({quantity(len({*indices}))})"
    return [Finding(severity, kind, message.format(said), details, indices)]


def _crops_that_do_not_fit(images: ImageSet, extraction: Extraction) -> list[Finding]:
    """Images that are smaller than a crop of a view."""
    findings, usable = [], images.usable()
    for view in extraction.views:
        too_small, resampling = {}, Resampling.of(extraction, None, view)
        at = f"{view.mpp} µm per pixel" if view.mpp else f"scale {view.scale}"
        for i in usable:
            size = full_size = images.images[i].size
            if resampling.target_mpp and images.images[i].mpp:
                full_size = resampled_size(size, resampling.factor_of(images.images[i].mpp))
            scaled = scaled_size(full_size, view.scale)
            if min(scaled) < view.crop_size:
                too_small[i] = f"{format_size(size)} px, {format_size(scaled)} px at {at}"
        smaller = f"smaller than the {view.crop_size} px crop of view {view.name}"
        choose = "choose other --views, such as those recommended"
        if too_small and len(too_small) == len(usable):
            sizes = "; ".join(sorted(set(too_small.values()))[:3])
            message = f"All images are {smaller} ({sizes}): {choose}."
            findings.append(Finding(PROBLEM, "crop", message))
        else:
            message = f"{{}} {smaller}: {choose}, or leave these out."
            findings += images.finding(PROBLEM, "crop", message, too_small)
    return findings


def _enlarged(images: ImageSet, extraction: Extraction) -> list[Finding]:
    """Images that a view in microns would enlarge so much that extraction refuses them."""
    findings = []
    for view in by_resolution(extraction.views).values():
        resampling, enlarged, most = Resampling.of(extraction, None, view), {}, 1.0
        for i in images.usable():
            if view.mpp and (mpp := images.images[i].mpp):
                factor = resampling.factor_of(mpp)
                if factor > resampling.most_enlarged:
                    enlarged[i], most = f"{mpp:.3g} µm, {factor:.3g} x", max(most, factor)
        message = (
            f"{{}} that {resampling.asked_by} would enlarge more than "
            f"{resampling.most_enlarged:g} x, which adds no detail: choose coarser --views, leave "
            f"these out, or pass {most_enlarged(most)}."
        )
        findings += images.finding(PROBLEM, "pixel size", message, enlarged)
    return findings


def _pixel_sizes(images: ImageSet, extraction: Extraction) -> list[Finding]:
    """Pixel sizes that are mixed, or known of some images only."""
    mpps = {i: images.images[i].mpp for i in images.usable()}
    known = {i: f"{mpp:.3g} µm" for i, mpp in mpps.items() if mpp}
    unknown = {i: "no pixel size" for i in mpps if i not in known}
    in_microns = [view.name for view in extraction.views if view.mpp]
    if extraction.target_mpp or in_microns:
        asked_by = ["--target_mpp"] if extraction.target_mpp else in_microns
        need = f"{', '.join(asked_by)} need{'s' if len(asked_by) == 1 else ''}"
        message = f"{{}} without a pixel size, which {need}: pass --mpp."
        findings = images.finding(PROBLEM, "pixel size", message, unknown)
        if extraction.target_mpp or len(in_microns) == len(extraction.views):
            return findings
    elif len(known) < len(unknown):
        message = "{} with a pixel size, all others without: none is used."
        findings = images.finding(NOTE, "pixel size", message, known)
    else:
        message = "{} without a pixel size, all others have one: pass --mpp if it is the same."
        findings = images.finding(NOTE, "pixel size", message, unknown)
    sizes = [mpps[i] for i in known]
    if sizes and mixed(sizes):
        message = (
            f"Pixel sizes range from {min(sizes):.3g} to {max(sizes):.3g} µm, so tissue is shown "
            f"at different magnifications: pass --target_mpp={PAPER_MPP}."
        )
        counts = collections.Counter(known.values()).most_common()
        details = tuple(f"{size}: {quantity(number)}" for size, number in counts)
        findings.append(Finding(PROBLEM, "pixel size", message, details))
    return findings


def _tissue(images: ImageSet) -> list[Finding]:
    """Blank fields, and others whose stains cannot be told apart."""
    blank, unstained = {}, {}
    for i in images.measured():
        quality = images.images[i].quality
        if STAIN_STATUS[quality.stain_status] == STAIN_TOO_LITTLE_TISSUE:
            blank[i] = f"{quality.tissue_fraction:.1%} tissue"
        elif quality.stain_status:
            unstained[i] = f"{quality.stain_angle:.1f} degrees between the stains"
    little = (
        f"{{}} with hardly any tissue (below {stain.LEAST_TISSUE:.0%}), for which stain "
        "normalisation uses the reference stains."
    )
    degenerate = (
        "{} in which two stains cannot be told apart, for which normalisation uses the reference "
        "stains. Are they H&E?"
    )
    return [
        *images.finding(PROBLEM, "blank", little, blank),
        *images.finding(PROBLEM, "stain", degenerate, unstained),
    ]


def _with_tissue(images: ImageSet) -> list[int]:
    """Indices of the images with enough tissue to judge their colour and focus."""
    least = stain.LEAST_TISSUE
    return [i for i in images.measured() if images.images[i].quality.tissue_fraction >= least]


def _colours(images: ImageSet) -> list[Finding]:
    """Tissue that does not absorb light as H&E does, or not as the rest of the set does."""
    indices = _with_tissue(images)
    if not indices:
        return []
    shares = np.array([images.images[i].quality.absorbed for i in indices])
    median = np.median(shares, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(shares - median), axis=0), _LEAST_SPREAD)
    other_stain, unlike = {}, {}
    is_far = (np.abs(shares - median) > _FAR * spread).any(axis=1)
    for i, (red, green, blue), far in zip(indices, shares, is_far, strict=True):
        absorbed = f"red, green, blue absorb {red:.0%}, {green:.0%}, {blue:.0%}"
        if green < _LEAST_GREEN or blue > _MOST_BLUE:
            other_stain[i] = absorbed
        elif len(indices) >= _FEW and far:
            of_median = ", ".join(f"{share:.0%}" for share in median)
            unlike[i] = f"{absorbed}; the median image {of_median}"
    not_h_and_e = (
        "{} with colours that are not those of H&E, whose stains absorb green most: grey, another "
        "stain, a colour cast, or swapped channels?"
    )
    outlier = (
        "{} with colours far from the rest of the set: another scanner, stain or white balance?"
    )
    return [
        *images.finding(PROBLEM, "colour", not_h_and_e, other_stain),
        *images.finding(NOTE, "colour", outlier, unlike),
    ]


def _background(images: ImageSet) -> list[Finding]:
    """A background that is tinted or dark."""
    tinted, dark = {}, {}
    for i in images.measured():
        white = images.images[i].quality.white
        colour = ", ".join(f"{value:.0f}" for value in white)
        reason = f"red, green, blue of the brightest pixels: {colour}"
        if max(white) < _DARK:
            dark[i] = reason
        elif max(white) - min(white) > (_PINK_TINT if white[1] == min(white) else _TINT):
            tinted[i] = reason
    cast = "{} with a background that is not white: white balance?"
    return [
        *images.finding(NOTE, "cast", cast, tinted),
        *images.finding(NOTE, "dark", "{} without any bright background: underexposed?", dark),
    ]


def _exposure(images: ImageSet) -> list[Finding]:
    """Tissue that is clipped at an end of the range of grey levels."""
    clipped = {i: images.images[i].quality.clipped for i in images.measured()}
    reasons = {i: f"{x:.0%} of pixels" for i, x in clipped.items() if x > _MOST_CLIPPED}
    message = "{} with channels at 0 or 255 in tissue: over- or underexposed."
    return images.finding(NOTE, "clipped", message, reasons)


def _focus(images: ImageSet) -> list[Finding]:
    """Images that are blurred, compared with the rest; or all of them."""
    blur = {i: images.images[i].quality.blur for i in _with_tissue(images)}
    if not blur:
        return []
    median = float(np.median(list(blur.values())))
    if median > _BLURRED:
        message = (
            f"All images are soft (median blur {median:.2f}; sharp ones have 0.3 to 0.45): out of "
            "focus, or enlarged?"
        )
        return [Finding(NOTE, "blurred", message)]
    least = max(_BLURRED, median + _BLURRED_MORE)
    of_median = f"the median image {median:.2f}"
    reasons = {i: f"blur {value:.2f}, {of_median}" for i, value in blur.items() if value > least}
    return images.finding(NOTE, "blurred", "{} out of focus.", reasons)


def _file_formats(images: ImageSet) -> list[Finding]:
    """Files whose ending is not their format, and images that are converted to RGB."""
    other_format, converted, pages = {}, {}, {}
    for i in images.usable():
        image = images.images[i]
        file_format, mode = image.file_format
        if not file_format.startswith(_FORMATS.get(image.path.suffix.lower(), "")):
            other_format[i] = f"it is {file_format}"
        if file_format.endswith(")"):
            pages[i] = file_format
        if mode in reader.CONVERTED:
            converted[i] = reader.CONVERTED[mode]
    ending = "{} with an ending of another format; they are read all the same."
    not_rgb = "{} not plain RGB: converted when read."
    one_of_several = "{} of several pages, of which one is the image: the others are smaller."
    return [
        *images.finding(NOTE, "pages", one_of_several, pages),
        *images.finding(NOTE, "ending", ending, other_format),
        *images.finding(NOTE, "converted", not_rgb, converted),
    ]


def _groups(images: ImageSet) -> list[Finding]:
    """Groups in several classes, classes in one group, images of unknown group."""
    if images.groups is None:
        return []
    pairs = list(zip(images.labels, images.groups, strict=True))
    classes_of, groups_of = collections.defaultdict(collections.Counter), {}
    for label, group in pairs:
        if label and group:
            classes_of[group][label] += 1
            groups_of.setdefault(label, set()).add(group)
    mixed_groups = {group: counts for group, counts in classes_of.items() if len(counts) > 1}
    findings = []
    if mixed_groups:
        several = f"{quantity(len(mixed_groups), 'group')} of {len(classes_of)}"
        message = f"{several} in several classes; no fold splits a group."
        details = tuple(
            f"{group}: {', '.join(f'{label} {number}' for label, number in sorted(counts.items()))}"
            for group, counts in sorted(mixed_groups.items())
        )
        findings.append(Finding(NOTE, "group", message, details))
    unknown = {i: "no group" for i, group in enumerate(images.groups) if not group}
    message = "{} of unknown group: see --unknown_groups of histojax train."
    findings += images.finding(NOTE, "group", message, unknown)
    for label, groups in sorted(groups_of.items()):
        if len(groups) == 1 and (label, "") not in pairs:
            message = (
                f"All images of class {label} are of one group: where that is held out, training "
                "lacks the class."
            )
            findings.append(Finding(PROBLEM, "group", message))
    return findings
