"""Whether descriptors were computed here or are made of features that others computed.

By their manifests, see `manifests`; and what such features are, in words.
"""

from collections.abc import Mapping
from typing import Any

from histojax.errors import InputError


def is_imported(manifest: Mapping[str, Any] | None) -> bool:
    """Whether the descriptors are made of features that others computed: see `imported`."""
    return manifest is not None and "format" in manifest.get("protocol", ())


def are_imported(manifests: Mapping[str, Mapping[str, Any] | None]) -> bool:
    """Whether the descriptors of these configurations were imported, all of them.

    Raises:
      InputError: some were, and others were computed here: an ensemble is of one kind.
    """
    kinds = {name: is_imported(made) for name, made in manifests.items()}
    if len({*kinds.values()}) < 2:
        return any(kinds.values())
    imported, computed = (
        ", ".join(name for name, kind in kinds.items() if kind == wanted)
        for wanted in (True, False)
    )
    raise InputError(
        f"the descriptors of {imported} were imported, those of {computed} were computed here: "
        "one ensemble cannot have both. Train one on each, with --configurations, and average "
        "them by histojax compare --blend"
    )


def features_text(manifest: Mapping[str, Any]) -> str:
    """What imported features are: `uni_v1 (TRIDENT, 20x, 256 px tiles)`."""
    protocol = manifest["protocol"]
    magnification, side, mpp = (protocol.get(key) for key in ("magnification", "patch_px", "mpp"))
    facts = [
        protocol["format"] if protocol["format"] != "arrays" else "",
        f"{magnification:g}x" if magnification else "",
        f"{side} px tiles" if side else "",
        f"{mpp:g} um/px" if mpp else "",
        "slide level" if protocol["level"] == "slide" else "",
    ]
    known = ", ".join(filter(None, facts))
    return protocol["encoder"] + (f" ({known})" if known else "")


def pooling_text(manifest: Mapping[str, Any]) -> str:
    """How imported features of tiles became a slide's descriptors."""
    protocol = manifest["protocol"]
    if protocol["pooling"] == "none":
        many = protocol["draws"] > 1
        return f"its {protocol['draws']} feature vectors" if many else "its feature vector"
    norm = f"{protocol['p']:g}-norm" if protocol["pooling"] == "p-norm" else protocol["pooling"]
    if protocol["tiles"] is None:
        return f"the {norm} of all its tiles"
    return f"{protocol['draws']} x the {norm} of {protocol['tiles']} tiles drawn at random"
