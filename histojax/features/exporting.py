"""Descriptors in the files of TRIDENT and CLAM, for programs that read those.

OUT/whole_images/features_<configuration>/<image>.h5         TRIDENT: features [A, D], coords [A, 2]
OUT/whole_images/slide_features_<configuration>/<image>.h5   TRIDENT: features [D], their mean
OUT/<configuration>/h5_files/<image>.h5                      CLAM: features [A, D], coords [A, 2]
OUT/<configuration>/pt_files/<image>.pt                      CLAM: the features as PyTorch's tensor

A row is no tile: it describes the whole image under one stain augmentation or, of imported
descriptors, one draw of its tiles. So the coordinates are all 0, attributes that describe tiles are
left out, and the attribute `rows` says what rows are. Features are float32, as they were.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from histojax.errors import InputError
from histojax.extraction import manifests, store
from histojax.utils import files
from histojax.utils.array_files import pytorch

FORMATS = ("trident", "clam")
_COORDS = {"trident": np.int64, "clam": np.int32}


def export(root: Path, out: Path, form: str, configurations: tuple[str, ...]) -> Iterator[Path]:
    """Writes descriptors in one of `FORMATS`; yields the folder of each configuration.

    Raises:
      InputError: there are no descriptors, or they are damaged.
    """
    for configuration in configurations:
        names = store.image_names(root, configuration)
        if not names:
            raise InputError(f"{root / configuration} has no descriptors: name another folder")
        manifest = manifests.read(root, configuration)
        rows = rows_text(manifest)
        provenance = json.dumps(manifest)
        folder = out / configuration / "h5_files"
        if form == "trident":
            folder = out / "whole_images" / f"features_{configuration}"
        for name in names:
            features = store.read(root, configuration, [name])[0]
            attributes = {"name": name, "rows": rows, "histojax_manifest": provenance}
            coords = np.zeros((len(features), 2), _COORDS[form])
            _write(folder / f"{name}.h5", _hdf5(features, coords, attributes))
            if form == "clam":
                path = folder.with_name("pt_files") / f"{name}.pt"
                _write(path, pytorch.tensor_archive(features))
            else:
                mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
                attributes["rows"] = f"one vector, the mean over the {rows}"
                path = folder.with_name(f"slide_{folder.name}") / f"{name}.h5"
                _write(path, _hdf5(mean, None, attributes))
        yield folder


def rows_text(manifest: manifests.Manifest | None) -> str:
    """What the rows of descriptors are."""
    if manifest is None:
        return "augmentations of the whole image"
    protocol = manifest["protocol"]
    if not manifests.is_imported(manifest):
        return "stain augmentations of the whole image, each pooled over its crops"
    if protocol["pooling"] == "none":
        return "rows of the imported features"
    tiles = (
        "all tiles" if protocol["tiles"] is None else f"random draws of {protocol['tiles']} tiles"
    )
    return f"{tiles} of the slide, pooled by {protocol['pooling']}"


def _hdf5(features: np.ndarray, coords: np.ndarray | None, attributes: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("features", data=features).attrs.update(attributes)
        if coords is not None:
            named = {"name": attributes["name"], "rows": attributes["rows"]}
            file.create_dataset("coords", data=coords).attrs.update(named)
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(content)
