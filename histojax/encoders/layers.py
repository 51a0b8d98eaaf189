"""Layers shared by the encoders, and Keras's and PyTorch's names of them: channels last.

Pooling is elementwise work on strided slices, which XLA fuses with the layers before it.
"""

import difflib
import functools
import re
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from histojax.encoders import convolutions
from histojax.encoders.convolutions import Padding, convolution, windows
from histojax.encoders.precision import FLOAT32, Precision

# What an encoder's name table maps between: the layers of a Keras weight file, {layer: {array:
# shape}} in the file's order, and the shapes of our variables by flat name.
KerasFile = dict[str, dict[str, tuple[int, ...]]]
Shapes = Mapping[str, tuple[int, ...]]

# The collection of variables that has, by layer, what `convolutions.transform` makes of a kernel.
TRANSFORMED = "transformed"
# The collection that has the kernels of layers with one input side by side, by a name of them all.
JOINED = "joined"


class Weights(nn.Module):
    """The kernel [rows, columns, in, out] and bias [out] of a convolution; zeros for no bias."""

    shape: tuple[int, int, int, int]
    use_bias: bool

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", nn.initializers.he_normal(), self.shape)
        width = self.shape[-1:]
        if self.use_bias:
            return kernel, self.param("bias", nn.initializers.zeros, width)
        return kernel, jnp.zeros(width)


def transform_kernels(params: Mapping[str, Mapping[str, np.ndarray]], precision: Precision) -> dict:
    """The kernels of Winograd's algorithm, as a collection of variables.

    Args:
      params: kernel and bias by layer.
      precision: of the network.

    Returns:
      {"transformed": {layer: of `convolutions.transform`}}; {} where no layer takes it, and where
      JAX has another device than a CPU.
    """
    if jax.default_backend() != "cpu":
        return {}
    kernels = {
        name: convolutions.transform(layer["kernel"], precision) for name, layer in params.items()
    }
    kernels = {name: kernel for name, kernel in kernels.items() if kernel}
    return {TRANSFORMED: kernels} if kernels else {}


def join(arrays: Sequence[jax.Array]) -> jax.Array:
    """Kernels or biases of layers with one input, as of one layer."""
    return jnp.concatenate(arrays, axis=-1)


def join_kernels(
    params: Mapping[str, Mapping[str, jax.Array]], joined: Mapping[str, Sequence[str]]
) -> dict:
    """Kernels that are multiplied by together, as a collection of variables.

    Joined inside a program, they would be copied at each call.

    Args:
      params: kernel and bias by layer.
      joined: layers by a name of them all.

    Returns:
      {"joined": {name: [rows, columns, in, all out]}}; {} where no layers are joined.
    """
    kernels = {
        name: join([params[layer]["kernel"] for layer in together])
        for name, together in joined.items()
    }
    return {JOINED: kernels} if kernels else {}


class PreciseNetwork(nn.Module):
    """A network for inference alone that takes its precision from a field.

    Attributes:
      precision: dtype and precision of multiplications.
    """

    precision: Precision = FLOAT32


class FrozenNetwork(PreciseNetwork):
    """A network with or without its batch norms.

    Attributes:
      folded: without batch norms, which `histojax.encoders.folding` has put into the convolutions.
    """

    folded: bool = False

    def convolve(
        self,
        x: jax.Array,
        features: int,
        kernel: tuple[int, int],
        name: str,
        strides: int = 1,
        padding: Padding = "SAME",
        use_bias: bool = True,
    ) -> jax.Array:
        """A convolution [N, H, W, C] -> [N, H', W', features]."""
        weights = Weights((*kernel, x.shape[-1], features), use_bias or self.folded, name=name)()
        with jax.named_scope(name):
            transformed = self.get_variable(TRANSFORMED, name)
            return convolution(x, *weights, self.precision, strides, padding, transformed)

    def normalize(
        self, x: jax.Array, epsilon: float, name: str, use_scale: bool = True
    ) -> jax.Array:
        """Batch normalisation by the stored statistics; `x` itself where it is folded."""
        if self.folded:
            return x
        norm = nn.BatchNorm(True, epsilon=epsilon, use_scale=use_scale, name=name)
        return norm(x)


def numbered_layers(
    file: KerasFile, shapes: Shapes, convolutions: Sequence[str], norms: Sequence[str]
) -> dict[str, str]:
    """A file's layers that Keras named by class and number to ours, by their order.

    Args:
      file: the file's layers; those called `conv2d`, `conv2d_1` and so on, and
        `batch_normalization`, are taken.
      shapes: of our variables.
      convolutions, norms: our layers in Keras's order. Where the file has too few or too many, they
        are aligned by shape.
    """
    names: dict[str, str] = {}
    for kind, leaf, ours in (
        ("conv2d", "kernel", convolutions),
        ("batch_normalization", "bias", norms),
    ):
        theirs = [name for name in file if re.fullmatch(rf"{kind}(_\d+)?", name)]
        if len(theirs) == len(ours):
            names |= dict(zip(theirs, ours, strict=True))
            continue
        their_shapes = [next(iter(file[name].values())) for name in theirs]
        our_shapes = [shapes[f"params/{name}/{leaf}"] for name in ours]
        matcher = difflib.SequenceMatcher(None, their_shapes, our_shapes, autojunk=False)
        for _, start, end, our_start, our_end in matcher.get_opcodes():
            names |= dict(zip(theirs[start:end], ours[our_start:our_end], strict=False))
    return names


def torch_norm(theirs: str, ours: str) -> Mapping[str, str]:
    """PyTorch's names of a batch norm's arrays to our flat ones."""
    return {
        f"{theirs}.weight": f"params/{ours}/scale",
        f"{theirs}.bias": f"params/{ours}/bias",
        f"{theirs}.running_mean": f"batch_stats/{ours}/mean",
        f"{theirs}.running_var": f"batch_stats/{ours}/var",
    }


def require_size(images: jax.Array, smallest: int, network: str) -> None:
    """Raises ValueError for images too small for the network's last feature map to exist."""
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"{network} needs images of at least {smallest} x {smallest} px, got {height} x {width}"
        )


def average_pool_same(maps: jax.Array, count_padding: bool = False) -> jax.Array:
    """3 x 3 mean at stride 1, summed in float32.

    The mean is over the pixels inside the map; with `count_padding`, as in PyTorch, over nine
    pixels everywhere, those outside being zero.
    """
    height, width = maps.shape[1:3]
    counts = [1 + (np.arange(side) > 0) + (np.arange(side) < side - 1) for side in (height, width)]
    padded = jnp.pad(maps.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    pixels = np.full((height, width), 9) if count_padding else np.outer(*counts)
    divisor = jnp.asarray(pixels[None, :, :, None], jnp.float32)
    return (sum(windows(padded, (3, 3), 1)) / divisor).astype(maps.dtype)


def max_pool(maps: jax.Array, window: int, padding: int = 0) -> jax.Array:
    """Maximum over window x window at stride 2, on maps padded on every side with -infinity."""
    widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(maps, widths, constant_values=-jnp.inf) if padding else maps
    return functools.reduce(jnp.maximum, windows(padded, (window, window), 2))
