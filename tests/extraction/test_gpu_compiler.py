"""What XLA makes of the programs for an H100 and an A100: compiled here, without a GPU.

Needs jax's plugin for CUDA beside jax (pip install 'jax[cuda12]'), and no driver. Kernels are taken
untuned, so this tells what is fused and moved, and not how fast it is.
"""

import importlib.util
import os
import re

import pytest

from tests.running import python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(map(importlib.util.find_spec, ["jax_cuda12_plugin", "jax_cuda13_plugin"])),
        reason="needs jax's plugin for CUDA: pip install 'jax[cuda12]'",
    ),
]

TOPOLOGY = """
import sys
import jax
from jax.experimental import topologies
from histojax.extraction import plans, programs
from tests import lowering

gpu, *rest = sys.argv[1:]
capability, cores, memory = {"A100": (8, 108, 166912), "H100": (9, 132, 232448)}[gpu]
config = f'''
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: {memory + 1024} threads_per_core_limit: 2048 core_count: {cores}
  fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 2000000000000 l2_cache_size: 41943040
  clock_rate_ghz: 1.5 device_memory_size: 84929347584 shared_memory_per_block_optin: {memory}
  cuda_compute_capability {{ major: {capability} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 8 }} device_description_str: "NVIDIA {gpu}"
'''
topology = topologies.get_topology_desc("", "cuda", target_config=config, topology="1x1x1")
"""
PROGRAM = """
name, precision = rest
lowering.mesh = lambda: plans.mesh_of(topology.devices)
plan = lowering.plan(name, precision)
arguments = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=plans.replicated(plan.mesh)),
    lowering.arguments(plan),
)
lowered = programs.encode.trace(*arguments, plan=plan).lower(lowering_platforms=("cuda",))
print(lowered.compile(compiler_options={"xla_gpu_autotune_level": 0}).as_text())
"""


PRODUCT = """
from jax.sharding import SingleDeviceSharding
from histojax.encoders import layers
from histojax.encoders.precision import PRECISIONS

precision, folder = rest
place = SingleDeviceSharding(topology.devices[0])
shapes = [
    jax.ShapeDtypeStruct(shape, "float32", sharding=place)
    for shape in ((8, 50, 50, 256), (1, 1, 256, 64), (64,))
]
layer = jax.jit(lambda *arrays: layers.convolution(*arrays, PRECISIONS[precision]))
options = {"xla_gpu_autotune_level": 0, "xla_dump_to": folder}
layer.trace(*shapes).lower(lowering_platforms=("cuda",)).compile(compiler_options=options)
"""


def run(code: str, *arguments: object) -> str:
    """What the code prints for a GPU."""
    command = "-c", TOPOLOGY + code, *arguments
    done = python(*command, environment=os.environ | {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    ("gpu", "name", "precision", "convolutions"),
    [
        ("H100", "VGG", "bfloat16", (13, 0)),
        ("H100", "ResNet", "bfloat16", (17, 0)),
        ("H100", "Inception", "bfloat16", (52, 2)),
        ("H100", "ResNet", "tf32", (17, 0)),
        ("A100", "ResNet", "bfloat16", (17, 0)),
    ],
)
def test_bias_and_relu_are_in_the_convolution_and_no_map_is_copied(
    gpu, name, precision, convolutions
):
    text = run(PROGRAM, gpu, name, precision)
    fused = text.count('custom_call_target="__cudnn$convBiasActivationForward"')
    assert (fused, text.count('custom_call_target="__cudnn$convForward"')) == convolutions
    # A step is the computation that has the convolutions.
    (step,) = [part for part in text.split("\n\n") if "__cudnn$conv" in part]
    assert not step.startswith("ENTRY")
    moved = re.findall(r"%([\w.-]*(?:transpose|copy)[\w.-]*) = \w+\[([\d,]+)\]", step)
    large = [sides for _, sides in moved if sides.count(",") == 3]
    assert len(large) == 1, "crops, cut and turned"
    assert large[0].split(",")[1:] == ["3", "400", "400"]
    layouts = set(re.findall(r"\(\w+\[[\d,]+\]\{([\d,]+)\}, u8", step))
    assert layouts == {"3,2,1,0"}, "channels are last"


@pytest.mark.parametrize("gpu", ["A100", "H100"])
def test_matrix_products_are_tf32_where_that_was_asked_for_and_only_there(gpu, tmp_path):
    found = {}
    for precision in ("tf32", "float32"):
        run(PRODUCT, gpu, precision, tmp_path / precision)
        assembly = "".join(path.read_text() for path in (tmp_path / precision).glob("*.ptx"))
        found[precision] = len(re.findall(r"mma\S*tf32", assembly))
    assert found["tf32"] > 0 == found["float32"]
