"""Work per step that is remembered, less of it when memory is short, and processes that meet."""

import dataclasses
import os
from pathlib import Path

import jax
import pytest

from histojax.config import Extraction, View
from histojax.errors import InputError
from histojax.extraction import devices, engine, loaded_encoders, plans
from histojax.extraction.engine import Engine
from tests.running import python

pytestmark = pytest.mark.usefixtures("narrow_vgg")

EXTRACTION = Extraction(("VGG",), (View(1.0, 48),), augmentations=2, crops=8, weights="random")
CANVAS = (96, 128)


@pytest.fixture(scope="module")
def loaded(narrow_vgg):
    return loaded_encoders.fold_encoders(EXTRACTION)["VGG"]


def program(machine: Engine, loaded, extraction=EXTRACTION):
    return machine.program(workload(loaded, extraction), loaded.variables)


def workload(loaded, extraction=EXTRACTION) -> plans.Workload:
    return plans.Workload(loaded.encoder, extraction, extraction.views, CANVAS)


def machine_with(cache: Path, step: int | None = None, kernel: bool = False) -> Engine:
    return Engine(plans.mesh_of(jax.devices()), step, kernel, cache)


def test_what_was_found_is_remembered_and_a_damaged_or_unwritable_memory_is_no_error(
    tmp_path, caplog
):
    assert devices.recall(tmp_path, "a") is None
    devices.remember(tmp_path, "a", 12)
    devices.remember(tmp_path, "b", 3)
    assert (devices.recall(tmp_path, "a"), devices.recall(tmp_path, "b")) == (12, 3)
    for text in ("{", "[1]", '{"a": true}', '{"a": "many"}', '{"a": -4}', '{"a": 0}'):
        (tmp_path / devices.REMEMBERED).write_text(text)
        assert devices.recall(tmp_path, "a") is None
    devices.remember(tmp_path, "a", 5)
    assert devices.recall(tmp_path, "a") == 5
    (tmp_path / "file").write_text("")
    with caplog.at_level("WARNING", logger="absl"):
        devices.remember(tmp_path / "file", "a", 5)
    assert "cannot be written" in caplog.text


