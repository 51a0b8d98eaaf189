"""The precisions an encoder may compute in: a table of dtype and matrix-unit precision by name."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Precision:
    """The dtype of maps and kernels, and the precision requested of the matrix unit.

    On an accelerator XLA by default multiplies float32 in TF32 (GPU) or bfloat16 (TPU). Global
    averages and p-norms are float32 whatever the precision here.
    """

    name: str
    dtype: Any
    multiply: jax.lax.Precision


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float32", jnp.float32, jax.lax.Precision.HIGHEST),
        # TF32 on a GPU since Ampere (see layers), three bfloat16 passes on a TPU, float32 on a CPU.
        Precision("tf32", jnp.float32, jax.lax.Precision.HIGH),
        Precision("bfloat16", jnp.bfloat16, jax.lax.Precision.DEFAULT),
    )
}
FLOAT32 = PRECISIONS["float32"]
