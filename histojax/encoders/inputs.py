"""What a network is shown: crops of a size as its one input, in its own numbers."""

import dataclasses

import jax
import jax.numpy as jnp

from histojax.ops import resize


@dataclasses.dataclass(frozen=True)
class InputConvention:
    """The input of a network: RGB in 0..255, less a mean, over a divisor, in RGB or BGR order.

    The divisor is one for all channels, or of each.
    """

    mean: tuple[float, float, float]
    divisor: float | tuple[float, float, float] = 1.0
    bgr: bool = False

    def __call__(self, rgb: jax.Array) -> jax.Array:
        """float32 RGB [N, H, W, 3] to the network's input."""
        divisor = self.divisor
        if isinstance(divisor, tuple):
            divisor = jnp.array([[[divisor]]], jnp.float32)
        shifted = (rgb - jnp.array([[[self.mean]]], jnp.float32)) / divisor
        return shifted[..., ::-1] if self.bgr else shifted


CAFFE = InputConvention(mean=(123.68, 116.779, 103.939), bgr=True)
MINUS_ONE_TO_ONE = InputConvention(mean=(127.5, 127.5, 127.5), divisor=127.5)
# Torchvision's, for values in 0..1: mean 0.485, 0.456, 0.406; deviation 0.229, 0.224, 0.225.
TORCHVISION = InputConvention(mean=(123.675, 116.28, 103.53), divisor=(58.395, 57.12, 57.375))
RAW = InputConvention(mean=(0.0, 0.0, 0.0))


@dataclasses.dataclass(frozen=True)
class NativeView:
    """How an encoder is shown an image, as it was published: crops, and the network's one input.

    Attributes:
      mpp: microns per pixel of the crops.
      crop_size: side of a crop at that pixel size, px.
      input_size: side of the network's input, px.
      resize_filter: `bilinear` or `bicubic`, with antialiasing: how crops of another side become
        the input.
      resized: side that crops are resized to, px, in whose middle the input lies; 0 where that is
        the input.
    """

    mpp: float
    crop_size: int
    input_size: int
    resize_filter: str
    resized: int = 0

    def input(self, images: jax.Array) -> jax.Array:
        """Square crops of any side as the network's input: [N, S, S, 3] to whole grey levels."""
        images = resize.antialiased(images, self.resized or self.input_size, self.resize_filter)
        first = round((images.shape[1] - self.input_size) / 2)
        middle = slice(first, first + self.input_size)
        return images[:, middle, middle]
