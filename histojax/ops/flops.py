"""What a network must compute and move, layer by layer: counted from its trace, nothing is run."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


@dataclasses.dataclass(frozen=True)
class Layer:
    """The work of a convolution, or of a matrix product in its place.

    Attributes:
      name: of the layer.
      operations: floating-point, a multiply-add counted as two.
      bytes: the least that goes through memory: input and kernel read once, output written once.
      activation_bytes: bytes of input and output, held together while it runs.
    """

    name: str
    operations: int
    bytes: int
    activation_bytes: int

    def seconds(self, operations_per_second: float, bytes_per_second: float) -> float:
        """The least time it can take: arithmetic or memory, whichever is slower."""
        return max(self.operations / operations_per_second, self.bytes / bytes_per_second)


def layers(function: Callable, *arguments: Any) -> tuple[Layer, ...]:
    """The convolutions and matrix products that a function of arrays (or of their shapes) runs, in order."""
    return tuple(convolutions(jax.make_jaxpr(function)(*arguments).jaxpr))


def convolutions(jaxpr: core.Jaxpr) -> Iterator[Layer]:
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            inputs, kernel, output = (each.aval for each in (*equation.invars, *equation.outvars))
            *window, _ = (
                kernel.shape
            )  # Rows, columns, input channels; the output channels come last.
            sizes = [array.size * array.dtype.itemsize for array in (inputs, kernel, output)]
            name = str(equation.source_info.name_stack).rpartition("/")[2]
            yield Layer(name, 2 * output.size * math.prod(window), sum(sizes), sizes[0] + sizes[2])
        for parameter in equation.params.values():
            if hasattr(parameter, "jaxpr"):
                yield from convolutions(parameter.jaxpr)


def total_operations(counted: tuple[Layer, ...]) -> int:
    """Operations of all layers."""
    return sum(layer.operations for layer in counted)


def largest_activations(counted: tuple[Layer, ...]) -> int:
    """Bytes of the layer that holds most."""
    return max(layer.activation_bytes for layer in counted)
