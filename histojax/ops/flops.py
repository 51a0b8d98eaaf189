"""What a network must compute and move, layer by layer: counted from its trace; nothing is run."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


@dataclasses.dataclass(frozen=True)
class Layer:
    """The cost of a convolution, or of a matrix product in its place.

    Attributes:
      name: of the layer.
      operations: floating-point, a multiply-add counted as two.
      bytes: least memory traffic: input and kernel read once, output written once.
      activation_bytes: of input and output, which are in memory together while it runs.
    """

    name: str
    operations: int
    bytes: int
    activation_bytes: int

    def seconds(self, operations_per_second: float, bytes_per_second: float) -> float:
        """The least time it can take: arithmetic or memory, whichever is slower."""
        return max(self.operations / operations_per_second, self.bytes / bytes_per_second)


def layers(function: Callable, *arguments: Any) -> tuple[Layer, ...]:
    """The convolutions and matrix products of a function of arrays (or of shapes), in order."""
    return tuple(_layers(jax.make_jaxpr(function)(*arguments).jaxpr))


def _layers(jaxpr: core.Jaxpr, within: str = "") -> Iterator[Layer]:
    for equation in jaxpr.eqns:
        name = str(equation.source_info.name_stack).rpartition("/")[2] or within
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            arrays = [variable.aval for variable in (*equation.invars, *equation.outvars)]
            inputs, kernel, output = (array.size * array.dtype.itemsize for array in arrays)
            operations = 2 * arrays[2].size * _terms(equation, arrays[1].shape)
            yield Layer(name, operations, inputs + kernel + output, inputs + output)
        for parameter in equation.params.values():
            # Of ways by platform, which compute the same, the last is that of any other platform.
            inner = parameter[-1] if isinstance(parameter, tuple) and parameter else parameter
            if hasattr(inner, "jaxpr"):
                yield from _layers(inner.jaxpr, name)


def _terms(equation: core.JaxprEqn, shape: tuple[int, ...]) -> int:
    """How many products each number of the output adds up; `shape` is the second operand's."""
    if equation.primitive.name == "dot_general":
        (_, contracted), _ = equation.params["dimension_numbers"]
        return math.prod(shape[axis] for axis in contracted)
    return math.prod(shape[:-1])  # A kernel's last axis has the output channels.


def total_operations(counted: tuple[Layer, ...]) -> int:
    """Operations of all layers."""
    return sum(layer.operations for layer in counted)


def largest_activations(counted: tuple[Layer, ...]) -> int:
    """Activation bytes of the layer that has most; 1 where there is none."""
    return max((layer.activation_bytes for layer in counted), default=1)
