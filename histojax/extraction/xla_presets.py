"""XLA's flags for GPUs that public recipes set, by preset; none is the default.

They are options of a compilation and not of the process, so programs with and without them can take
turns, and a flag that this version of XLA does not know is an error that can be told. Which pays on
a device, `histojax accelerator` measures; here none was, so none is on unless asked for.
"""

from typing import Any

import jax

from histojax.errors import InputError

PRESETS: dict[str, dict[str, bool]] = {
    "none": {},
    # Convolutions with channels last in float32 and TF32 too, for which XLA before Hopper puts
    # channels first (xla/service/gpu/transforms/layout_assignment.cc; from Hopper on it is the
    # default). Ours have channels last, as the matrix products between them need.
    "nhwc": {"xla_gpu_force_conv_nhwc": True},
    # Matrix products by cuBLAS: AlphaFold 3 (its Dockerfile; compiles faster), MaxText's scripts
    # for GPUs. 1 x 1 convolutions are matrix products here; their bias and ReLU fuse less.
    "cublas": {"xla_gpu_enable_triton_gemm": False},
    # Matrix products by Triton wherever it can: JAX's GPU performance tips.
    "triton": {"xla_gpu_triton_gemm_any": True},
    # Autotuning tries all tilings of those by Triton, and takes far longer: an option of XLA's
    # autotuner that tuned recipes use with the one above.
    "tiling": {"xla_gpu_triton_gemm_any": True, "xla_gpu_exhaustive_tiling_search": True},
    # Not here: the latency-hiding scheduler and what else those recipes set for collectives, since
    # devices exchange nothing while an image is encoded.
}


def compile_with(lowered: Any, preset: str) -> Any:
    """Compiles what `jax.jit(...).lower` gave; InputError where XLA does not know the preset."""
    try:
        return lowered.compile(compiler_options=PRESETS[preset] or None)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        raise InputError(
            f"XLA of jax {jax.__version__} on this device does not know --xla_preset={preset} "
            f"({str(error).strip()}): pass another, of {', '.join(PRESETS)}"
        ) from error
