"""Small slides as scanners write them, with known pixels, from tissue that is made up."""

import io
import struct
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image

MPP = 0.25
_TILE = {"tile": (128, 128), "photometric": "rgb"}
_APERIO = "Aperio Image Library v12.0.15\n{0}x{1} [0,0 {0}x{1}] (128x128) J2K/YUV16 Q=70{2}"
# Compressions that Aperio alone has: JPEG 2000 of YCbCr, and of RGB.
JPEG2000 = {"YCbCr": 33003, "RGB": 33005}


def pyramid(rgb: np.ndarray, levels: int = 3) -> list[np.ndarray]:
    """The image, and halves of it by averaging: uint8 [H, W, 3]; sides must divide."""
    found = [rgb]
    for _ in range(levels - 1):
        height, width, _ = found[-1].shape
        blocks = found[-1].reshape(height // 2, 2, width // 2, 2, 3)
        found.append(np.round(blocks.mean(axis=(1, 3))).astype(np.uint8))
    return found


def aperio(path: Path, levels: list[np.ndarray], mpp: float | None = MPP, **options) -> Path:
    """Tiles of every level; options are tifffile's, lossless unless they say otherwise."""
    with tifffile.TiffWriter(path) as writer:
        for i, rgb in enumerate(levels):
            known = f"|AppMag = 40|MPP = {mpp}" if mpp else "|AppMag = 40"
            description = _APERIO.format(rgb.shape[1], rgb.shape[0], known)
            written = {"compression": "zlib"} | _TILE | options
            if options.get("compression") == JPEG2000["YCbCr"]:
                rgb = np.array(Image.fromarray(rgb).convert("YCbCr"))
                written["compressionargs"] = {"mct": False}
            writer.write(
                rgb, description=description, metadata=None, subfiletype=int(i > 0), **written
            )
    return path


def philips(path: Path, levels: list[np.ndarray]) -> Path:
    """Tiles, and the pixel size of each level in XML."""
    spacings = "".join(
        '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">'
        f'"{MPP * 2**i / 1000}" "{MPP * 2**i / 1000}"</Attribute></DataObject>'
        for i in range(len(levels))
    )
    description = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES"><Array><DataObject ObjectType="DPScannedImage">'
        '<Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>'
        f'<Attribute Name="DICOM_PIXEL_SPACING">"{MPP / 1000}" "{MPP / 1000}"</Attribute>'
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE">'
        f"<Array>{spacings}</Array></Attribute></DataObject></Array></Attribute></DataObject>"
    )
    with tifffile.TiffWriter(path) as writer:
        for i, rgb in enumerate(levels):
            text = {"description": description, "software": "Philips DP v1.0"} if i == 0 else {}
            writer.write(rgb, subfiletype=int(i > 0), metadata=None, **text, **_TILE)
    return path


def leica(path: Path, levels: list[np.ndarray], corner: tuple[int, int] = (64, 40)) -> Path:
    """A scanned area at a corner (top, left) of a larger slide, most of which was not scanned."""
    height, width, _ = levels[0].shape
    nm = round(1000 * MPP)
    top, left = (side * nm for side in corner)
    dimensions = "".join(
        f'<dimension sizeX="{rgb.shape[1]}" sizeY="{rgb.shape[0]}" r="{i}" ifd="{i}" />'
        for i, rgb in enumerate(levels)
    )
    description = (
        '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection name="c" '
        f'sizeX="{2 * width * nm}" sizeY="{2 * height * nm}"><image name="i"><scanSettings>'
        "<objectiveSettings><objective>40</objective></objectiveSettings><illuminationSettings>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings>"
        f"</scanSettings><pixels>{dimensions}</pixels><view sizeX="
        f'"{width * nm}" sizeY="{height * nm}" offsetX="{left}" offsetY="{top}" /></image>'
        "</collection></scn>"
    )
    resolution = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for i, rgb in enumerate(levels):
            text = {"description": description} if i == 0 else {}
            writer.write(rgb, metadata=None, **text, **resolution, **_TILE)
    return path


def ventana(path: Path, levels: list[np.ndarray]) -> Path:
    """A label with the scanner's XML, then tiles without overlap."""
    scan = f'<iScan Magnification="40" ScanRes="{MPP}" />'.encode()
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            levels[-1],
            description="Label Image",
            metadata=None,
            photometric="rgb",
            extratags=[(700, 1, len(scan), scan, True)],
        )
        for i, rgb in enumerate(levels):
            description = f"level={i} mag={40 / 2**i:g} quality=95"
            writer.write(rgb, description=description, metadata=None, **_TILE)
    return path


