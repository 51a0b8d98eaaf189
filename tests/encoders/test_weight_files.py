"""Files of weights: every format gives the same variables, and what does not fit is listed."""

import re

import h5py
import numpy as np
import pytest

from histojax import encoders
from histojax.encoders import weights
from histojax.errors import InputError
from histojax.learners import finetune_step
from histojax.utils import array_files
from tests import narrow
from tests.encoders import made_files
from tests.encoders.small_encoder import SMALL

TORCH_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


@pytest.fixture(autouse=True)
def narrow_vgg():
    """VGG-16 and TorchVGG with six channels a layer, and an encoder with a batch norm, alone."""
    before = dict(encoders.ENCODERS)
    for name in {*before} - {"VGG", "TorchVGG"}:
        del encoders.ENCODERS[name]
    encoders.ENCODERS["Small"] = SMALL
    with narrow.vgg(deep=True):
        yield
    encoders.ENCODERS.clear()
    encoders.ENCODERS.update(before)  # In the same order.


@pytest.fixture
def flat():
    """The variables of VGG by flat name."""
    variables = weights.to_flat(weights.random("VGG", 3))
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=a.shape).astype("f") if a.ndim == 1 else a
        for name, a in variables.items()
    }


def layers_of(flat) -> dict[str, dict[str, np.ndarray]]:
    layers = {}
    for name, array in flat.items():
        _, layer, leaf = name.split("/")
        layers.setdefault(layer, {})[leaf] = array
    return layers


def as_torch(flat, prefix="features.") -> dict[str, np.ndarray]:
    """By torchvision's names, kernels [out, in, rows, columns]."""
    return {
        f"{prefix}{number}.{'weight' if leaf == 'kernel' else leaf}": array.transpose(3, 2, 0, 1)
        if leaf == "kernel"
        else array
        for number, layer in zip(TORCH_NUMBERS, layers_of(flat).values(), strict=True)
        for leaf, array in layer.items()
    }


TOP = {"classifier.0.weight": np.zeros((4, 6), "f"), "classifier.0.bias": np.zeros(4, "f")}


def of_2015(folder, flat):
    layers = layers_of(flat)
    named = {
        layer: {f"{layer}_{'W' if k == 'kernel' else 'b'}_1:0": v for k, v in arrays.items()}
        for layer, arrays in layers.items()
    }
    return made_files.keras(folder / "old.h5", named)


def of_today(folder, flat, root="/", before="", top=()):
    named = {
        layer: {f"{before}{layer}/{k}:0": v for k, v in arrays.items()}
        for layer, arrays in layers_of(flat).items()
    }
    tops = {layer: {f"{layer}/kernel:0": np.zeros((6, 2), "f")} for layer in top}
    return made_files.keras(folder / "today.h5", named | tops, root)


def nested(folder, flat):
    """A whole model with the network as its one layer, and a head."""
    inner = {
        f"vgg16/{layer}/{leaf}:0": array
        for layer, arrays in layers_of(flat).items()
        for leaf, array in arrays.items()
    }
    head = {"dense_1": {"dense_1/kernel:0": np.zeros((6, 2), "f")}}
    path = made_files.keras(folder / "whole.h5", {"vgg16": inner} | head, "model_weights")
    with h5py.File(path, "a") as file:
        file["optimizer_weights/Adam/m/block1_conv1/kernel:0"] = np.zeros(3)
    return path


def of_keras3(folder, flat, named=True):
    groups = {f"layers/conv2d{f'_{i}' if i else ''}": i for i in range(13)}
    layers = list(layers_of(flat).items())
    arrays = {g: [layers[i][1]["kernel"], layers[i][1]["bias"]] for g, i in groups.items()}
    names = {group: layers[i][0] for group, i in groups.items() if named}
    return made_files.keras3(folder / "model.weights.h5", arrays, names)


def of_bytes(name, write):
    def written(folder, flat):
        (folder / name).write_bytes(write(flat))
        return folder / name

    return written


def dots(flat):
    """Keras's names joined by dots."""
    leaves = {"kernel": "kernel", "bias": "bias"}
    return {
        f"backbone.{layer}.{leaves[leaf]}": array
        for layer, arrays in layers_of(flat).items()
        for leaf, array in arrays.items()
    }


def body(flat):
    """As fine-tuning writes a model."""
    head = {"head/kernel": np.zeros((30, 2), "f"), "input/mean": np.zeros(30, "f")}
    return {name.replace("params", "body"): array for name, array in flat.items()} | head


KERAS = {
    "HDF5 of 2015": of_2015,
    "HDF5 of today": of_today,
    "with a top": lambda folder, flat: of_today(folder, flat, top=("fc1", "predictions")),
    "behind a name": lambda folder, flat: of_today(folder, flat, before="vgg16/"),
    "whole model": lambda folder, flat: of_today(folder, flat, root="model_weights"),
    "nested in a model": nested,
    ".weights.h5": of_keras3,
    ".weights.h5 without names": lambda folder, flat: of_keras3(folder, flat, named=False),
    "safetensors": of_bytes("a.safetensors", lambda flat: made_files.safetensors(flat)),
    ".npz": of_bytes("a.npz", lambda flat: made_files.npz(flat)),
    "compressed .npz": of_bytes("a.npz", lambda flat: made_files.npz(flat, compressed=True)),
    "PyTorch": of_bytes("a.pt", lambda flat: made_files.pytorch({"model": dots(flat)})),
    "fine-tuned": of_bytes("seed0-fold01.npz", lambda flat: made_files.npz(body(flat))),
}


