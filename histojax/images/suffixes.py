"""File suffixes of slides, and of images and slides that are not read, with the cause."""

from collections.abc import Iterable
from pathlib import Path

# Slides of scanners, which OpenSlide reads: by ending, who writes them. TIFFs can be slides, too.
SLIDE_SUFFIXES = {
    ".svs": "Aperio",
    ".ndpi": "Hamamatsu",
    ".mrxs": "3DHISTECH",
    ".scn": "Leica",
    ".bif": "Ventana",
    ".czi": "Zeiss",
    ".svslide": "Sakura",
    ".dcm": "DICOM",
}

_SLIDE = "is a slide or microscope's file of a kind that is not read: export it as a tiled TIFF"
_IMAGE = "is an image of a kind that is not read: save it as PNG or TIFF"
_ARCHIVE = "is an archive: unpack it"
_DOWNLOAD = "is an unfinished download: download it again"
_NOT_READ = {
    _SLIDE: (
        *(".vsi", ".isyntax", ".i2syntax", ".vms", ".vmu", ".qptiff", ".afi", ".tmap", ".kfb"),
        *(".sdpc", ".mds", ".lif", ".lof", ".xlef", ".nd2", ".oib", ".oif", ".oir", ".zvi", ".lsm"),
        *(".ims", ".zarr", ".dicom"),
    ),
    _IMAGE: (
        *(".jp2", ".j2k", ".jpx", ".jpf", ".jxl", ".jxr", ".heic", ".heif"),
        *(".avif", ".dib", ".gif", ".apng", ".tga", ".ppm", ".pgm", ".pnm"),
        *(".exr", ".psd", ".xcf", ".svg", ".eps", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
    ),
    _ARCHIVE: (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"),
    _DOWNLOAD: (".part", ".partial", ".crdownload", ".download"),
}
_CAUSES = {suffix: cause for cause, suffixes in _NOT_READ.items() for suffix in suffixes}


def why_not_read(path: Path) -> str | None:
    """Why a file that may be meant as an image is not read, as the rest of a sentence; else None.

    Files of other kinds (tables, texts) are not meant, nor are hidden ones.
    """
    if path.name.startswith("."):
        return None
    if isinstance(path, Path) and not path.suffix and _is_dicom(path):
        return "is a DICOM file whose name does not end in .dcm: rename it"
    return _CAUSES.get(path.suffix.lower())


def not_read(paths: Iterable[Path]) -> dict[Path, str]:
    """The files that may be meant as images but are not read, and why."""
    causes = {path: why_not_read(path) for path in paths}
    return {path: cause for path, cause in causes.items() if cause}


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