def test_the_work_per_step_is_found_once_remembered_and_used_again(loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(engine.MOST_CROPS, "cpu", 2)
    first = program(machine_with(tmp_path), loaded)
    assert first.plan.per_step == 2 * engine.MOST_CROPS["cpu"]
    key = machine_with(tmp_path).memory_key(workload(loaded))
    assert devices.recall(tmp_path, key) == first.plan.per_step
    devices.remember(tmp_path, key, 2)
    assert program(machine_with(tmp_path), loaded).plan.per_step == 2
    assert program(machine_with(tmp_path, step=4), loaded).plan.per_step == 4
    assert devices.recall(tmp_path, key) == 2, "what the user asks for is not remembered"


def test_a_run_of_few_crops_does_not_limit_a_later_one(loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(engine.MOST_CROPS, "cpu", 2)
    few = dataclasses.replace(EXTRACTION, augmentations=1, crops=2)
    key = machine_with(tmp_path).memory_key(workload(loaded))
    assert machine_with(tmp_path).memory_key(workload(loaded, few)) == key
    assert program(machine_with(tmp_path), loaded, few).plan.per_step == 2
    assert devices.recall(tmp_path, key) is None
    assert program(machine_with(tmp_path), loaded).plan.per_step == 4
    assert program(machine_with(tmp_path), loaded, few).plan.per_step == 2
    assert devices.recall(tmp_path, key) == 4


@pytest.mark.parametrize(
    ("size", "augmentations", "crops", "calls", "steps", "per_step"),
    [
        (400, 50, 20, 50, 10, 2),  # One crop of 400 px at a time on each of two cores,
        (192, 50, 20, 50, 5, 4),  # two of 192 px,
        (96, 50, 20, 50, 2, 10),  # and at most eight: 20 as 10 and 10, not 16 and 4.
        (48, 4, 6, 2, 1, 12),  # A call has several augmentations where these are small.
        (48, 7, 6, 4, 1, 12),
        (192, 3, 1, 1, 1, 4),  # Each core takes two of three.
        (96, 1, 33, 1, 3, 12),  # 33 as 11 thrice, to the next even number.
        (48, 6, 4, 2, 1, 12),  # Six augmentations as three and three, not four and two,
        (48, 5, 3, 1, 1, 16),  # and five as five: cores share crops.
    ],
)
def test_cores_share_crops_evenly_in_steps_that_suit_their_size(
    size, augmentations, crops, calls, steps, per_step, loaded, tmp_path
):
    extraction = dataclasses.replace(
        EXTRACTION, views=(View(1.0, size),), augmentations=augmentations, crops=crops
    )
    small = dataclasses.replace(workload(loaded, extraction), canvas=(size, size))
    plan = machine_with(tmp_path)._plan(small, loaded.variables)
    assert (len(plan.starts), plan.per_step) == (calls, per_step)
    assert -(-plan.per_call * crops // plan.per_step) == steps


def test_a_core_takes_one_whole_image_a_call_however_many_may_go_through_at_a_time(
    loaded, tmp_path
):
    hybrid = dataclasses.replace(EXTRACTION, crop_mode="hybrid")
    windows = dataclasses.replace(workload(loaded, hybrid), part=plans.Part.WINDOWS)
    plan = machine_with(tmp_path)._plan(windows, loaded.variables, per_step=8)
    assert (plan.per_call, plan.per_step) == (2, 2)
    assert len(plan.starts) == -(-windows.rows // 2) > 1


def test_a_program_that_needs_more_memory_than_there_is_gets_less_work_a_step(
    loaded, tmp_path, monkeypatch
):
    monkeypatch.setitem(engine.MOST_CROPS, "cpu", 4)
    needed = program(machine_with(tmp_path / "free"), loaded)
    assert needed.plan.per_step == 8
    less = program(machine_with(tmp_path / "two", step=4), loaded).bytes
    monkeypatch.setattr(devices, "memory", lambda used: (needed.bytes + less) // 2)
    # By its own count of the feature maps it would still try eight.
    monkeypatch.setattr(engine.flops, "largest_activations", lambda counted: 1)
    assert program(machine_with(tmp_path / "short"), loaded).plan.per_step == 4
    monkeypatch.setattr(devices, "memory", lambda used: 1)
    with pytest.raises(
        InputError, match="out of memory at 2 crops a step .*lower --crops_per_step"
    ):
        program(machine_with(tmp_path / "none"), loaded)


def test_a_remembered_step_that_no_longer_fits_is_forgotten(loaded, tmp_path, monkeypatch):
    key = machine_with(tmp_path).memory_key(workload(loaded))
    large = program(machine_with(tmp_path / "large", step=8), loaded).bytes
    small = program(machine_with(tmp_path / "small", step=4), loaded).bytes
    devices.remember(tmp_path, key, 8)
    monkeypatch.setattr(devices, "memory", lambda used: (large + small) // 2)
    assert program(machine_with(tmp_path), loaded).plan.per_step == 4
    assert devices.recall(tmp_path, key) == 4


def test_running_out_of_memory_on_trial_halves_the_step(loaded, tmp_path, monkeypatch):
    tried = []

    class Compiled:
        def memory_analysis(self):
            return type("Memory", (), {"temp_size_in_bytes": 0})

        def __call__(self, *arguments):
            if tried[-1] > 16:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return arguments[0]

    def lower(*arguments, plan):
        tried.append(plan.per_step)
        return type("Lowered", (), {"compile": staticmethod(lambda compiler_options: Compiled())})

    monkeypatch.setattr(engine.programs.encode, "lower", lower, raising=False)
    monkeypatch.setattr(Engine, "platform", property(lambda self: "accelerator"))
    extraction = dataclasses.replace(EXTRACTION, augmentations=20)
    found = program(machine_with(tmp_path), loaded, extraction)
    assert found.plan.per_step == 16
    assert tried == [128, 64, 32, 16]
    assert program(machine_with(tmp_path), loaded, extraction).plan.per_step == 16
    assert tried[-1] == 16
    assert len(tried) == 5, "the second run starts with what the first found"


def test_the_fused_kernels_step_is_whole_augmentations_on_each_device(loaded, tmp_path):
    plan = program(machine_with(tmp_path, step=3, kernel=True), loaded).plan
    assert plan.per_step % (2 * EXTRACTION.crops) == 0


def test_each_core_becomes_a_device_unless_told_otherwise():
    code = (
        "from histojax.extraction import devices; devices.split_cpu(); import jax; "
        "print(len(jax.devices()))"
    )
    cores = min(len(os.sched_getaffinity(0)), devices._MOST_CPU_DEVICES)
    for flags, expected in (("", cores), ("--xla_force_host_platform_device_count=3", 3)):
        environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin"}
        done = python("-c", code, environment=environment)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == expected


@pytest.mark.parametrize("coordinator", ["host", "host:", ":12", "host:abc", "a b:1"])
def test_a_coordinator_without_host_or_port_is_refused(coordinator):
    with pytest.raises(InputError, match="expected HOST:PORT"):
        devices.join(coordinator, 2, 1)


def test_processes_that_do_not_come_are_one_message(monkeypatch):
    monkeypatch.setattr(devices, "_MEETING_SECONDS", 3)
    with pytest.raises(InputError, match="did not meet .*Start all of them within 3 s"):
        devices.join("localhost:1", 2, 1)
    with pytest.raises(InputError, match="did not meet .*coordinator_address should be defined"):
        devices.join(None, None, None)
