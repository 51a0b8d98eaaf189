"""The StableHLO that a program is lowered to for a GPU or TPU, on a machine that has neither.

`jax.export` lowers in the same way, and then serialises; here the module is read instead.
"""

import contextlib
import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, Mesh

from histojax import encoders
from histojax.config import Extraction, View
from histojax.encoders import Encoder, Variables
from histojax.extraction import plans, programs
from histojax.extraction.plans import Part, Plan, Workload
from histojax.ops import crops

PLATFORMS = ("cuda", "tpu")
# Of the paper: half of 2048 x 1536 px.
CANVAS = (768, 1024)
VIEW = View(0.5, 400)
# Named scopes of a program, by which an operation is known to be of the network.
_TRUNK = re.compile(r"\btrunk\b")


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of StableHLO.

    Attributes:
      name: without its dialect: `convolution`.
      inputs, outputs: types of tensors: `20x400x400x3xbf16`.
      scopes: the named scopes that it is in.
      attributes: by name.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scopes: str
    attributes: dict[str, str]

    @property
    def is_of_network(self) -> bool:
        """Whether it is of a layer, and not of what comes before or after."""
        return bool(_TRUNK.search(self.scopes))

    @property
    def dtypes(self) -> set[str]:
        """The dtypes of its inputs and outputs."""
        return {kind.rpartition("x")[2] for kind in (*self.inputs, *self.outputs)}


def operations(
    jitted: Callable, *arguments: Any, platform: str, **keywords: Any
) -> list[Operation]:
    """All operations of a jitted function, those of functions and loops that it calls too."""
    traced = jitted.trace(*arguments, **keywords)
    module = traced.lower(lowering_platforms=(platform,)).compiler_ir("stablehlo")
    found = []

    def visit(block: Any) -> None:
        for operation in block.operations:
            op = operation.operation
            dialect, _, name = op.name.partition(".")
            if dialect in ("stablehlo", "chlo"):
                found.append(
                    Operation(
                        name,
                        *(tuple(map(_shape, values)) for values in (op.operands, op.results)),
                        str(op.location),
                        {key: str(op.attributes[key]) for key in op.attributes},
                    )
                )
            for region in op.regions:
                for inner in region.blocks:
                    visit(inner)

    visit(module.body)
    return found


def _shape(value: Any) -> str:
    """`20x400xf32` of a tensor; other types as they are."""
    return str(value.type).removeprefix("tensor<").removesuffix(">")


def variables(encoder: Encoder) -> Variables:
    """The shapes of a folded encoder's variables."""
    image = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    params = jax.eval_shape(encoder.module.init, jax.random.key(0), image)["params"]
    dtype = encoder.module.precision.dtype
    return {"params": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)}


def mesh() -> Mesh:
    """Two devices."""
    return plans.mesh_of(jax.devices()[:2])


@contextlib.contextmanager
def as_for_a_gpu() -> Iterator[None]:
    """Newer versions of jax ask what the GPU is, and call Pallas's Triton backend deprecated."""
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    abstract = AbstractMesh((1,), ("devices",), (AxisType.Explicit,), abstract_device=gpu)
    with jax.sharding.use_abstract_mesh(abstract), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated")
        yield


def protocol(name: str, precision: str, part: Part = Part.EXACT) -> Extraction:
    """The paper's protocol of one encoder and view."""
    mode = "exact" if part is Part.EXACT else "hybrid"
    return Extraction((name,), (VIEW,), weights="random", precision=precision, crop_mode=mode)


def plan(name: str, precision: str, part: Part = Part.EXACT, kernel: bool = False) -> Plan:
    """How an accelerator of two devices would compute a part of the paper's protocol."""
    extraction = protocol(name, precision, part)
    encoder = encoders.ENCODERS[name].folded(precision)
    workload = Workload(encoder, extraction, extraction.views, CANVAS, part)
    per_step = 2 if part is Part.WINDOWS else 2 * extraction.crops
    rows = -(-workload.rows // 2) * 2
    return Plan(workload, mesh(), per_step, rows, kernel)


def arguments(chosen: Plan) -> tuple[Any, ...]:
    """The shapes of what `programs.encode` takes for a plan."""
    shape, key = jax.ShapeDtypeStruct, jax.eval_shape(lambda: crops.image_key(0, ""))
    rows = (chosen.rows, *chosen.workload.row_shape)
    return (
        {view.name: shape(rows, jnp.float32) for view in chosen.workload.views},
        variables(chosen.workload.encoder),
        shape((3, *CANVAS), jnp.float32),
        shape((2,), jnp.int32),
        key,
        shape((), jnp.int32),
    )


def program(chosen: Plan, platform: str) -> list[Operation]:
    """The operations of `programs.encode` for a plan."""
    return operations(programs.encode, *arguments(chosen), plan=chosen, platform=platform)
