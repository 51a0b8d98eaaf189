"""Feature files as TRIDENT, CLAM and STAMP write them, of made-up features."""

from pathlib import Path

import h5py
import numpy as np

from histojax.features import feature_sets, importing, recipes
from histojax.features.feature_sets import Source
from histojax.features.importing import Imported

# float32 [N, D] of three slides, with 5, 8 and 11 tiles; features have signs.
_RNG = np.random.default_rng(0)
TILES = {f"slide{i}": _RNG.normal(size=(5 + 3 * i, 4)).astype(np.float32) for i in range(3)}
# What `job` holds, and how an import may draw from it.
UNI = Source("uni_v1", "TRIDENT", "tile", 4, magnification=20, patch_px=256, overlap_px=0)
DRAWS = {"draws": 4, "tiles": 3, "seed": 7}


def trident(folder: Path, slide: str, features: np.ndarray, **attributes: float) -> Path:
    """A file of tiles, or of a whole slide where features are [D]; `folder` is that of features."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slide}.h5"
    named = {"name": slide, "savetodir": str(folder)}
    with h5py.File(path, "w") as file:
        _rows(file, "features", features).attrs.update(named)
        if features.ndim > 1:
            stated = {
                "patch_size": 256,
                "patch_size_level0": 512,
                "level0_magnification": 40,
                "target_magnification": 20,
                "overlap": 0,
                "level0_width": 30_000,
                "level0_height": 20_000,
            }
            coords = _rows(file, "coords", _coords(len(features), 512, np.int64))
            coords.attrs.update(named | stated | attributes)
    return path


def clam(folder: Path, slide: str, features: np.ndarray) -> Path:
    """A file below `h5_files` of a folder."""
    path = folder / "h5_files" / f"{slide}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        _rows(file, "features", features)
        _rows(file, "coords", _coords(len(features), 256, np.int32))
    return path


def stamp(folder: Path, slide: str, features: np.ndarray, extractor: str = "virchow2") -> Path:
    """A file of STAMP's, of tiles of 256 um and 224 px."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slide}.h5"
    with h5py.File(path, "w") as file:
        file["feats"] = features
        file["coords"] = _coords(len(features), 256, np.float32)
        file.attrs["stamp_version"] = "2.3.0"
        file.attrs["extractor"] = extractor
        file.attrs["unit"] = "um"
        file.attrs["tile_size_um"] = 256.0
        file.attrs["tile_size_px"] = 224
        file.attrs["feat_type"] = "tile"
    return path


def job(root, features=TILES, encoder="uni_v1", tiles="20x_256px_0px_overlap") -> Path:
    """A TRIDENT job, with the files beside features that it has too."""
    for name, values in features.items():
        trident(root / tiles / f"features_{encoder}", name, values)
    trident(root / tiles / "patches", "slide0_patches", np.zeros((2, 0), np.float32))
    return root


def imported_all(
    paths: list[Path], root: Path, name: str | None = None, **asked: object
) -> list[Imported]:
    """Imports each set of features as the script does, and says what was done."""
    done = []
    for found in feature_sets.find(paths, name):
        recipe, _ = recipes.recipe_for(found, **asked, root=root)
        done.append(importing.import_set(found, root, recipe))
    return done


def _rows(file: h5py.File, name: str, values: np.ndarray) -> h5py.Dataset:
    """A dataset as TRIDENT and CLAM write it: in pieces of one row, which may be appended to."""
    if values.ndim < 2 or 0 in values.shape:
        return file.create_dataset(name, data=values)
    form = {"chunks": (1, *values.shape[1:]), "maxshape": (None, *values.shape[1:])}
    return file.create_dataset(name, data=values, **form)


def _coords(count: int, step: int, dtype: type) -> np.ndarray:
    return (np.stack(np.divmod(np.arange(count), 4), axis=1) * step).astype(dtype)
