"""Small sound files of every format that is read, made by the project's writers and the usual ones.

A sample is the content of files by their path in a folder; of one sample, the same bytes each time.
"""

import functools
import io
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import openpyxl
import tifffile
from PIL import Image

from histojax.datasets import kather
from histojax.utils import files
from tests import made_features, slides
from tests.encoders import made_files

Sample = dict[str, bytes]

_ARRAYS = {"a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.float16)}


def of_folder(write: Callable[[Path], object]) -> Sample:
    """The files that are written into a folder; dates in zips are left out."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write(root)
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        made = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    zipped = (".npz", ".xlsx", ".zip", ".pt")
    return {name: undated(data) if name.endswith(zipped) else data for name, data in made.items()}


def undated(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry), entry.compress_type)
    return out.getvalue()


def _pixels(height: int = 40, width: int = 48) -> np.ndarray:
    """Uint8 RGB with both smooth and noisy parts."""
    rng, rows = np.random.default_rng(0), np.linspace(60, 240, height)
    smooth = np.broadcast_to(rows[:, None, None], (height, width, 3)).astype(np.uint8)
    return smooth ^ (
        rng.integers(0, 64, smooth.shape, np.uint8) * (rng.random((1, width, 1)) < 0.5)
    )


@functools.cache
def images() -> dict[str, Sample]:
    """PNG, JPEG, BMP, WebP and TIFFs, by kind."""
    rgb = _pixels()
    image = Image.fromarray(rgb)
    pillow = {
        "png": ("png", image, {}),
        "png-palette": ("png", image.quantize(16), {"transparency": 3}),
        "png-alpha": ("png", image.convert("RGBA"), {}),
        "png-16-bit": ("png", Image.fromarray(rgb[..., 0].astype(np.uint16) * 257), {}),
        "jpeg": ("jpg", image, {"dpi": (101600, 101600)}),
        "jpeg-progressive": ("jpg", image, {"progressive": True, "exif": b"Exif\0\0II*\0"}),
        "bmp": ("bmp", image, {}),
        "webp": ("webp", image, {}),
        "webp-lossless": ("webp", image, {"lossless": True}),
    }
    made = {}
    for kind, (suffix, picture, options) in pillow.items():
        picture.save(out := io.BytesIO(), {"jpg": "JPEG"}.get(suffix, suffix), **options)
        made[kind] = {f"image.{suffix}": out.getvalue()}
    strips = {"rowsperstrip": 16}
    tiles = {"tile": (16, 16)}
    of_tifffile = {
        "tiff": (rgb, {}),
        "tiff-strips": (rgb, strips),
        "tiff-lzw": (rgb, strips | {"compression": "lzw", "predictor": True}),
        "tiff-deflate": (rgb, tiles | {"compression": "zlib"}),
        "tiff-packbits": (rgb, strips | {"compression": "packbits"}),
        "tiff-jpeg": (rgb, tiles | {"compression": "jpeg"}),
        "tiff-planar": (np.moveaxis(rgb, -1, 0), tiles | {"planarconfig": "separate"}),
        "tiff-16-bit": (rgb.astype(np.uint16) * 257, strips),
        "tiff-big": (rgb, strips | {"bigtiff": True}),
        "tiff-big-endian": (rgb, strips | {"byteorder": ">"}),
    }
    for kind, (array, options) in of_tifffile.items():
        given = {"photometric": "rgb", "resolution": (40_000, 40_000), "resolutionunit": 3}
        writer_options = {k: options[k] for k in ("bigtiff", "byteorder") if k in options}
        page_options = {k: v for k, v in options.items() if k not in writer_options}
        with tifffile.TiffWriter(out := io.BytesIO(), **writer_options) as writer:
            writer.write(array, metadata=None, **given, **page_options)
        made[kind] = {"image.tif": out.getvalue()}
    with tifffile.TiffWriter(out := io.BytesIO()) as writer:
        ome = '<OME><Pixels SizeX="48" SizeY="40" PhysicalSizeX="0.5" PhysicalSizeY="0.5"/></OME>'
        writer.write(rgb, subifds=1, photometric="rgb", metadata=None, description=ome)
        writer.write(rgb[::2, ::2], subfiletype=1, photometric="rgb", metadata=None)
    made["tiff-pyramid"] = {"image.tif": out.getvalue()}
    image.quantize(16).save(out := io.BytesIO(), "TIFF", compression="tiff_lzw")
    made["tiff-palette"] = {"image.tif": out.getvalue()}
    return made


@functools.cache
def whole_slides() -> dict[str, Sample]:
    """Slides as scanners write them."""
    levels = slides.pyramid(_pixels(256, 256), 2)
    jpeg = {"compression": "jpeg"}
    written = {
        "aperio": lambda root: slides.aperio(root / "slide.svs", levels),
        "aperio-jpeg": lambda root: slides.aperio(root / "slide.svs", levels, **jpeg),
        "philips": lambda root: slides.philips(root / "slide.tiff", levels),
        "leica": lambda root: slides.leica(root / "slide.scn", levels),
        "ventana": lambda root: slides.ventana(root / "slide.bif", levels),
        "hamamatsu": lambda root: slides.hamamatsu(root / "slide.ndpi", levels),
        "mirax": lambda root: slides.mirax(root / "slide.mrxs", levels),
        "dicom": lambda root: slides.dicom(root, levels),
    }
    return {kind: of_folder(write) for kind, write in written.items()}


@functools.cache
def feature_files() -> dict[str, Sample]:
    """Features of one slide: HDF5 of three programs, .npy, .npz, PyTorch, CSV."""
    tiles = made_features.TILES["slide0"]
    table = "slide,f0,f1,f2,f3\n" + "".join(f"s{i},0.5,1e-3,{i},-2\n" for i in range(5))
    with h5py.File(out := io.BytesIO(), "w") as file:
        options = {"chunks": (2, 4), "compression": "gzip", "shuffle": True}
        file.create_dataset("features", data=tiles, **options)
    fortran = np.asfortranarray(tiles.astype(np.float16))
    return {
        "trident": of_folder(lambda root: made_features.trident(root, "slide", tiles)),
        "clam": of_folder(lambda root: made_features.clam(root, "slide", tiles)),
        "stamp": of_folder(lambda root: made_features.stamp(root, "slide", tiles)),
        "gzip": {"slide.h5": out.getvalue()},
        "npy": of_folder(lambda root: files.write_array(root / "slide.npy", tiles)),
        "npy-fortran": of_folder(lambda root: files.write_array(root / "slide.npy", fortran)),
        "npz": of_folder(lambda root: files.write_arrays(root / "slide.npz", {"features": tiles})),
        "npz-deflated": {"slide.npz": undated(made_files.npz({"features": tiles}, True))},
        "pt": {"slide.pt": undated(made_files.pytorch({"features": tiles}))},
        "csv": {"slides.csv": table.encode()},
    }


@functools.cache
def weight_files() -> dict[str, Sample]:
    """Weights: Keras of two generations, safetensors, .npz, PyTorch."""
    layers = {"conv1": {"kernel": _ARRAYS["a/kernel"], "bias": np.ones(4, np.float32)}}
    kernel = [np.ones((3, 3, 3, 4), np.float32), np.zeros(4, np.float32)]
    state = {"state_dict": {k.replace("/", "."): v for k, v in _ARRAYS.items()}, "epoch": 3}
    keras3 = ({"layers/conv2d": kernel}, {"layers/conv2d": "conv1"})
    return {
        "keras": of_folder(lambda root: made_files.keras(root / "weights.h5", layers)),
        "keras3": of_folder(lambda root: made_files.keras3(root / "weights.h5", *keras3)),
        "safetensors": {"weights.safetensors": made_files.safetensors(_ARRAYS)},
        "npz": {"weights.npz": undated(made_files.npz(_ARRAYS))},
        "pytorch": {"weights.pt": undated(made_files.pytorch(state))},
    }


_TABLES = {
    "commas": "image,label,patient\na.png,benign,P1\nb.png,malignant,P2\nc.png,benign,P3\n"
    "d.png,malignant,P4\n",
    "semicolons": 'sep=;\nBild;Diagnose;Patient\n"a.png";benign;1\nb.png;"mal;1";2\n'
    'c.png;benign;3\nd.png;"mal;1";4\n',
    "tabs": "file\tclass\tcase\na.png\t0\tA\nb.png\t1\tB\nc.png\t0\tC\nd.png\t1\tD\n",
    "predictions": "image,label,p_benign,p_malignant,fold,group\n"
    "a,benign,0.75,0.25,1,P1\nb,malignant,0.5,0.5,2,P2\nc,benign,1,0,1,P3\nd,malignant,0,1,2,\n",
}


@functools.cache
def tables() -> dict[str, Sample]:
    """Tables of labels, groups and predictions, with the images that they name."""
    beside = {f"{name}.png": images()["png"]["image.png"] for name in "abcd"}
    made = {kind: {"table.csv": text.encode()} | beside for kind, text in _TABLES.items()}
    return made | {"workbook": of_folder(_workbook) | beside}


def _workbook(root: Path) -> None:
    book = openpyxl.Workbook()
    for line in _TABLES["commas"].splitlines():
        book.active.append(line.split(","))
    book.active.merge_cells("C2:C3")
    book.create_sheet("legend").append(["text", 1.5])
    book.save(root / "table.xlsx")


PAPER_NAMES = tuple(f"{prefix}{i:03d}" for prefix in ("n", "b", "is", "iv") for i in (1, 2, 3))
PAPER_LABELS = np.arange(12) // 3


@functools.cache
def paper_folds() -> dict[str, Sample]:
    """The authors' split of twelve images, in pickles old and new."""
    made = {}
    for protocol in (0, 2, 4, 5):
        parts = []
        for fold in range(3):
            chosen = {"train": np.arange(12) % 3 != fold, "test": np.arange(12) % 3 == fold}
            names = np.array([f"{name}.npy" for name in PAPER_NAMES], object)
            parts.append({p: {"x": names[of], "y": PAPER_LABELS[of]} for p, of in chosen.items()})
        made[f"protocol-{protocol}"] = {"folds.pkl": pickle.dumps(parts, protocol)}
    return made


@functools.cache
def published_zips() -> dict[str, Sample]:
    """Kather's zip with one tile of each class."""
    tile = images()["tiff"]["image.tif"]
    with zipfile.ZipFile(out := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as made:
        for i, label in enumerate(kather.CLASSES):
            name = f"{i}000_CRC-Prim-HE-01_000.tif_Row_1_Col_151.tif"
            entry = zipfile.ZipInfo(f"Kather_texture_2016_image_tiles_5000/{label}/{name}")
            made.writestr(entry, tile, zipfile.ZIP_DEFLATED)
    return {"kather": {"tiles.zip": out.getvalue()}}
