"""The benchmark's peers compute what ours does; its script writes figures and refuses plainly."""

import dataclasses
import importlib.util
import json

import jax
import numpy as np
import pytest

from experiments.peers import keras_models, preprocessing_numpy
from histojax import config, encoders
from histojax.datasets import synthetic
from histojax.encoders import weights
from histojax.ops import stain
from tests.running import run

needs_torch = pytest.mark.skipif(
    not importlib.util.find_spec("torch"),
    reason="torch is not installed: it is in requirements-bench.txt alone",
)


def described(name: str, fields) -> tuple[dict, np.ndarray, np.ndarray]:
    """Variables whose norms are not the identity, crops, and our descriptors."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda array: (
            np.asarray(array)
            + rng.uniform(0, 0.3, array.shape).astype(np.float32) * (array.ndim == 1)
        ),
        weights.random(name, 0),
    )
    crops = fields(96, 96)
    return variables, crops, np.asarray(encoders.get(name).descriptors(variables, crops))


def difference(computed: np.ndarray, expected: np.ndarray) -> float:
    assert computed.shape == expected.shape
    assert computed.dtype == np.float32
    return float(np.linalg.norm(computed - expected) / np.linalg.norm(expected))


def test_numpy_preprocessing_agrees_with_ours():
    rgb = synthetic.render("Invasive", 0, 200, 300)
    ours = np.asarray(stain.normalize(rgb))
    assert np.abs(ours.astype(int) - preprocessing_numpy.normalize(rgb)).max() <= 1
    amounts = preprocessing_numpy.stain_amounts(ours)
    for gains in np.array([[0.7, 1.3], [1.3, 0.7], [1.0, 1.0]], np.float32):
        theirs = preprocessing_numpy.augment(amounts, gains, ours.shape)
        assert np.abs(np.asarray(stain.augment(ours, gains)).astype(int) - theirs).max() <= 1


@pytest.mark.slow  # The benchmark below compares VGG.
def test_keras_describes_crops_as_ours_does(fields):
    variables, crops, expected = described("Inception", fields)
    assert (
        difference(keras_models.descriptor("Inception", variables, "float32", crops)(), expected)
        < 1e-4
    )


@needs_torch
@pytest.mark.parametrize("name", config.ENCODERS)
def test_torch_describes_crops_as_ours_does(name, fields):
    from experiments.peers import torch_models

    variables, crops, expected = described(name, fields)
    assert (
        difference(
            torch_models.descriptor(name, variables, "float32", crops, gpu=False)(), expected
        )
        < 1e-4
    )


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers"))),
    reason="torch or transformers is not installed: they are in requirements-bench.txt alone",
)
@pytest.mark.parametrize("name", ["Lunit-S16", "UNI", "UNI2-h", "Virchow2", "Hibou-B"])
def test_transformers_describe_crops_as_ours_does(name, fields, monkeypatch):
    from experiments.peers import hugging_face

    row = encoders.get(name)
    hidden = 88 if row.module.swiglu else 128
    module = row.module.clone(width=32, heads=2, depth=2, hidden=hidden, grid=4)
    taps = tuple(dataclasses.replace(tap, channels=32) for tap in row.outputs)
    small = dataclasses.replace(row, module=module, outputs=taps, native=None)
    monkeypatch.setitem(encoders.ENCODERS, name, small)
    variables = weights.random(name, 0)
    crops = fields(6 * module.patch, 6 * module.patch)
    theirs = hugging_face.descriptor(name, variables, "float32", crops, gpu=False)()
    assert difference(theirs, np.asarray(small.descriptors(variables, crops))) < 1e-5


@needs_torch
def test_torch_refuses_variables_of_another_network():
    from experiments.peers import torch_models

    with pytest.raises(KeyError, match="no layer for"):
        torch_models.load(torch_models.VGG16(), weights.random("ResNet", 0))


def test_the_benchmark_prints_ratios_and_writes_its_figures(tmp_path):
    small = [
        "--encoders=VGG,Inception",
        "--crop_sizes=32,48",
        "--crops=1",
        "--rounds=2",
        "--nopreprocess",
    ]
    done = run("benchmark_peers", *small, f"--out={tmp_path}/peers.json")
    assert done.returncode == 0, done.stderr
    assert "x as fast as keras" in done.stdout
    if not importlib.util.find_spec("torch"):
        assert "torch is left out: No module named 'torch'" in done.stdout
    figures = json.loads((tmp_path / "peers.json").read_text())
    assert figures["machine"]["cores"] >= 1
    assert {"keras", "ours"} <= {row["peer"] for row in figures["encoders"]}
    assert {row["crop_size"] for row in figures["encoders"]} == {32, 48}
    for row in figures["encoders"]:
        assert 0 < row["min_ms"] <= row["median_ms"]
        assert row["difference"] < 1e-4
        assert row["encoder"] == "VGG", "these crops are too small for InceptionV3"
    for size in (32, 48):
        times = {row["peer"]: row for row in figures["encoders"] if row["crop_size"] == size}
        (least, most), (ours_least, ours_most) = (
            (row["min_ms"], 2 * row["median_ms"] - row["min_ms"])
            for row in (times["keras"], times["ours"])
        )
        ratio = times["keras"]["ours_is_times_as_fast"]
        assert 0.99 * least / ours_most < ratio < 1.01 * most / ours_least
        assert times["ours"]["ours_is_times_as_fast"] == 1


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--peers=ours,caffe2",
            "--peers has 'caffe2', expected keras or torch or torch-compile or transformers or "
            "transformers-compile or torchvision or ours",
        ),
        (
            "--encoders=VGG19",
            "--encoders has 'VGG19', expected one of ResNet, Inception, VGG, Lunit-S8",
        ),
        ("--crop_sizes=4x4", "--crop_sizes is '4x4', expected whole numbers"),
        ("--precisions=float8", "--precisions has 'float8', expected float32 or tf32 or bfloat16"),
    ],
)
def test_unknown_names_are_refused_by_one_message(argument, message):
    done = run("benchmark_peers", argument)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
