"""How far crop mode hybrid is from exact crops, measured on some images of every run.

<root>/<configuration>/crop_errors/<image>.json   of an image: by tap, its first augmentation; and
                                                  the manifest of what was measured
<root>/<configuration>/manifest.json, crop_error  of all images that were measured

Of an image's first augmentation the same crops, in the same colours, are also encoded one by one.
The error of a tap is |hybrid - exact| / |exact|, Euclidean, of the pooled descriptor. Beside it
stands how much two augmentations of the image differ, by the same measure: what training sees as
noise anyway; None where there is one augmentation.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from histojax.config import Extraction
from histojax.extraction import manifests
from histojax.utils import files

FOLDER = "crop_errors"
LARGEST_ERROR = 0.06  # Of a tap of an image; above it a run warns.
_LEAST_CHECKED = 3
_REQUIRED = ("made_with", "taps")


def to_check(names: Iterable[str], share: float) -> frozenset[str]:
    """The images that are measured: a share of all, at least three, evenly among their names."""
    names = sorted(names)
    count = min(len(names), max(_LEAST_CHECKED, math.ceil(share * len(names)))) if share else 0
    return frozenset(names[i * len(names) // count] for i in range(count))


def measure(
    descriptors: np.ndarray, exact: np.ndarray, taps: Mapping[str, int]
) -> dict[str, dict[str, float | None]]:
    """By tap, `error` and `between_augmentations` of one image.

    Args:
      descriptors: of crop mode hybrid, [A, D].
      exact: of the first augmentation, [D].
      taps: channels by layer, in the order of the descriptor.
    """
    measured, start = {}, 0
    for layer, channels in taps.items():
        rows = descriptors[:, start : start + channels].astype(np.float64)
        expected = exact[start : start + channels].astype(np.float64)
        start += channels
        mean = rows.mean(axis=0)
        between = None
        if len(rows) > 1:  # Two draws differ by twice the variance of one.
            variance = np.sum((rows - mean) ** 2) / (len(rows) - 1)
            between = _ratio(math.sqrt(2 * variance), np.linalg.norm(mean))
        error = _ratio(np.linalg.norm(rows[0] - expected), np.linalg.norm(expected))
        measured[layer] = {"error": error, "between_augmentations": between}
    return measured


def _ratio(difference: float, norm: float) -> float:
    """Their quotient, where nothing is no difference of nothing."""
    return float(difference / norm) if norm else float(difference)


def write(
    root: Path,
    configuration: str,
    name: str,
    made_with: manifests.Manifest,
    measured: Mapping[str, Any],
) -> None:
    """Writes what was measured of an image, and of which protocol and weights."""
    path = root / configuration / FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, {"made_with": made_with, "taps": measured})


def summarize(root: Path, configuration: str) -> dict[str, Any] | None:
    """What was measured of a configuration's images, which its manifest gets too; None without any.

    By tap, the error of the worst image, the mean error, and the mean of `between_augmentations`.
    What is left of another protocol, whose descriptors were removed, does not count.
    """
    manifest = manifests.read(root, configuration)
    paths = sorted(files.files_below(root / configuration / FOLDER))
    read = [files.read_json(path, _REQUIRED) for path in paths if path.suffix == ".json"]
    images = [
        image["taps"] for image in read if not manifests.differences(image["made_with"], manifest)
    ]
    if not images:
        return None
    taps = {}
    for layer in images[0]:
        errors = [image[layer]["error"] for image in images]
        between = [image[layer]["between_augmentations"] for image in images]
        taps[layer] = {
            "largest_error": round(max(errors), 5),
            "mean_error": round(float(np.mean(errors)), 5),
            "between_augmentations": None if None in between else round(np.mean(between), 5),
        }
    summary = {"images": len(images), "taps": taps}
    if manifest.get("crop_error") != summary:
        path = root / configuration / manifests.MANIFEST
        files.write_json(path, manifest | {"crop_error": summary})
    return summary


def text(made_with: Iterable[manifests.Manifest | None]) -> str:
    """How far descriptors are from exact crops, as a line; empty where they are exact crops'."""
    hybrid = [made for made in made_with if made and made["protocol"].get("crop_mode") == "hybrid"]
    if not hybrid:
        return ""
    if not all("crop_error" in made for made in hybrid):
        return "crop mode hybrid: how far descriptors are from exact crops was not measured"
    taps = [tap for made in hybrid for tap in made["crop_error"]["taps"].values()]
    # "Within" is rounded up; first off, since 0.07 is 70.00000000000001 thousandths.
    error = math.ceil(round(1000 * max(tap["largest_error"] for tap in taps), 4)) / 10
    between = [tap["between_augmentations"] for tap in taps]
    images = min(made["crop_error"]["images"] for made in hybrid)
    told = (
        f"crop mode hybrid: descriptors within {error:.1f} % of exact crops (the worst tap "
        f"of {images} image{'' if images == 1 else 's'})"
    )
    if None in between:
        return told
    return (
        f"{told}; two augmentations of an image differ by "
        f"{100 * min(between):.1f} to {100 * max(between):.1f} %"
    )


def table(summaries: Mapping[str, dict[str, Any]]) -> str:
    """Lines for a person, by configuration and tap."""
    lines = ["error against exact crops (of the worst image; mean), and between two augmentations:"]
    for configuration, summary in summaries.items():
        images = summary["images"]
        lines.append(f"  {configuration}, {images} image{'' if images == 1 else 's'}:")
        lines += [
            f"    {layer:<14}{tap['largest_error']:7.2%}{tap['mean_error']:8.2%}"
            + (
                "       -"
                if (between := tap["between_augmentations"]) is None
                else f"{between:8.2%}"
            )
            for layer, tap in summary["taps"].items()
        ]
    return "\n".join(lines)


def warn(summaries: Mapping[str, dict[str, Any]], extraction: Extraction) -> None:
    """Warns where descriptors are further from exact ones than LARGEST_ERROR."""
    worst = {
        configuration: max((tap["largest_error"], layer) for layer, tap in summary["taps"].items())
        for configuration, summary in summaries.items()
    }
    far = [name for name, (error, _) in worst.items() if error > LARGEST_ERROR]
    if far:
        name = max(far, key=worst.get)
        error, layer = worst[name]
        logging.warning(
            "descriptors of %s are up to %.1f %% from exact crops (%s), those of %d of %d "
            "configurations more than %.0f %%. To be nearer, extract anew with larger crops "
            "(--views), --gain_low and --gain_high closer together, or more than --gain_nodes=%d; "
            "or, if that does not help, with --crop_mode=exact",
            name,
            100 * error,
            layer,
            len(far),
            len(worst),
            100 * LARGEST_ERROR,
            extraction.gain_nodes,
        )
