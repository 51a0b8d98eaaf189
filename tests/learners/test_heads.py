"""Heads applied by NumPy alone; their damaged files are tested in test_probe.py."""

import numpy as np
import pytest

from histojax.errors import InputError
from histojax.learners import heads


def test_a_folded_head_gives_what_the_program_gave_far_from_zero_too():
    rng = np.random.default_rng(7)
    offset, deviation = np.repeat([0, 1, 3000], 20), rng.uniform(0.5, 2, 60)
    x = (rng.normal(size=(5, 2, 60)) * deviation + offset).astype(np.float32)
    mean, scale = offset.astype(np.float32), (1 / deviation).astype(np.float32)
    layers = [
        (rng.normal(size=(60, 8)), rng.normal(size=8)),
        (rng.normal(size=(8, 4)), rng.normal(size=4)),
    ]
    layers = tuple((k.astype(np.float32), b.astype(np.float32)) for k, b in layers)
    for learner, used in (("linear", layers[:1]), ("hidden", layers)):
        z = (x.astype(np.float64) - mean) * scale
        for i, (kernel, bias) in enumerate(used):
            z = (z if i == 0 else np.maximum(z, 0)) @ kernel + bias
        expected = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(
            heads.score(heads.fold_standardisation(learner, used, mean, scale), x),
            expected,
            atol=2e-3,
        )


def test_a_hidden_layer_of_another_width_than_the_next_is_refused(tmp_path):
    shapes = {"hidden_kernel": (5, 3), "hidden_bias": (3,), "kernel": (4, 2), "bias": (2,)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match="as wide as the one before"):
        heads.parse("hidden", (tmp_path / "a.npz").read_bytes(), "a.npz")
