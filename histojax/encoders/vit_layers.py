"""The block of a vision transformer: attention, then an MLP, each on normed tokens [N, T, D].

Products have the precision's dtype and are summed in float32. Softmax, norms, activations and the
sums of the blocks are float32 whatever the precision.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from histojax.encoders.convolutions import product
from histojax.encoders.precision import Precision


class Block(nn.Module):
    """Attention and an MLP, each on normed tokens and added to them: [N, T, D] -> [N, T, D]."""

    heads: int
    hidden: int
    swiglu: bool
    layer_scale: bool
    epsilon: float
    precision: Precision

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        attention = _Attention(self.heads, self.precision, name="attention")
        mlp = _Mlp(self.hidden, self.swiglu, self.precision, name="mlp")
        x += self._scaled("layer_scale1", attention(norm(self.epsilon, "norm1")(x)))
        return x + self._scaled("layer_scale2", mlp(norm(self.epsilon, "norm2")(x)))

    def _scaled(self, name: str, branch: jax.Array) -> jax.Array:
        branch = branch.astype(jnp.float32)
        if not self.layer_scale:
            return branch
        return branch * self.param(name, nn.initializers.ones, branch.shape[-1:])[None, None]


class _Attention(nn.Module):
    """Self-attention of every token to all: [N, T, D] -> [N, T, D]."""

    heads: int
    precision: Precision

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        count, length, width = x.shape
        qkv = _Dense(3 * width, self.precision, name="qkv")(x)
        qkv = qkv.reshape(count, length, 3, self.heads, -1)
        attended = _attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], self.precision)
        return _Dense(width, self.precision, name="projection")(attended.reshape(x.shape))


class _Mlp(nn.Module):
    """Two products with GELU (exact) or SwiGLU between them: [N, T, D] -> [N, T, D]."""

    hidden: int
    swiglu: bool
    precision: Precision

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        columns = 2 * self.hidden if self.swiglu else self.hidden
        y = _Dense(columns, self.precision, name="in")(x).astype(jnp.float32)
        if self.swiglu:
            gate, value = jnp.split(y, 2, axis=-1)
            y = jax.nn.silu(gate) * value
        else:
            y = jax.nn.gelu(y, approximate=False)
        return _Dense(x.shape[-1], self.precision, name="out")(y)


class _Dense(nn.Module):
    """A product with a matrix, and a bias: [N, T, in] -> [N, T, features]."""

    features: int
    precision: Precision

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.he_normal(), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return dense(x, kernel, bias, self.precision)


def norm(epsilon: float, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array, precision: Precision) -> jax.Array:
    """[..., in] times [in, out], and a bias: [..., out] in the precision's dtype.

    Products are summed in float32.
    """
    x, kernel, bias = (array.astype(precision.dtype) for array in (x, kernel, bias))
    bias = bias.reshape(*[1] * (x.ndim - 1), -1)
    if precision.dtype != jnp.bfloat16:
        return product(x, kernel, precision) + bias

    def on_cpu(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        y = product(x, kernel, precision, preferred_element_type=jnp.float32)
        return (y + bias.astype(jnp.float32)).astype(x.dtype)

    def default(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return product(x, kernel, precision) + bias

    return jax.lax.platform_dependent(x, kernel, bias, cpu=on_cpu, default=default)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, precision: Precision) -> jax.Array:
    """softmax(q k' / sqrt(d)) v of [N, T, heads, d] each; the softmax is float32."""
    attention = jax.nn.dot_product_attention

    def by_xla(multiply: jax.lax.Precision) -> Callable[..., jax.Array]:
        def attend(*arrays: jax.Array) -> jax.Array:
            with jax.default_matmul_precision(multiply.name.lower()):
                return attention(*arrays, implementation="xla")

        return attend

    on_cuda = by_xla(precision.multiply)
    if precision.multiply is jax.lax.Precision.HIGH:  # As in `layers`: TF32 is the default alone.
        on_cuda = by_xla(jax.lax.Precision.DEFAULT)
    elif precision.dtype == jnp.bfloat16 and _has_cudnn(q, k, v):
        on_cuda = functools.partial(attention, implementation="cudnn")
    return jax.lax.platform_dependent(q, k, v, cuda=on_cuda, default=by_xla(precision.multiply))


def _has_cudnn(*arrays: jax.Array) -> bool:
    """Whether jax can have cuDNN attend to such arrays; it says so by an error when it traces."""
    try:
        jax.eval_shape(
            functools.partial(jax.nn.dot_product_attention, implementation="cudnn"), *arrays
        )
    except (RuntimeError, NotImplementedError):
        return False
    return True
