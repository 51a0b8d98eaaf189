"""The default of --pooling: XLA, unless a measurement on this kind of device says otherwise."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from histojax import encoders
from histojax.config import ENCODERS, Extraction, Runtime
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, parity, pooling_choice
from histojax.extraction.pooling_choice import REMEMBERED, Times

HERE = jax.devices("cpu")
FASTER, LEVEL, SLOWER = Times(1.03, 1.0), Times(1.01, 1.0), Times(0.9, 1.0)
ALL_FASTER = dict.fromkeys(ENCODERS, FASTER)
DATE = "2026-11-28T10:00:00+00:00"


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"VGG": FASTER, "ResNet": FASTER}, "pallas"),
        ({"VGG": FASTER, "ResNet": LEVEL}, "xla"),
        ({"VGG": FASTER, "ResNet": SLOWER}, "xla"),
        ({}, "xla"),
    ],
)
def test_the_kernel_must_be_faster_for_every_encoder(times, chosen):
    assert pooling_choice.decide(times) == chosen


def test_without_a_measurement_xla_pools(tmp_path, notices):
    resolved = pooling_choice.resolve(Extraction(), Runtime(cache=tmp_path))
    assert resolved == Runtime(cache=tmp_path, pooling="xla")
    assert not notices


def test_a_measurement_changes_the_default_of_its_device_and_is_told_where_it_is_used(
    tmp_path, notices
):
    runtime = Runtime(cache=tmp_path)
    assert pooling_choice.remember(tmp_path, HERE, ALL_FASTER, DATE) == "pallas"
    written = json.loads((tmp_path / REMEMBERED).read_text())
    assert written == {
        f"cpu, jax {jax.__version__}": {
            "pooling": "pallas",
            "times_as_fast_with_pallas": dict.fromkeys(ENCODERS, 1.03),
            "date": DATE,
        }
    }
    assert pooling_choice.resolve(Extraction(), runtime).pooling == "pallas"
    (notice,) = notices
    assert f"on cpu, jax {jax.__version__} (histojax accelerator, {DATE})" in notice
    assert "--pooling=xla does without it" in notice


@pytest.mark.parametrize(
    ("protocol", "asked"), [(Extraction(crop_mode="hybrid"), None), (Extraction(), "xla")]
)
def test_a_measured_default_gives_way(tmp_path, notices, protocol, asked):
    pooling_choice.remember(tmp_path, HERE, ALL_FASTER, DATE)
    runtime = Runtime(cache=tmp_path, pooling=asked)
    assert pooling_choice.resolve(protocol, runtime).pooling == "xla"
    assert not notices


@pytest.mark.parametrize("measured", [("VGG",), ("VGG", "own")])
def test_a_measured_default_is_not_for_an_encoder_that_it_was_not_measured_with_or_signed_taps(
    tmp_path, notices, monkeypatch, measured
):
    vgg = encoders.get("VGG")
    signed = tuple(dataclasses.replace(tap, signed=True) for tap in vgg.outputs)
    outputs = vgg.outputs if "own" not in measured else signed
    own = dataclasses.replace(vgg, name="own", outputs=outputs)
    monkeypatch.setitem(encoders.ENCODERS, "own", own)
    pooling_choice.remember(tmp_path, HERE, dict.fromkeys(measured, FASTER), DATE)
    runtime = Runtime(cache=tmp_path)
    assert pooling_choice.resolve(Extraction(("VGG", "own")), runtime).pooling == "xla"
    assert not notices
    assert pooling_choice.resolve(Extraction(("VGG",)), runtime).pooling == "pallas"


def test_a_later_measurement_takes_the_default_back(tmp_path):
    pooling_choice.remember(tmp_path, HERE, ALL_FASTER, DATE)
    assert pooling_choice.remember(tmp_path, HERE, ALL_FASTER | {"VGG": SLOWER}, DATE) == "xla"
    assert pooling_choice.resolve(Extraction(), Runtime(cache=tmp_path)).pooling == "xla"


@pytest.mark.parametrize("content", ["[]", "{", '{"cpu": 1}'])
def test_a_damaged_cache_says_nothing(tmp_path, content):
    (tmp_path / REMEMBERED).write_text(content)
    assert pooling_choice.recall(tmp_path, HERE) == {}


def test_parity_is_with_a_cpu_in_float32(monkeypatch):
    monkeypatch.setattr(parity, "describe", lambda *arguments: arguments)
    asked = Extraction(precision="bfloat16")
    extraction, *_, runtime = parity.describe_on_cpu(asked, None, {})
    assert extraction == Extraction()
    assert runtime == Runtime(devices=tuple(HERE), pooling="xla")


def test_errors_are_relative_by_tap():
    tap = dataclasses.make_dataclass("Tap", ["layer", "channels"])
    encoder = dataclasses.make_dataclass("Encoder", ["outputs"])([tap("a", 2), tap("b", 3)])
    expected = np.arange(1, 11, dtype=np.float32).reshape(2, 5)
    found = expected.copy()
    found[:, 2:] *= 1.25
    by_tap = parity.by_tap(encoder, found), parity.by_tap(encoder, expected)
    assert {tap: rows.shape for tap, rows in by_tap[0].items()} == {"a": (2, 2), "b": (2, 3)}
    assert parity.errors(*by_tap) == {"a": 0.0, "b": pytest.approx(0.25)}


def test_a_jax_without_pallass_triton_backend_is_one_message(monkeypatch):
    monkeypatch.setattr(loaded_encoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="no longer has: pass --pooling=xla"):
        loaded_encoders.check(Extraction(("VGG",)), "pallas")
