"""Which descriptors may be in one folder: those that one protocol made, or one import.

Configurations below one root may differ in encoder and view alone.
"""

from pathlib import Path

from histojax.errors import InputError
from histojax.extraction import manifests, store
from histojax.extraction.provenance import is_imported
from histojax.utils import files

# What configurations of one root may differ in; and those of different encoders.
_OWN = (
    "protocol.encoder",
    "protocol.resnet_variant",
    "protocol.scale",
    "protocol.mpp",
    "protocol.crop_size",
)
_OWN_OF_ENCODER = (*_OWN, "protocol.recipe", "weights.", "module:")
# What views in microns have no use for, since they state their own.
_OF_SCALES = ("protocol.target_mpp",)
# What imported configurations of one root may not differ in: how many vectors an image has.
_SHARED_BY_IMPORTED = ("protocol.draws", "protocol.tiles", "protocol.seed")


def claim(root: Path, configuration: str, manifest: manifests.Manifest) -> None:
    """Writes the manifest before descriptors, or refuses to mix them with others there.

    Several processes of one run may do this at once. Two runs of different protocols that start at
    once in an empty folder notice each other only when there are descriptors.

    Raises:
      InputError: see `refuse_mixing`.
    """
    if not refuse_mixing(root, configuration, manifest):
        path = root / configuration / manifests.MANIFEST
        files.write_json(path, manifest | {"versions": manifests.versions()})


def refuse_mixing(root: Path, configuration: str, manifest: manifests.Manifest) -> bool:
    """Whether the configuration has descriptors already, all of which the manifest fits.

    A manifest without descriptors beside it does not count.

    Raises:
      InputError: the folder's descriptors, or those beside it, are of another protocol, other
        weights or other preprocessing numerics (the message lists the differences), or there are
        descriptors without a manifest.
    """
    folder = root / configuration
    # Before the manifests are read: another process writes its manifest first, then descriptors.
    has_descriptors = bool(store.image_names(root, configuration))
    for path in sorted(root.glob(f"*/{manifests.MANIFEST}")):
        if not store.image_names(root, path.parent.name):
            continue
        expected = manifest | {"versions": manifests.versions()}
        recorded = manifests.read(root, path.parent.name)
        if is_imported(recorded) != is_imported(manifest):
            raise InputError(
                f"{path.parent} holds {_kind(recorded)} descriptors: {_kind(manifest)} ones need "
                "a folder of their own"
            )
        lines = manifests.differences(recorded, expected)
        if path.parent != folder and is_imported(manifest):
            lines = [line for line in lines if line.startswith(_SHARED_BY_IMPORTED)]
        elif path.parent != folder:
            same = not any(line.startswith("protocol.encoder") for line in lines)
            own = _OWN if same else _OWN_OF_ENCODER
            if any("mpp" in made["protocol"] for made in (recorded, manifest)):
                own += _OF_SCALES
            lines = [line for line in lines if not line.startswith(own)]
        if lines:
            raise InputError(
                f"{path.parent} holds descriptors of another protocol; name another folder, or "
                "remove it to make them anew:\n" + "\n".join(f"  {line}" for line in lines)
            )
    if has_descriptors and not (folder / manifests.MANIFEST).exists():
        raise InputError(
            f"{folder} holds descriptors without {manifests.MANIFEST}, so of unknown protocol: "
            "name another folder"
        )
    return has_descriptors


def _kind(manifest: manifests.Manifest) -> str:
    return "imported" if is_imported(manifest) else "computed"
