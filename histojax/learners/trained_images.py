"""Which image files an ensemble is fine-tuned on, so that one that changes is noticed and named.

<models>/images.csv    image,sha256: each image, and the SHA-256 of its file, or of a slide's files
"""

import hashlib
from pathlib import Path

from histojax.errors import InputError
from histojax.images import names, slide
from histojax.utils import files

TABLE = "images.csv"
_SHOWN = 5  # Images that a message names.


def digests(images: names.Images) -> dict[str, str]:
    """The SHA-256 of each image's file, by its name."""
    return {name: slide.digest(path) for name, path in images.items()}


def digest_of_all(of_images: dict[str, str]) -> str:
    """One SHA-256 for all images in their order, for a manifest."""
    return hashlib.sha256("".join(of_images.values()).encode()).hexdigest()


def require_unchanged(models: Path, of_images: dict[str, str]) -> None:
    """Compares images with those that the models in a folder were trained on, if it has a record.

    Raises:
      InputError: some have changed; they are named.
    """
    path = models / TABLE
    if not path.exists() or not any(models.rglob("seed*-fold*")):
        return
    recorded = {row["image"]: row["sha256"] for row in files.read_csv(path, ("image", "sha256"))}
    changed = [name for name, digest in of_images.items() if recorded.get(name) != digest]
    if changed:
        rest = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise InputError(
            f"{models} holds models of other images: {', '.join(changed[:_SHOWN])}{rest} changed "
            "since they were trained. Put the earlier files back, name another folder, or remove it"
        )


def record(models: Path, of_images: dict[str, str]) -> None:
    """Writes which images the models in a folder are trained on."""
    files.write_csv(models / TABLE, of_images.items(), ("image", "sha256"))


def require_read(name: str, path: Path, found: str, expected: str) -> None:
    """Raises InputError where the file that was read is not that of which the digest was taken."""
    if found != expected:
        raise InputError(
            f"{path} (image {name}) was replaced while it was in use: put the earlier file back, "
            "or name another folder for models, and run again"
        )