@pytest.mark.parametrize("write", KERAS.values(), ids=list(KERAS))
def test_every_file_gives_the_same_variables(write, flat, tmp_path, caplog):
    path = write(tmp_path, flat)
    found = weights.load("VGG", path)
    assert weights.checksum(found) == weights.checksum(weights.to_variables(flat))
    assert ("fine-tuned" in caplog.text) == (path.name == "seed0-fold01.npz")


def twice(flat):
    """A student and its teacher, whose weights are the wanted ones."""
    student = {f"backbone.{name}": array + 1 for name, array in as_torch(flat).items()}
    teacher = {f"backbone.{name}": array for name, array in as_torch(flat).items()}
    return {"student": student, "teacher": teacher, "epoch": 3, "lr": 0.1, "best": None}


TORCH = {
    "state dict": lambda flat: made_files.pytorch(as_torch(flat) | TOP),
    "features alone": lambda flat: made_files.pytorch(as_torch(flat, "")),
    "parallel": lambda flat: made_files.pytorch({"state_dict": as_torch(flat, "module.features.")}),
    "backbone": lambda flat: made_files.pytorch(
        {"model": as_torch(flat, "backbone.features."), "optimizer": {"state": {0: {"step": 1}}}}
    ),
    "teacher": lambda flat: made_files.pytorch(twice(flat)),
    "safetensors": lambda flat: made_files.safetensors(as_torch(flat) | TOP),
    "npz": lambda flat: made_files.npz(as_torch(flat)),
}


@pytest.mark.parametrize("write", TORCH.values(), ids=list(TORCH))
def test_pytorchs_names_are_taken_behind_any_prefix_and_with_a_top(write, flat, tmp_path):
    (tmp_path / "weights").write_bytes(write(flat))
    found = weights.load("TorchVGG", tmp_path / "weights")
    assert weights.checksum(found) == weights.checksum(weights.to_variables(flat))


@pytest.mark.parametrize("dtype", ["f2", "f8", "bfloat16"])
def test_numbers_of_other_widths_become_float32(dtype, flat, tmp_path):
    narrower = {name: array.astype(dtype) for name, array in flat.items()}
    expected = weights.checksum(weights.to_variables(narrower))
    writers = {"a.safetensors": made_files.safetensors, "a.pt": made_files.pytorch}
    if dtype != "bfloat16":  # NumPy's files have none.
        writers["a.npz"] = made_files.npz
    for name, write in writers.items():
        (tmp_path / name).write_bytes(write(narrower))
        assert weights.checksum(weights.load("VGG", tmp_path / name)) == expected


def small_flat():
    variables = weights.to_flat(weights.random("Small", 0))
    return variables | {"batch_stats/conv1_bn/mean": np.arange(8, dtype="f")}


def test_a_fine_tuned_file_gets_batch_norms_that_change_nothing(tmp_path, fields, caplog):
    variables = weights.to_variables(small_flat())
    encoder, params = finetune_step.fold_batch_norms(SMALL, variables, "float32")
    arrays = {f"body/{name}": array for name, array in weights.to_flat(params).items()}
    (tmp_path / "seed0-fold01.npz").write_bytes(made_files.npz(arrays))
    with caplog.at_level("WARNING", logger="absl"):
        found = weights.load("Small", tmp_path / "seed0-fold01.npz")
    assert (
        "is a fine-tuned Small: what it says of the images that it was trained on is too good"
        in (caplog.text)
    )
    expected = encoder.descriptors({"params": params}, fields(64, 64))
    np.testing.assert_allclose(SMALL.descriptors(found, fields(64, 64)), expected, rtol=1e-5)


def test_a_fine_tuned_file_says_which_encoder_it_was_made_from(flat, tmp_path):
    arrays = body(flat) | {"encoder/TorchVGG": np.zeros(0, "f")}
    (tmp_path / "a.npz").write_bytes(made_files.npz(arrays))
    found = weights.load("TorchVGG", tmp_path / "a.npz")
    assert weights.checksum(found) == weights.checksum(weights.to_variables(flat))
    message = refusal("VGG", tmp_path / "a.npz")
    assert "It fits TorchVGG: --weights=TorchVGG=" in message
    assert message.endswith("extra: encoder/TorchVGG (0,)")


# What does not fit


def refusal(name, path) -> str:
    with pytest.raises(InputError) as refused:
        weights.load(name, path)
    return str(refused.value)


