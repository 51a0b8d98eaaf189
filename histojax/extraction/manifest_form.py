"""What the values of a manifest of descriptors may be; see `manifests` for what they mean.

A manifest may lack values, as those of older versions do, but has none of another type: a file that
was damaged, or edited by hand, is refused where it is read, not where a value is used.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from histojax.config import Extraction
from histojax.config.options import options
from histojax.errors import InputError

_NUMBER = (int, float)
_PARTS = ("protocol", "weights", "versions", "module", "crop_error")
_OPTIONS = options(Extraction)
# Values of `protocol` that are no fields of `Extraction`: of computed and of imported descriptors.
_PROTOCOL: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("encoder", "format", "level", "pooling"), (str,)),
    **dict.fromkeys(("crop_size", "hybrid", "channels", "draws"), (int,)),
    **dict.fromkeys(("patch_px", "overlap_px", "tiles"), (int, type(None))),
    **dict.fromkeys(("scale",), _NUMBER),
    **dict.fromkeys(("mpp", "magnification"), (*_NUMBER, type(None))),
    "recipe": (dict,),
}
_POSITIVE = ("crop_size", "scale", "mpp", "magnification", "channels", "draws", "patch_px", "tiles")


def check(manifest: Any, name: str | Path) -> None:
    """Raises InputError where a manifest has values of other types than its keys stand for.

    Args:
      manifest: as it was read; None stands for descriptors without one.
      name: of the file, for the message.
    """
    if manifest is None:
        return
    if problem := _problem(manifest):
        raise InputError(f"{name} is damaged ({problem}): make its folder anew")


def _problem(manifest: Any) -> str:
    """What is wrong with a manifest; empty where nothing is."""
    if not isinstance(manifest, dict):
        return "it is no object"
    for part in _PARTS:
        if not isinstance(manifest.get(part, {}), dict):
            return f"{part} is {manifest[part]!r:.80}, expected an object"
    if missing := [part for part in ("protocol", "weights") if part not in manifest]:
        return f"without {' and '.join(missing)}"
    for key, value in manifest["protocol"].items():
        if not _may_be(key, value):
            return f"{key} is {value!r:.80}"
    for part in ("weights", "versions", "module"):
        for key, value in manifest.get(part, {}).items():
            kinds = (int,) if key == "numerics" else (str,)
            if not _is_of(value, kinds) and value is not None:
                return f"{key} of {part} is {value!r:.80}"
    if not all(isinstance(manifest["weights"].get(key), str) for key in ("source", "sha256")):
        return "" if "format" in manifest["protocol"] else "its weights have no source or sha256"
    measured = manifest.get("crop_error", {"images": 0, "taps": {}})
    return "" if _is_crop_error(measured) else f"crop_error is {measured!r:.80}"


def _may_be(key: str, value: Any) -> bool:
    """Whether a key of a protocol may have a value; keys of other versions may have any."""
    if key in _PROTOCOL:
        if not _is_of(value, _PROTOCOL[key]):
            return False
        return key not in _POSITIVE or value is None or value > 0
    if key not in _OPTIONS:
        return True
    default, option = getattr(Extraction, key), _OPTIONS[key]
    if value is None and key == "p":  # Of pooling without an exponent.
        return True
    kinds = _NUMBER if isinstance(default, float) else (type(default),)
    endless = option.most == math.inf
    return _is_of(value, kinds, endless) and (isinstance(value, str) or option.allows(value))


def _is_of(value: Any, kinds: tuple[type, ...], endless: bool = False) -> bool:
    """Whether a value is of one of these types; a truth value is no number, nor is NaN."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return not isinstance(value, _NUMBER) or endless and value > 0 or abs(value) < 2**53


def _is_crop_error(measured: Mapping[str, Any]) -> bool:
    """Whether something has the form that `crop_errors` writes."""
    taps = measured.get("taps")
    return (
        type(measured.get("images")) is int
        and isinstance(taps, dict)
        and all(
            isinstance(tap, dict)
            and {"largest_error", "mean_error", "between_augmentations"} <= tap.keys()
            and _is_of(tap["largest_error"], _NUMBER)
            and _is_of(tap["mean_error"], _NUMBER)
            and _is_of(tap["between_augmentations"], (*_NUMBER, type(None)))
            for tap in taps.values()
        )
    )
