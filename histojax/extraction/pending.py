"""What is still to be extracted: checks of the inputs, and the descriptors that are missing.

No image is decoded here. An image must open, hold every crop, and be the file that its earlier
descriptors were made of.
"""

from pathlib import Path

from histojax.config import Extraction, Runtime, View
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, store
from histojax.extraction.loaded_encoders import EncoderSet
from histojax.images.names import Images
from histojax.images.padding import image_digest, scaled_size
from histojax.images.resampling import Resampling

# Encoder and view of descriptors that are missing.
Pairs = list[tuple[str, View]]

_LISTED = 10  # Problems that a message lists.
_TOO_SMALL = "smaller than the"
_SMALLER_CROPS = (
    "Pass --views=auto, which takes crops that fit the images, or smaller --views, or leave small "
    "images out"
)


def check_inputs(
    images: Images, extraction: Extraction, mpp: float | None = None, runtime: Runtime = Runtime()
) -> None:
    """Raises InputError where the protocol makes no sense or images do not fit it."""
    loaded_encoders.check(extraction, runtime.pooling)
    check_images(images, extraction, Resampling(extraction.target_mpp, mpp), _SMALLER_CROPS)


def check_images(
    images: Images, extraction: Extraction, resampling: Resampling, advice: str = ""
) -> None:
    """Raises InputError listing the images that do not open or are smaller than a crop.

    `advice` is a sentence on what to do about crops that are too large.
    """
    problems = [
        problem
        for name, path in images.items()
        for problem in _image_problems(name, path, extraction, resampling)
    ]
    if not problems:
        return
    advice = f". {advice}" if advice and any(_TOO_SMALL in problem for problem in problems) else ""
    if len(problems) == 1:
        raise InputError(problems[0] + advice)
    more = len(problems) - _LISTED
    lines = [*problems[:_LISTED], *([f"... and {more} more"] if more > 0 else [])]
    raise InputError("\n  ".join(["images:", *lines]) + advice)


def _image_problems(
    name: str, path: Path, extraction: Extraction, resampling: Resampling
) -> list[str]:
    try:
        name.encode()
        height, width = resampling.size(path)
    except UnicodeEncodeError:
        return [
            f"{ascii(str(path))} has a name that is not UTF-8, from which its crops could not be "
            "drawn: rename it"
        ]
    except InputError as error:
        return [str(error)]
    problems = []
    for view in extraction.views:
        size = scaled_size((height, width), view.scale)
        if min(size) < view.crop_size:
            resampled = ""
            if resampling.target_mpp:
                resampled = f" ({resampling.factor(path):.3g} of its size, by --target_mpp)"
            problems.append(
                f"{path} is {width} x {height} px{resampled}, {size[1]} x {size[0]} at scale "
                f"{view.scale}: {_TOO_SMALL} {view.crop_size} px crop"
            )
    return problems


def share_of(images: Images, process: int, processes: int) -> dict[str, Path]:
    """The images that one of several processes extracts, in the order of their names."""
    return {name: images[name] for name in sorted(images)[process::processes]}


def without_file(image: str, encoder_set: EncoderSet, root: Path) -> Pairs:
    """The encoders and views for which an image has no descriptor file."""
    extraction = encoder_set.extraction
    return [
        (name, view)
        for view in extraction.views
        for name, loaded in encoder_set.encoders.items()
        if not store.is_done(
            root,
            extraction.configuration(name, view),
            image,
            (extraction.augmentations, loaded.encoder.width),
        )
    ]


def missing(
    image: str,
    path: Path,
    encoder_set: EncoderSet,
    resampling: Resampling,
    root: Path,
    rows: store.StainQC,
) -> Pairs:
    """The encoders and views to extract from an image: all, if stain_qc.csv does not list it.

    Raises:
      InputError: the image is another file than its descriptors were made of, or a descriptor file
        is damaged or of another shape.
    """
    pairs = without_file(image, encoder_set, root)
    recorded = {row.file_sha256 for row in rows.values() if row.image == image}
    if not recorded:
        return [
            (name, view) for view in encoder_set.extraction.views for name in encoder_set.encoders
        ]
    if recorded != {image_digest(path, resampling)}:
        raise InputError(
            f"{path} is not the file that the descriptors of {image!r} in {root} were made of "
            "(SHA-256 or pixel size differs): name another folder, or give one of the images "
            "another name"
        )
    return pairs