def entries(flat, faults):
    lost, bent = "params/block4_conv2/kernel", "params/block2_conv1/kernel"
    changed = dict(flat)
    lines = set()
    if "missing" in faults:
        del changed[lost]
        lines.add(f"missing: {lost} {flat[lost].shape}")
    if "extra" in faults:
        changed["params/block6_conv1/kernel"] = np.zeros((2, 3), "f")
        lines.add("extra: params/block6_conv1/kernel (2, 3)")
    if "misshapen" in faults:
        changed[bent] = np.zeros((3, 3, 6, 7), "f")
        lines.add(f"misshapen: {bent}: (3, 3, 6, 7), expected {flat[bent].shape}")
    if "whole" in faults:
        changed[bent] = np.zeros(flat[bent].shape, "i8")
        lines.add(
            f"misshapen: {bent}: {flat[bent].shape} of whole numbers, expected {flat[bent].shape}"
        )
    return changed, lines


@pytest.mark.parametrize(
    "faults", ["missing", "extra", "misshapen", "whole", "missing extra misshapen"]
)
@pytest.mark.parametrize("write", [made_files.npz, made_files.safetensors, made_files.pytorch])
def test_missing_extra_and_misshapen_entries_are_all_listed_and_refused(
    faults, write, flat, tmp_path
):
    changed, lines = entries(flat, faults)
    (tmp_path / "bad").write_bytes(write(changed))
    header, *items = refusal("VGG", tmp_path / "bad").splitlines()
    assert {item.strip() for item in items} == lines
    counts = {kind: sum(line.startswith(kind) for line in lines) for kind in ("missing", "extra")}
    counts["misshapen"] = len(lines) - sum(counts.values())
    assert "(" + ", ".join(f"{count} {kind}" for kind, count in counts.items()) + ")" in header
    assert "The closest layout is histojax of VGG (" in header


def test_the_closest_layout_is_named_and_the_encoder_that_fits(flat, tmp_path):
    path = tmp_path / "vgg.pth"
    path.write_bytes(made_files.pytorch(as_torch(flat)))
    message = refusal("VGG", path)
    assert f"It fits TorchVGG: --weights=TorchVGG={path}." in message
    lost = {n: a for n, a in as_torch(flat).items() if not n.startswith("features.28")}
    path.write_bytes(made_files.pytorch(lost))
    message = refusal("TorchVGG", path)
    assert "The closest layout is PyTorch of TorchVGG (" in message
    assert "missing: params/block5_conv3/kernel (3, 3, 6, 6)" in message
    today = of_today(tmp_path, {n: a for n, a in flat.items() if "block4_conv2" not in n})
    assert "(2 missing, 0 extra, 0 misshapen)" in refusal("VGG", today)
    assert "The closest layout is Keras of VGG (" in refusal("VGG", today)


def test_long_lists_are_cut(tmp_path):
    (tmp_path / "a.npz").write_bytes(made_files.npz({f"a{i}": np.zeros(1) for i in range(99)}))
    *items, last = refusal("VGG", tmp_path / "a.npz").splitlines()[1:]
    assert len(items) == 40
    assert re.fullmatch(r"  and \d+ more", last)


def test_two_copies_are_a_question(flat, tmp_path):
    both = {"model": as_torch(flat), "ema": {n: a + 1 for n, a in as_torch(flat).items()}}
    (tmp_path / "a.pt").write_bytes(made_files.pytorch(both))
    message = refusal("TorchVGG", tmp_path / "a.pt")
    assert (
        "2 copies of TorchVGG, whose names begin with 'ema.features.', 'model.features.'" in message
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_name(value, flat, tmp_path):
    flat["params/block3_conv1/bias"][2] = value
    (tmp_path / "a.npz").write_bytes(made_files.npz(flat))
    message = refusal("VGG", tmp_path / "a.npz")
    assert "params/block3_conv1/bias of" in message
    assert "1 values that are not finite (of 6)" in message


def test_transposed_and_shared_storages_are_read_as_pytorch_lays_them_out(tmp_path):
    """A tensor is a view: offset and strides count."""
    pickle = b"\x80\x02}(" + made_files._pickled("a", []) + view((2, 3), (1, 2), 4) + b"u."
    values = np.arange(12, dtype="f4")
    (tmp_path / "a.pt").write_bytes(made_files.archive(pickle, [values]))
    with array_files.open_arrays(tmp_path / "a.pt") as (kind, arrays):
        assert kind == "PyTorch"
        expected = np.lib.stride_tricks.as_strided(values[4:], (2, 3), (4, 8))
        np.testing.assert_array_equal(arrays["a"].load(), expected)


def view(shape, strides, offset, count=12) -> bytes:
    """Instructions for a tensor on storage 0."""
    p = made_files._pickled
    storage = b"(" + p("storage", []) + made_files.named("torch", "FloatStorage")
    storage += p("0", []) + p("cpu", []) + p(count, []) + b"tQ"
    arguments = b"(" + storage + p(offset, []) + p(shape, []) + p(strides, []) + b"\x89Nt"
    return made_files.called("torch._utils", "_rebuild_tensor_v2", arguments)
