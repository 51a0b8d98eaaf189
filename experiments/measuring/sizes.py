"""What is measured: the paper's sizes, or small ones that a CPU can do."""

import dataclasses

from histojax.config import Extraction, View


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of all items.

    Attributes:
      image: height and width of the images, px.
      views, augmentations, crops, pool_crops: of rates, pooling and images.
      parity_image, parity_view: of parity, where the CPU must keep up; 2 augmentations of 2 crops.
      peer_crops: crops a batch beside the peers, of the first view.
      images: how many are extracted from, end to end.
      precisions: to measure, the most important first.
      transformers, transformer_batches: vision transformers, and crops a device at a time.
    """

    image: tuple[int, int]
    views: tuple[View, ...]
    augmentations: int
    crops: int
    pool_crops: int
    parity_image: tuple[int, int]
    parity_view: View
    peer_crops: int
    images: int
    precisions: tuple[str, ...]
    transformers: tuple[str, ...]
    transformer_batches: tuple[int, ...]

    def extraction(self, mode: str, precision: str, *encoders: str) -> Extraction:
        """The protocol of rates and images."""
        return Extraction(
            encoders,
            self.views,
            self.augmentations,
            self.crops,
            weights="random",
            crop_mode=mode,
            pool_crops=self.pool_crops,
            precision=precision,
        )

    def parity(self, mode: str, precision: str, encoder: str) -> Extraction:
        """The protocol of parity."""
        small = Extraction((encoder,), (self.parity_view,), 2, 2, weights="random", pool_crops=2)
        return dataclasses.replace(small, crop_mode=mode, precision=precision)


PAPER_IMAGE = (1536, 2048)
_PAPER = Extraction()
SIZES = {
    "paper": Sizes(
        PAPER_IMAGE,
        _PAPER.views,
        _PAPER.augmentations,
        _PAPER.crops,
        _PAPER.pool_crops,
        parity_image=(384, 512),
        parity_view=View(0.5, 128),
        peer_crops=64,
        images=20,
        precisions=("bfloat16", "tf32", "float32"),
        transformers=("UNI", "Virchow2", "H-optimus-0"),  # L/16, H/14 and g/14.
        transformer_batches=(64, 256),
    ),
    "small": Sizes(
        (384, 512),
        (View(0.5, 96), View(0.5, 128)),
        augmentations=4,
        crops=4,
        pool_crops=4,
        parity_image=(256, 256),
        parity_view=View(0.5, 96),
        peer_crops=4,
        images=3,
        precisions=("float32", "bfloat16"),
        transformers=("Lunit-S16",),
        transformer_batches=(2,),
    ),
}
