"""Every tap of the networks as PyTorch has them against PyTorch, by weights in files that it saved.

Where PyTorch is not installed, the first image's taps are compared with those that it gave
(`torch_taps.npz`, written by this file as a script), for weights drawn by NumPy.
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from histojax import encoders
from histojax.encoders import weights

NAMES = ("TorchResNet", "TorchResNetBlock3", "TorchInception", "TorchVGG")
GOLDEN = Path(__file__).with_name("torch_taps.npz")
SIDE = 75, 84  # The smallest that Inception takes, and maps of odd and even sides.
needs_torch = pytest.mark.skipif(
    not importlib.util.find_spec("torch"),
    reason="torch is not installed: it is in requirements-bench.txt alone",
)


def relative(ours, theirs) -> float:
    theirs = np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


def drawn(name: str) -> weights.Flat:
    """Variables as training leaves them, by flat name, the same with every NumPy."""
    flat = {}
    for i, (path, shape) in enumerate(weights.shapes(encoders.get(name)).items()):
        uniform = np.random.Generator(np.random.PCG64([7, i])).random(shape)
        if path.endswith("kernel"):
            values = (2 * uniform - 1) * np.sqrt(6 / np.prod(shape[:-1]))
        elif path.endswith(("scale", "var")):
            values = uniform + 0.5
        else:
            values = 0.2 * uniform - 0.1
        flat[path] = values.astype(np.float32)
    return flat


def with_names_of_torch(name: str, flat: weights.Flat) -> weights.Flat:
    """As PyTorch names and lays them out."""
    encoder = encoders.get(name)
    (layout, *_) = encoder.layouts
    expected = {path: array.shape for path, array in flat.items()}
    from tests.parity import torch_models

    state = torch_models.network(name).state_dict()
    assigned = layout.assign({key: tuple(value.shape) for key, value in state.items()}, expected)
    return {
        theirs: flat[ours].transpose(3, 2, 0, 1) if flat[ours].ndim == 4 else flat[ours]
        for ours, (theirs,) in assigned.sources.items()
    }


@pytest.mark.parametrize(
    "name",
    [n if n != "TorchResNetBlock3" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES],
)
def test_taps_as_extraction_computes_them_are_those_that_pytorch_gave(name):
    encoder = encoders.get(name)
    with np.load(GOLDEN) as golden, jax.default_matmul_precision("highest"):
        folded = encoder.fold_variables(weights.to_variables(drawn(name)))
        taps = encoder.folded().taps(folded, images(*SIDE)[:1])
        for tap, values in taps.items():
            assert relative(values[0], golden[f"{name}/{tap}"]) < 1e-5


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("form", ["state dict", "checkpoint"])
@pytest.mark.parametrize("size", [(96, 101), (224, 224)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_taps_equal_pytorch_for_weights_that_went_through_a_file(name, size, form, tmp_path):
    import torch

    from tests.parity import torch_models

    network = torch_models.network(name)
    state = network.state_dict()
    if form == "checkpoint":
        state = {f"module.{key}": value for key, value in state.items()}
        state = {"epoch": 3, "state_dict": state, "optimizer": {"param_groups": [{"lr": 0.1}]}}
    torch.save(state, tmp_path / "weights.pth")
    variables = weights.load(name, tmp_path / "weights.pth")
    encoder = encoders.get(name)
    expected = torch_models.averages(name, network, images(*size))
    with jax.default_matmul_precision("highest"):
        for row, values in (
            (encoder, variables),
            (encoder.folded(), encoder.fold_variables(variables)),
        ):
            ours = row.taps(values, images(*size))
            for (tap, found), theirs in zip(ours.items(), expected, strict=True):
                error = relative(found, theirs)
                print(f"{name} {tap} {size}: relative error {error:.1e}")
                assert error < 1e-5


def write_golden() -> None:
    """Writes torch_taps.npz, by PyTorch."""
    import torch

    from tests.parity import torch_models

    golden = {}
    for name in NAMES:
        network = torch_models.network(name)
        state = with_names_of_torch(name, drawn(name))
        missing = network.load_state_dict(
            {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in state.items()},
            strict=False,
        ).missing_keys
        assert all(key.startswith(("fc", "classifier", "layer4")) for key in missing), missing
        averages = torch_models.averages(name, network, images(*SIDE)[:1])
        taps = [tap.layer for tap in encoders.get(name).outputs]
        golden |= {f"{name}/{tap}": a[0] for tap, a in zip(taps, averages, strict=True)}
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    write_golden()