def hamamatsu(path: Path, levels: list[np.ndarray]) -> Path:
    """One JPEG a level, and tags of its own."""
    resolution = {"resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        for i, rgb in enumerate(levels):
            per_cm = 1e4 / MPP / 2**i
            tags = [(65420, 4, 1, 1, True), (65421, 11, 1, 40 / 2**i, True), (65424, 9, 1, 0, True)]
            writer.write(
                rgb,
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                rowsperstrip=rgb.shape[0],
                metadata=None,
                extratags=tags,
                resolution=(per_cm, per_cm),
                **resolution,
            )
    return path


def mirax(path: Path, levels: list[np.ndarray], missing: frozenset = frozenset()) -> Path:
    """PNG tiles in a folder beside the file; the finest level lacks those of these numbers."""
    side, folder, slide_id = 64, path.with_suffix(""), "HISTOJAX"
    folder.mkdir()
    down, across = (-(-size // side) for size in levels[0].shape[:2])
    data, pages = bytearray(), []
    for i, rgb in enumerate(levels):
        entries = []
        for row, column in np.ndindex(-(-down // 2**i), -(-across // 2**i)):
            number = row * 2**i * across + column * 2**i
            if i or number not in missing:
                tile = np.zeros((side, side, 3), np.uint8)
                part = rgb[row * side : (row + 1) * side, column * side : (column + 1) * side]
                tile[: part.shape[0], : part.shape[1]] = part
                png = io.BytesIO()
                Image.fromarray(tile).save(png, "PNG")
                entries += [number, len(data), len(png.getvalue()), 0]
                data += png.getvalue()
        pages.append([len(entries) // 4, 0, *entries])
    (folder / "Data0000.dat").write_bytes(data)
    # The version and the id; pointers to a table of pointers to each level's page, and to nothing.
    start = len("01.02" + slide_id) + 8
    table, heads, ends = [], [], start + 4 * len(pages) + 8 * len(pages)
    for i, page in enumerate(pages):
        table.append(start + 4 * len(pages) + 8 * i)
        heads += [0, ends]
        ends += 4 * len(page)
    numbers = [start, 0, *table, *heads, *(number for page in pages for number in page)]
    index = f"01.02{slide_id}".encode() + struct.pack(f"<{len(numbers)}i", *numbers)
    (folder / "Index.dat").write_bytes(index)
    text = [
        *("[GENERAL]", f"SLIDE_ID={slide_id}", f"IMAGENUMBER_X={across}"),
        *(f"IMAGENUMBER_Y={down}", "OBJECTIVE_MAGNIFICATION=40", "[HIERARCHICAL]"),
        *("INDEXFILE=Index.dat", "HIER_COUNT=1", "NONHIER_COUNT=0"),
        *("HIER_0_NAME=Slide zoom level", f"HIER_0_COUNT={len(levels)}"),
        *(f"HIER_0_VAL_{i}_SECTION=LEVEL_{i}" for i in range(len(levels))),
        *("[DATAFILE]", "FILE_COUNT=1", "FILE_0=Data0000.dat"),
    ]
    for i in range(len(levels)):
        text += [
            *(f"[LEVEL_{i}]", f"IMAGE_CONCAT_FACTOR={int(i > 0)}", "OVERLAP_X=0", "OVERLAP_Y=0"),
            *(f"MICROMETER_PER_PIXEL_{axis}={MPP * 2**i}" for axis in "XY"),
            *("IMAGE_FILL_COLOR_BGR=16777215", "IMAGE_FORMAT=PNG"),
            *(f"DIGITIZER_WIDTH={side}", f"DIGITIZER_HEIGHT={side}"),
        ]
    (folder / "Slidedat.ini").write_text("\n".join(text) + "\n")
    path.write_bytes(b"")
    return path


def dicom(folder: Path, levels: list[np.ndarray], series: str = "1.2.3.4") -> Path:
    """A series: one file of uncompressed tiles a level. Returns the file of the finest."""
    folder.mkdir(exist_ok=True)
    for i, rgb in enumerate(levels):
        _write_dicom(folder / f"{series}-{i}.dcm", rgb, series, i)
    return folder / f"{series}-0.dcm"


def _write_dicom(path: Path, rgb: np.ndarray, series: str, level: int, side: int = 128) -> None:
    height, width, _ = rgb.shape
    down, across = -(-height // side), -(-width // side)
    padded = np.pad(rgb, ((0, down * side - height), (0, across * side - width), (0, 0)))
    tiles = padded.reshape(down, side, across, side, 3).swapaxes(1, 2)
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = f"{series}.{level}"
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID
    file.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    # Another series that this one refers to, as real files do.
    referenced = pydicom.Dataset()
    referenced.SeriesInstanceUID = "9.9.9"
    file.ReferencedSeriesSequence = [referenced]
    file.SeriesInstanceUID = series
    file.DimensionOrganizationType = "TILED_FULL"
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PlanarConfiguration = 3, "RGB", 0
    file.NumberOfFrames = down * across
    file.Rows = file.Columns = side
    file.TotalPixelMatrixRows, file.TotalPixelMatrixColumns = height, width
    file.TotalPixelMatrixFocalPlanes = 1
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    measures = pydicom.Dataset()
    measures.PixelSpacing = [MPP * 2**level / 1000] * 2
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = [measures]
    file.SharedFunctionalGroupsSequence = [shared]
    file.PixelData = tiles.tobytes()
    file.save_as(path, enforce_file_format=True)
