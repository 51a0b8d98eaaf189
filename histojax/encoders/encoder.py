"""What an encoder is: a network with its taps and input convention, and the same one folded.

images [N, H, W, 3]  ->  feature maps  ->  global averages (taps) [N, C]  ->  descriptor [N, D]
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from histojax.encoders import folding, layers
from histojax.encoders.inputs import RAW, InputConvention, NativeView
from histojax.encoders.layers import FrozenNetwork, PreciseNetwork
from histojax.encoders.precision import FLOAT32, PRECISIONS, Precision
from histojax.encoders.sources import Origin, Published, WeightFile
from histojax.encoders.weight_files import layouts
from histojax.encoders.weight_files.layouts import Layout
from histojax.ops import pooling

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Tap:
    """A feature map whose average, or a vector that itself, goes into the descriptor.

    Attributes:
      layer: its name in the module's output.
      channels: its width, C; 0 until `own.register` finds it.
      stride: pixels of the image from one cell of the map to the next, which `own.register` finds
        too; 0 for a vector, and for a map of images of one size, or resized to it.
      multiple: rows and columns beyond a multiple of this are left out of the average. (ResNet-50
        of 2018 had a 7 x 7 average pool here, at stride 7, which dropped incomplete windows.)
      signed: whether it may be negative: then crops are pooled by their mean, since a p-norm loses
        signs.
    """

    layer: str
    channels: int = 0
    stride: int = 0
    multiple: int = 1
    signed: bool = False

    def averaged_cells(self, size: int) -> int:
        """How many of a map's rows, or columns, are averaged."""
        return size // self.multiple * self.multiple

    def average(self, maps: jax.Array) -> jax.Array:
        """[N, H, W, C] to float32 [N, C]; a vector [N, C] is one."""
        if maps.ndim == 2:
            return maps.astype(jnp.float32)
        rows, columns = (self.averaged_cells(side) for side in maps.shape[1:3])
        return pooling.global_average(maps[:, :rows, :columns])


def pool_over_crops(
    descriptors: jax.Array, taps: tuple[Tap, ...], p: float, counted: jax.Array | None = None
) -> jax.Array:
    """One descriptor of several: the p-norm over crops, or of signed taps the mean.

    Args:
      descriptors: float [..., P, D], P crops.
      taps: whose channels are D.
      p: of the p-norm.
      counted: bool [..., P], the crops that count; all by default.

    Returns:
      float32 [..., D]; NaN where a tap that is not said to be signed is negative.
    """
    pooled = pooling.pnorm(descriptors, p, counted)
    pooled = jnp.where(jnp.any(descriptors < 0, axis=-2), jnp.nan, pooled)
    signed = np.repeat([tap.signed for tap in taps], [tap.channels for tap in taps])
    if not signed.any():
        return pooled
    where = None if counted is None else counted[..., None]
    mean = jnp.mean(descriptors.astype(jnp.float32), axis=-2, where=where)
    return jnp.where(signed.reshape(*[1] * (pooled.ndim - 1), -1), mean, pooled)


