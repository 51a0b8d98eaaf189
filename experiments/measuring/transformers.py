"""Vision transformers by themselves: crops on the devices to descriptors, batch by batch.

Their peers, PyTorch's attention eager and compiled, are in the item peers.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from histojax import encoders
from histojax.encoders import Encoder, Variables
from histojax.encoders import weights as encoder_weights
from histojax.extraction import plans, profiling
from histojax.ops import flops

from .job import Job
from .results import Measurement, Row

PRECISION = "bfloat16"


def of_transformers(job: Job) -> Iterator[Measurement]:
    """Rates and shares of the peak of each row and batch, the batches of a row in turn."""
    for name, batch in itertools.product(job.sizes.transformers, job.sizes.transformer_batches):
        measure = functools.partial(_rate, job, name, batch)
        yield f"{name} {batch} crops {PRECISION}", measure


@functools.lru_cache(maxsize=1)  # A row's weights are gigabytes.
def _loaded(name: str) -> tuple[Encoder, Variables]:
    """An encoder that takes crops as they are, with random weights on every device."""
    row = dataclasses.replace(encoders.get(name), native=None)
    variables = row.fold_variables(encoder_weights.random(name, 0), PRECISION)
    mesh = plans.mesh_of(jax.local_devices())
    return row.folded(PRECISION), jax.device_put(variables, plans.replicated(mesh))


def _rate(job: Job, name: str, batch: int) -> Row:
    """`batch` crops a device."""
    encoder, variables = _loaded(name)
    mesh, side = plans.mesh_of(jax.local_devices()), encoders.get(name).native.input_size
    spread = PartitionSpec(plans.AXIS)
    program = jax.shard_map(
        encoder.descriptors,
        mesh=mesh,
        in_specs=(PartitionSpec(), spread),
        out_specs=spread,
        check_vma=False,
    )
    crops = jnp.zeros((batch * mesh.size, side, side, 3), jnp.uint8)
    crops = jax.device_put(crops, jax.sharding.NamedSharding(mesh, spread))
    begun = time.perf_counter()
    compiled = jax.jit(program).lower(variables, crops).compile()
    compiling = time.perf_counter() - begun
    seconds = profiling.seconds(compiled, variables, crops)
    operations = flops.total_operations(flops.layers(encoder.descriptors, variables, crops))
    peak = job.results.row("machine", f"peak {PRECISION}")
    memory = compiled.memory_analysis()
    return {
        "encoder": name,
        "precision": PRECISION,
        "crops": batch,
        "crops_per_second": len(crops) / seconds,
        "operations_per_second": operations / seconds,
        "share_of_peak": operations / seconds / peak["operations"],
        "compile_seconds": compiling,
        "weights": memory.argument_size_in_bytes,
        "memory": memory.temp_size_in_bytes,
    }
