"""The vision transformer, whose fields are the columns of the table of foundation models.

images [N, H, W, 3] -> patches [N, H/P * W/P, D] -> tokens [N, T, D]: the class, registers, patches
  -> blocks  x + scale1 attention(norm1 x),  x + scale2 mlp(norm2 x)  -> norm

After Dosovitskiy et al. 2021 (arXiv 2010.11929), with LayerScale (Touvron et al. 2021, 2103.17239),
SwiGLU (Shazeer 2020, 2002.05202) and registers (Darcet et al. 2023, 2309.16588) as DINOv2, timm and
Hugging Face's transformers have them. Parameters are float32; see `vit_layers` for precisions.

The blocks are not scanned: XLA compiles 40 of them in seconds, and a scan would copy each block's
kernels before it uses them (docs/performance.md has the figures).
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from histojax.encoders.layers import PreciseNetwork, Weights
from histojax.encoders.vit_layers import Block, dense, norm
from histojax.ops import resize

# Which tokens have a position of their own: with "patches", the class and the registers are put in
# front after the addition; with "class+patches", the registers are put between the two after it.
POSITIONS = ("patches", "class+patches", "class+registers+patches")
# How positions are resampled for images of another size: PyTorch's bicubic `interpolate`, with its
# antialias=True (timm, DINOv2 with registers) or without (Hugging Face's ViT and DINOv2).
RESAMPLINGS = ("antialiased", "plain")


class VisionTransformer(PreciseNetwork):
    """A pre-norm vision transformer, whose tokens come out after the last norm.

    Attributes:
      width: of a token, D.
      depth: number of blocks.
      heads: of attention, D / heads wide each.
      patch: side of a patch, px.
      hidden: width between the products of an MLP; of SwiGLU after its gate, so 4096 for 8192 ->
        4096.
      grid: patches a side that there are positions for, unless the variables have another grid.
      swiglu: the MLP's activation, silu(a) * b of products [a, b] with `hidden` columns each, in
        place of GELU.
      registers: number of register tokens.
      layer_scale: whether a branch is multiplied by a factor of each channel before it is added.
      positions: one of POSITIONS.
      resampling: one of RESAMPLINGS.
      epsilon: of the norms.
    """

    width: int = 384
    depth: int = 12
    heads: int = 6
    patch: int = 16
    hidden: int = 1536
    grid: int = 14
    swiglu: bool = False
    registers: int = 0
    layer_scale: bool = True
    positions: str = "class+patches"
    resampling: str = "antialiased"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """The tokens, and the vectors that descriptors are made of.

        Args:
          images: float [N, H, W, 3], as the input convention has them.

        Returns:
          `tokens` [N, T, D], `class_token` [N, D] and `patch_mean` [N, D], the mean of the patches'
          tokens; all float32.

        Raises:
          ValueError: a side is no multiple of the patch.
        """
        tokens = self._embed(images)
        for i in range(self.depth):
            tokens = Block(
                self.heads,
                self.hidden,
                self.swiglu,
                self.layer_scale,
                self.epsilon,
                self.precision,
                name=f"block{i}",
            )(tokens)
        tokens = norm(self.epsilon, "norm")(tokens)
        return {
            "class_token": tokens[:, 0],
            "patch_mean": jnp.mean(tokens[:, 1 + self.registers :], axis=1),
            "tokens": tokens,
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every variable by flat name; to trace 40 blocks for them takes seconds."""
        width, columns = self.width, 2 * self.hidden if self.swiglu else self.hidden
        norm = {"scale": (width,), "bias": (width,)}
        block = {f"{name}/{leaf}": norm[leaf] for name in ("norm1", "norm2") for leaf in norm}
        products = {
            "attention/qkv": (width, 3 * width),
            "attention/projection": (width, width),
            "mlp/in": (width, columns),
            "mlp/out": (self.hidden, width),
        }
        for name, shape in products.items():
            block |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
        if self.layer_scale:
            block |= {"layer_scale1": (width,), "layer_scale2": (width,)}
        flat = {
            "patch_embedding/kernel": (self.patch, self.patch, 3, width),
            "patch_embedding/bias": (width,),
            "class_token": (1, width),
            "position_embedding": (self.own_positions + self.grid**2, width),
        }
        if self.registers:
            flat["register_tokens"] = (self.registers, width)
        for i in range(self.depth):
            flat |= {f"block{i}/{name}": shape for name, shape in block.items()}
        flat |= {f"norm/{leaf}": shape for leaf, shape in norm.items()}
        return {f"params/{name}": shape for name, shape in flat.items()}

    def takes(self, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
        """Whether a file's array, by our flat name, may stand for one of the expected shape.

        Positions may be of any square grid: they are resampled from what there are.
        """
        if name != "params/position_embedding" or shape[1:] != expected[1:]:
            return shape == expected
        patches = max(0, shape[0] - self.own_positions)
        return 0 < patches == math.isqrt(patches) ** 2

    def _embed(self, images: jax.Array) -> jax.Array:
        """Tokens [N, T, D], float32, with their positions."""
        count, *sides, channels = images.shape
        if any(side % self.patch or not side for side in sides):
            raise ValueError(
                f"the patches are squares of {self.patch} px, so the sides of an image must be "
                f"multiples of {self.patch}, got {sides[0]} x {sides[1]} px"
            )
        rows, columns = (side // self.patch for side in sides)
        kernel, bias = Weights(
            (self.patch, self.patch, channels, self.width), True, name="patch_embedding"
        )()
        # A convolution whose windows do not overlap is one product.
        squares = images.reshape(count, rows, self.patch, columns, self.patch, channels)
        squares = jnp.swapaxes(squares, 2, 3).reshape(count, rows * columns, -1)
        patches = dense(squares, kernel.reshape(-1, self.width), bias, self.precision)
        cls = self._tokens("class_token", 1)
        registers = self._tokens("register_tokens", self.registers)
        prefix, positions = self.own_positions, self._position_embedding()
        places = resample_positions(positions[prefix:], rows, columns, self.resampling)
        front = jnp.concatenate([cls, registers])
        front = front.at[:prefix].add(positions[:prefix])
        front = jnp.broadcast_to(front[None], (count, *front.shape))
        return jnp.concatenate([front, patches + places[None]], axis=1)

    @property
    def own_positions(self) -> int:
        """How many tokens before the patches have a position of their own."""
        own = {"patches": 0, "class+patches": 1, "class+registers+patches": 1 + self.registers}
        return own[self.positions]

    def _position_embedding(self) -> jax.Array:
        """[T', D], of the grid that the variables have."""
        if self.has_variable("params", "position_embedding"):
            return self.get_variable("params", "position_embedding")
        return self._tokens("position_embedding", self.own_positions + self.grid**2)

    def _tokens(self, name: str, count: int) -> jax.Array:
        if not count:
            return jnp.zeros((0, self.width))
        return self.param(name, nn.initializers.normal(1.0), (count, self.width))


def resample_positions(positions: jax.Array, rows: int, columns: int, resampling: str) -> jax.Array:
    """Positions of a square of patches for images of another size, bicubic in float32.

    Args:
      positions: float32 [G * G, D].
      rows, columns: patches of the image.
      resampling: one of RESAMPLINGS.

    Returns:
      float32 [rows * columns, D].
    """
    side = math.isqrt(len(positions))
    if rows == columns == side:
        return positions
    weights = resize.plain_weights
    if resampling == "antialiased":
        weights = functools.partial(resize.antialiased_weights, resize_filter="bicubic")
    grid = positions.reshape(side, side, -1)
    for equation, size in (("oc,rcd->rod", columns), ("or,rcd->ocd", rows)):
        matrix = weights(side, size)
        grid = jnp.einsum(equation, matrix, grid, precision=jax.lax.Precision.HIGHEST)
    return grid.reshape(rows * columns, -1)
