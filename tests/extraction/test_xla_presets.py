"""XLA's flags by preset: known to this XLA, told of where not, and part of what is compiled."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from histojax.config import Runtime, options
from histojax.errors import InputError
from histojax.extraction import plans, xla_presets
from histojax.extraction.engine import Engine
from tests import lowering
from tests.running import run


@pytest.fixture(scope="module")
def lowered():
    return jax.jit(lambda x: x + 1).lower(jnp.ones(3))


def test_every_preset_is_of_flags_that_this_xla_knows(lowered):
    assert options(Runtime)["xla_preset"].choices == tuple(xla_presets.PRESETS)
    for preset in xla_presets.PRESETS:
        assert (xla_presets.compile_with(lowered, preset)(jnp.ones(3)) == 2).all(), preset


def test_a_flag_that_xla_does_not_know_is_one_message(lowered, monkeypatch):
    monkeypatch.setitem(xla_presets.PRESETS, "nhwc", {"xla_gpu_of_the_future": True})
    with pytest.raises(InputError, match="--xla_preset=nhwc .*xla_gpu_of_the_future.*pass another"):
        xla_presets.compile_with(lowered, "nhwc")


def test_crops_per_step_are_remembered_by_preset():
    engine = Engine.of(Runtime(cache=Path(), xla_preset="nhwc"))
    plain = Engine.of(Runtime(cache=Path()))
    workload = lowering.plan("VGG", "float32").workload
    assert engine.memory_key(workload) == plain.memory_key(workload) + ", nhwc"
    assert engine.mesh == plans.mesh_of(jax.local_devices())


def test_flags_of_a_gpu_are_refused_on_a_cpu(paths, tmp_path):
    folders = f"--images={paths[0].parent}", f"--descriptors={tmp_path}"
    done = run("extract", *folders, "--xla_preset=nhwc")
    assert done.returncode == 1
    assert "--xla_preset=nhwc has flags of XLA for GPUs, and JAX uses a cpu here" in done.stderr