def _with_kernels(variables: Variables, dtype: Any) -> Variables:
    """The variables, with the kernels of products in another dtype."""

    def cast(path: tuple[Any, ...], array: jax.Array) -> jax.Array:
        return jnp.asarray(array, dtype) if path[-1].key == "kernel" else array

    return jax.tree_util.tree_map_with_path(cast, variables)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A network, its taps and input convention, and where its weights come from.

    Attributes:
      module: flax module, `apply(variables, inputs) -> {layer: [N, H, W, C]}`. A `FrozenNetwork`
        is folded; a `PreciseNetwork` minds its precision; any other stays as it is, and its
        parameters are cast.
      outputs: the taps in the order of the descriptor.
      convention: RGB in 0..255 to the network's input.
      first_convolution: the layer that sees the input, which the convention is folded into; empty
        where it is not folded.
      first_convolution_padded: whether it pads: then the convention's shift cannot be folded into
        it, for the padding would be shifted too.
      last_block: how the names of the layers at the coarsest resolution begin: fine-tuning with
        --blocks=last trains these alone.
      tile: side of the square of a field that heat maps show the network at a time, px at the
        view's scale; a multiple of 32.
      halo: px on each side of a tile whose feature cells are dropped, because they lack what lies
        beyond the tile; a multiple of 32. docs/performance.md has the seams that remain.
      weight_file: where the ImageNet weights are published; None where there are none.
      published: where other weights are published, which users fetch themselves; None where none
        are.
      layouts: how files of weights name the arrays, beside `layouts.ours`.
      origin: the module that it comes from; None for the encoders of histojax.
      precision: of a module that is no `PreciseNetwork`; `folded` sets it.
      native: how it is shown an image; None where it takes crops of any side as they are.
    """

    name: str
    module: nn.Module
    outputs: tuple[Tap, ...]
    convention: InputConvention
    first_convolution: str = ""
    first_convolution_padded: bool = True
    last_block: tuple[str, ...] = ()
    tile: int = 1024
    halo: int = 256
    weight_file: WeightFile | None = None
    layouts: tuple[Layout, ...] = (layouts.KERAS,)
    origin: Origin | None = None
    precision: Precision = FLOAT32
    native: NativeView | None = None
    published: Published | None = None

    @property
    def width(self) -> int:
        """Channels of the descriptor, D."""
        return sum(tap.channels for tap in self.outputs)

    @property
    def recipe(self) -> dict[str, Any] | None:
        """What manifests record of how crops are shown to it and pooled; None without `native`."""
        if self.native is None:
            return None
        divisor = self.convention.divisor
        return {
            "input_size": self.native.input_size,
            "resized": self.native.resized or self.native.input_size,
            "resize_filter": self.native.resize_filter,
            "mean": list(self.convention.mean),
            "divisor": list(divisor) if isinstance(divisor, tuple) else divisor,
            "taps": [tap.layer for tap in self.outputs],
            "pooling": "mean" if all(tap.signed for tap in self.outputs) else "p-norm",
        }

    @property
    def folds(self) -> bool:
        """Whether its batch norms and its input convention can be folded."""
        return isinstance(self.module, FrozenNetwork)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The taps that are no map of places of the image, so that windows cannot be taken."""
        return tuple(tap.layer for tap in self.outputs if not tap.stride)

    def folded(self, precision: str = "float32") -> "Encoder":
        """The encoder for variables of `fold_variables`; ValueError for an unknown precision."""
        if precision not in PRECISIONS:
            raise ValueError(f"no precision {precision!r}; there are {', '.join(PRECISIONS)}")
        if not isinstance(self.module, PreciseNetwork):
            return dataclasses.replace(self, precision=PRECISIONS[precision])
        if not self.folds:
            module = self.module.clone(precision=PRECISIONS[precision])
            return dataclasses.replace(self, module=module)
        convention = self.convention
        if self.first_convolution:
            padded = self.first_convolution_padded
            convention = dataclasses.replace(self.convention, bgr=False) if padded else RAW
        module = self.module.clone(folded=True, precision=PRECISIONS[precision])
        return dataclasses.replace(self, module=module, convention=convention)

    def fold_variables(self, variables: Variables, precision: str = "float32") -> Variables:
        """Variables for `folded(precision)`, with batch norms folded into the convolutions.

        The input convention is folded too, as far as that is exact. Of a network that is not
        folded, the kernels alone are cast.
        """
        if not isinstance(self.module, PreciseNetwork):
            return variables
        dtype = PRECISIONS[precision].dtype
        if not self.folds:
            return _with_kernels(variables, dtype)
        params = folding.fold_batch_norms(variables, getattr(self.module, "epsilon", 0.0))["params"]
        if self.first_convolution:
            first = params[self.first_convolution]
            if self.convention.bgr:
                first = folding.fold_channel_order(first)
            if not self.first_convolution_padded:
                divisor, mean = self.convention.divisor, self.convention.mean
                first = folding.fold_scale_and_shift(first, divisor, mean)
            params[self.first_convolution] = first
        folded = {"params": jax.tree.map(lambda array: jnp.asarray(array, dtype), params)}
        joined = layers.join_kernels(folded["params"], getattr(self.module, "joined", {}))
        return folded | joined | layers.transform_kernels(params, PRECISIONS[precision])

    def maps(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """The feature maps of the taps by layer, [N, H, W, C] in the precision's dtype.

        Args and errors as for `taps`.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"{self.name} takes RGB images [N, H, W, 3], got shape {images.shape}")
        with jax.named_scope("trunk"):
            images = images.astype(jnp.float32)
            inputs = self.convention(self.native.input(images) if self.native else images)
            return self._apply(variables, inputs)

    def _apply(self, variables: Variables, inputs: jax.Array) -> dict[str, jax.Array]:
        if isinstance(self.module, PreciseNetwork):
            return self.module.apply(variables, inputs)
        dtype = self.precision.dtype
        params = jax.tree.map(lambda array: array.astype(dtype), variables.get("params", {}))
        with jax.default_matmul_precision(self.precision.multiply.name.lower()):
            return self.module.apply(variables | {"params": params}, inputs.astype(dtype))

    @functools.partial(jax.jit, static_argnums=0)
    def taps(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """Global averages by layer.

        Args:
          variables: {"params": ..., "batch_stats": ...} as from `histojax.encoders.weights`.
          images: RGB [N, H, W, 3], uint8, or float in 0..255.

        Returns:
          {layer: float32 [N, C]} in the order of the descriptor.

        Raises:
          ValueError: the images are too small for the network, or not RGB.
        """
        maps = self.maps(variables, images)
        with jax.named_scope("taps"):
            return {tap.layer: tap.average(maps[tap.layer]) for tap in self.outputs}

    @functools.partial(jax.jit, static_argnums=0)
    def descriptors(self, variables: Variables, images: jax.Array) -> jax.Array:
        """The taps concatenated: images as in `taps` to float32 [N, D]."""
        return jnp.concatenate(list(self.taps(variables, images).values()), axis=-1)
