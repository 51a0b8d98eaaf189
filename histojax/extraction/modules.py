"""The modules of users' encoders, as manifests record them: what is said of them, what is the same.

A recorded module is {"reference": what --encoders takes, "file_sha256", "code_sha256"}; see
`encoders.sources.Origin`. A manifest of an encoder of histojax has none.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Manifest = dict[str, Any]


def texts(manifests: Iterable[Manifest | None]) -> list[str]:
    """The modules behind descriptors: `Small is of net.py:ENCODER (SHA-256 1a2b3c4d...)`."""
    recorded = {m["protocol"]["encoder"]: m["module"] for m in manifests if m and "module" in m}
    return [f"{encoder} is of {text(module)}" for encoder, module in recorded.items()]


def text(module: Mapping[str, str]) -> str:
    """What --encoders takes, and the SHA-256 of the file, or of the code where there is no file."""
    sha256 = module["file_sha256"] or module["code_sha256"]
    return f"{module['reference']} (SHA-256 {sha256[:16]}...)"


def same(one: Manifest, other: Manifest) -> bool:
    """Whether the encoders of two manifests are of the same code, or both of histojax itself.

    The same file is the same code, too: the other SHA-256 depends on Python's version.
    """
    recorded, expected = one.get("module", {}), other.get("module", {})
    return recorded == expected or any(
        recorded.get(key) and recorded.get(key) == expected.get(key)
        for key in ("file_sha256", "code_sha256")
    )
