"""What is still to be extracted: checks of the inputs, and the descriptors that are missing.

No image is decoded here. An image must open, hold every crop, and be the file that its earlier
descriptors were made of.
"""

from pathlib import Path

from histojax.config import Extraction, Runtime, View
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, store
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.images import slide
from histojax.images.names import Images
from histojax.images.padding import read_sizes, scaled_size
from histojax.images.resampling import Resampling

# Encoder and view of descriptors that are missing.
Pairs = list[tuple[str, View]]

_LISTED = 10  # Problems that a message lists.
_TOO_SMALL = "smaller than the"
_SMALLER_CROPS = (
    "Pass --views=auto, which takes crops that fit the images, or smaller --views, or leave small "
    "images out"
)
# --views=auto takes the views that encoders were published with, so it would take the same again.
_SMALLER_CROPS_IN_MICRONS = (
    "Check the pixel size, or pass --views with smaller crops at the same microns per pixel, or "
    "leave small images out"
)


def check_inputs(
    images: Images, extraction: Extraction, mpp: float | None = None, runtime: Runtime = Runtime()
) -> None:
    """Raises InputError where the protocol makes no sense or images do not fit it."""
    loaded_encoders.check(extraction, runtime.pooling)
    in_microns = all(view.mpp for view in extraction.views)
    advice = _SMALLER_CROPS_IN_MICRONS if in_microns else _SMALLER_CROPS
    check_images(images, extraction, mpp, advice)


def check_images(
    images: Images, extraction: Extraction, mpp: float | None, advice: str = ""
) -> None:
    """Raises InputError listing the images that cannot be used.

    These do not open, are smaller than a crop, or, where a view states its pixel size, do not say
    theirs or would be enlarged too much.

    Args:
      images: image files by name.
      extraction: the protocol.
      mpp: microns per pixel of all images; None to take what each file says.
      advice: a sentence on what to do about crops that are too large.
    """
    problems = [
        problem
        for name, path in images.items()
        for problem in _image_problems(name, path, extraction, mpp)
    ]
    if not problems:
        return
    advice = f". {advice}" if advice and any(_TOO_SMALL in problem for problem in problems) else ""
    if len(problems) == 1:
        raise InputError(problems[0] + advice)
    more = len(problems) - _LISTED
    lines = [*problems[:_LISTED], *([f"... and {more} more"] if more > 0 else [])]
    raise InputError("\n  ".join(["images:", *lines]) + advice)


def _image_problems(name: str, path: Path, extraction: Extraction, mpp: float | None) -> list[str]:
    try:
        name.encode()
        sizes = read_sizes([path], extraction, mpp)
    except UnicodeEncodeError:
        return [
            f"{ascii(str(path))} has a name that is not UTF-8, from which its crops could not be "
            "drawn: rename it"
        ]
    except InputError as error:
        return [str(error)]
    problems = []
    for view in extraction.views:
        ((height, width),) = sizes[view.mpp]
        size = scaled_size((height, width), view.scale)
        if min(size) < view.crop_size:
            read = f"{width} x {height} px"
            resampling = Resampling.of(extraction, mpp, view)
            if resampling.target_mpp:
                asked_by = f"by {resampling.asked_by}"
                read += f" ({resampling.factor(path):.3g} of its size, {asked_by})"
            if view.mpp is None:
                read += f", {size[1]} x {size[0]} at scale {view.scale}"
            problems.append(f"{path} is {read}: {_TOO_SMALL} {view.crop_size} px crop")
    return problems


def share_of(images: Images, process: int, processes: int) -> dict[str, Path]:
    """The images that one of several processes extracts, in the order of their names."""
    return {name: images[name] for name in sorted(images)[process::processes]}


def without_file(image: str, encoder_set: EncoderSet, root: Path) -> Pairs:
    """The encoders and views for which an image has no descriptor file."""
    extraction = encoder_set.extraction
    return [
        (name, view)
        for name, view in _view_by_view(encoder_set)
        if not store.is_done(
            root,
            extraction.configuration(name, view),
            image,
            (extraction.augmentations, encoder_set.encoders[name].encoder.width),
        )
    ]


def _view_by_view(encoder_set: EncoderSet) -> Pairs:
    """All encoders and views, the encoders of a view one after the other."""
    views = encoder_set.extraction.views
    return sorted(encoder_set.extraction.pairs, key=lambda pair: views.index(pair[1]))


def missing(
    image: str,
    path: Path,
    encoder_set: EncoderSet,
    mpp: float | None,
    root: Path,
    rows: store.StainQC,
) -> Pairs:
    """The encoders and views to extract from an image: all, if stain_qc.csv does not list it.

    Args:
      image, path: its name and file.
      encoder_set: the protocol and the encoders.
      mpp: microns per pixel of the images; None to take what each file says.
      root: the folder of descriptors.
      rows: of its stain_qc.csv.

    Raises:
      InputError: the image is another file than its descriptors were made of, or a descriptor file
        is damaged or of another shape.
    """
    pairs = without_file(image, encoder_set, root)
    recorded = {row.scale: row.file_sha256 for row in rows.values() if row.image == image}
    if not recorded:
        return _view_by_view(encoder_set)
    digest, extraction = slide.digest(path), encoder_set.extraction
    suffixes = {
        view.mpp is None: Resampling.of(extraction, mpp, view).digest_suffix(path)
        for view in extraction.views
    }
    for resolution, of_row in recorded.items():
        if not of_row.startswith(digest):
            raise InputError(
                f"{path} is not the file that the descriptors of {image!r} in {root} were made of "
                "(its SHA-256 differs): name another folder, or give one of the images another name"
            )
        there = of_row.removeprefix(digest)
        here = _suffix(resolution, there, suffixes)
        if there != here:
            there, here = (suffix[1:] or "none" for suffix in (there, here))
            raise InputError(
                f"{path} is the file that the descriptors of {image!r} in {root} were made of, but "
                f"its pixel size differs: {there} there, {here} now. Pass --mpp as then, or name "
                "another folder"
            )
    return pairs


def _suffix(resolution: str, there: str, suffixes: dict[bool, str]) -> str:
    """What `Resampling.digest_suffix` should have been at a resolution that stain_qc.csv has.

    Args:
      resolution: of a scale or pixel size.
      there: the suffix that it has.
      suffixes: those that the views of the protocol have, by whether they are by scale.
    """
    by_scale = not resolution.endswith("mpp")
    if by_scale in suffixes:
        return suffixes[by_scale]
    (of_others,) = suffixes.values()
    return of_others if of_others and there else there  # One of both may take no pixel size.
