"""Whether a `FrozenNetwork` does what folding takes its names to mean; nothing is computed.

Folding goes by names: a batch norm `X_bn` follows the convolution `X_conv`. Where that is not so,
the folded network would give other descriptors without an error.
"""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from histojax.encoders.layers import FrozenNetwork

_UNPADDED = ("VALID", ((0, 0), (0, 0)))


def check_calls(
    module: FrozenNetwork,
    variables: Any,
    images: jax.ShapeDtypeStruct,
    first_convolution: str = "",
    padded: bool = True,
) -> None:
    """Traces a network, with each call of `convolve` and `normalize` watched.

    Args:
      module: not folded.
      variables: of the module, or their shapes.
      images: [N, H, W, 3].
      first_convolution: the layer that takes the input convention; empty for none.
      padded: what the row says of that layer.

    Raises:
      ValueError: a batch norm does not follow its convolution, it has another epsilon than the
        class, a map is the input of a batch norm, or the first convolution is another than the row
        says.
    """
    convolved: dict[str, jax.Array] = {}  # By the convolution's name, what it returned.
    normed: dict[str, str] = {}  # The batch norm by its convolution's name.

    def trace(variables: Any, images: jax.Array) -> jax.Array:
        def watch(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
            result = call(*args, **kwargs)
            if context.method_name in ("convolve", "normalize"):
                method = getattr(context.module, context.method_name)
                bound = inspect.signature(method).bind(*args, **kwargs)
                bound.apply_defaults()
                said = bound.arguments
                if context.method_name == "convolve":
                    convolved[said["name"]] = result
                    if said["name"] == first_convolution and not padded:
                        _check_first(said, images)
                else:
                    normed[_check_norm(said, module.epsilon, convolved)] = said["name"]
            return result

        with nn.intercept_methods(watch):
            maps = module.apply(variables, images)
        for convolution, norm in normed.items():
            for layer, returned in maps.items():
                if returned is convolved[convolution]:
                    raise ValueError(
                        f"its map {layer} is what {convolution} returns before the batch norm "
                        f"{norm}, which folding puts into that convolution: return the map after "
                        "it, or make the network a flax.linen.Module, which is not folded"
                    )
        return images

    jax.eval_shape(trace, variables, images)


def _check_norm(said: dict[str, Any], epsilon: float, convolved: dict[str, jax.Array]) -> str:
    """The convolution of a batch norm, once it follows it and has the epsilon of the class."""
    norm = said["name"]
    convolution = f"{norm.removesuffix('_bn')}_conv"
    if convolved.get(convolution) is not said["x"]:
        raise ValueError(
            f"the batch norm {norm} is not applied to what {convolution} returns, into which it "
            "would be folded: rename it, or make the network a flax.linen.Module, which is not "
            "folded"
        )
    if said["epsilon"] != epsilon:
        raise ValueError(
            f"the batch norm {norm} has epsilon {said['epsilon']}, and the class says {epsilon}, "
            "by which it would be folded: all must be the same"
        )
    return convolution


def _check_first(said: dict[str, Any], images: jax.Array) -> None:
    name, padding = said["name"], said["padding"]
    if padding not in _UNPADDED:
        raise ValueError(f"{name} pads, and the row says first_convolution_padded=False")
    if said["x"] is not images:
        raise ValueError(
            f"{name} is not applied to the images as they come, so their convention cannot be "
            "folded into it: leave out first_convolution"
        )
