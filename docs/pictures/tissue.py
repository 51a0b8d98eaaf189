"""The synthetic tissue that the pictures are of: labelled images, new ones, and faulty ones."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from histojax.datasets import synthetic

_PATIENTS, _OF_PATIENT = 4, 3  # Of each class; images of one patient.


def write_labelled(root: Path) -> None:
    """Writes root/<class>/<patient>/*.png."""
    for label in synthetic.CLASSES:
        for number in range(_PATIENTS * _OF_PATIENT):
            patient = f"{label.lower()}-p{number // _OF_PATIENT + 1}"
            _save(_image(label, number), root / label / patient / f"{patient}-{number + 1:02d}.png")


def write_new(root: Path) -> None:
    """Writes root/*.png: a field on which tissue changes, and an image like the labelled ones."""
    _save(Image.fromarray(_field()), root / "field.png")
    _save(_image("InSitu", 501), root / "tissue.png")


def write_faulty(root: Path) -> None:
    """Writes labelled images, and five more that each have a fault of their own."""
    write_labelled(root)
    # The same image in another class, turned; glass; out of focus; dark.
    turned = _image("InSitu", 3).transpose(Image.Transpose.ROTATE_90)
    _save(turned, root / "Benign" / "benign-p2" / "benign-p2-13.png")
    glass = np.random.default_rng(0).normal(242, 2, (384, 512, 3)).clip(0, 255).astype(np.uint8)
    _save(Image.fromarray(glass), root / "Normal" / "normal-p1" / "normal-p1-13.png")
    blurred = _image("InSitu", 30).filter(ImageFilter.GaussianBlur(5))
    _save(blurred, root / "InSitu" / "insitu-p3" / "insitu-p3-13.png")
    dark = _image("Invasive", 31).point(lambda value: 0.45 * value)
    _save(dark, root / "Invasive" / "invasive-p1" / "invasive-p1-13.png")
    (root / "Normal" / "normal-p2" / "normal-p2-14.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def _image(label: str, number: int) -> Image.Image:
    return Image.fromarray(synthetic.render(label, 7000 + number))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _field(height: int = 768, width: int = 1024) -> np.ndarray:
    """Normal tissue that an invasive tumour has grown into from the right: uint8 [H, W, 3]."""
    rng = np.random.default_rng(2)
    normal, tumour = (
        synthetic.paint_field(rng, name, height, width) for name in ("Normal", "Invasive")
    )
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), 60)
    border = 0.55 + 0.1 * noise / noise.std()
    is_tumour = (np.linspace(0, 1, width)[None] > border).astype(float)
    share = ndimage.gaussian_filter(is_tumour, 5)
    hematoxylin, eosin = (
        share * getattr(tumour, name) + (1 - share) * getattr(normal, name)
        for name in ("hematoxylin", "eosin")
    )
    return synthetic.to_rgb(synthetic.Field(rng, hematoxylin, eosin))
