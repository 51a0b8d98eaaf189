"""Encoders of users: what is found of a row, what is refused, what is recorded of its module."""

import dataclasses
import os
import sys
import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from histojax import encoders
from histojax.config import Extraction, View
from histojax.encoders import RAW, Encoder, Tap, layouts, own, weights
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, manifests, modules
from histojax.heatmap import passes
from histojax.learners import ensembles, finetune_step
from histojax.prediction import bundled_encoders

NET = '''
import flax.linen as nn
import jax.numpy as jnp
from histojax.encoders import MINUS_ONE_TO_ONE, RAW, Encoder, Tap, layers

class Net(nn.Module):
    """Maps at two strides, and a vector."""

    widths: tuple = (4, 6)

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(self.widths[0], (3, 3), 2, padding="VALID", name="first")(images))
        y = nn.Conv(self.widths[1], (3, 3), 2, name="second")(x)
        y = nn.relu(nn.BatchNorm(True, name="norm")(y))
        return {"x": x, "y": y, "vector": y.mean(axis=(1, 2)), "first": y[:, 0]}

class Folding(layers.FrozenNetwork):
    @nn.compact
    def __call__(self, images):
        return {"x": self.normalize(self.convolve(images, 4, (3, 3), "a_conv"), 1e-3, "b_bn")}

class Spelt(Folding):
    epsilon = 1e-3

class Dense(layers.FrozenNetwork):
    @nn.compact
    def __call__(self, images):
        return {"x": nn.LayerNorm(name="norm")(images)}

class Before(Spelt):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(self.normalize(images, 1e-3, "a_bn"))
        return {"x": self.convolve(x, 4, (3, 3), "a_conv")}

class Between(Spelt):
    at: float = 1e-3

    @nn.compact
    def __call__(self, images):
        x = self.convolve(images, 4, (3, 3), "a_conv")
        return {"x": x, "y": self.normalize(x, self.at, "a_bn")}

class Lone(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.Conv(4, (3, 3), (2, 4))(images)
        mixed, first = x.reshape(1, -1, 4).mean(axis=1), jnp.moveaxis(x, 3, 1)
        return {"mixed": mixed, "oblong": x, "first": first, "complex": 1j * x}

class Raising(nn.Module):
    def __call__(self, images):
        raise RuntimeError("as it likes")

class Array(nn.Module):
    def __call__(self, images):
        return images

TAPS = (Tap("y"), Tap("vector"))
ENCODER = Encoder("Net", Net(), TAPS, MINUS_ONE_TO_ONE)
HYPHEN = Encoder("My-Net", Net(), TAPS, RAW)
TAKEN = Encoder("vgg", Net(), TAPS, RAW)
LAYER = Encoder("Net", Net(), (Tap("z"),), RAW)
WIDTH = Encoder("Net", Net(), (Tap("y", channels=5),), RAW)
STRIDE = Encoder("Net", Net(), (Tap("y", stride=8),), RAW)
RANK = Encoder("Net", Net(), (Tap("first"),), RAW)
NONE = Encoder("Net", Net(), (), RAW)
LIST = Encoder("Net", Net(widths=[4, 6]), TAPS, RAW)
CLASS = Encoder("Net", Net, TAPS, RAW)
TILE = Encoder("Net", Net(), TAPS, RAW, tile=256)
EPSILON = Encoder("Net", Folding(), (Tap("x"),), RAW)
PAIR = Encoder("Net", Spelt(), (Tap("x"),), RAW)
DENSE = Encoder("Net", Dense(), (Tap("x"),), RAW)
FIRST = Encoder("Net", Spelt(), (Tap("x"),), RAW, first_convolution="b_conv")
BEFORE = Encoder("Net", Before(), (Tap("x"),), RAW)
TAPPED = Encoder("Net", Between(), (Tap("y"),), RAW)
OTHER = Encoder("Net", Between(at=1e-5), (Tap("y"),), RAW)
PADDED = Encoder("Net", Between(), (Tap("y"),), RAW, "a_conv", first_convolution_padded=False)
COMMA = Encoder("Net", Net(), (Tap("y")), RAW)
TWICE = Encoder("Net", Net(), (Tap("y"), Tap("y")), RAW)
MIXED = Encoder("Net", Lone(), (Tap("mixed"),), RAW)
OBLONG = Encoder("Net", Lone(), (Tap("oblong"),), RAW)
CHANNELS = Encoder("Net", Lone(), (Tap("first"),), RAW)
COMPLEX = Encoder("Net", Lone(), (Tap("complex"),), RAW)
RAISING = Encoder("Net", Raising(), (Tap("x"),), RAW)
ARRAY = Encoder("Net", Array(), (Tap("x"),), RAW)
ROW = 3
'''


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(encoders, "ENCODERS", dict(encoders.ENCODERS))


@pytest.fixture
def net(tmp_path):
    """A function that writes the module with a text replaced, and gives its file."""

    def write(old="", new=""):
        path = tmp_path / "net.py"
        path.write_text(NET.replace(old, new))
        return path

    return write


def test_what_a_row_leaves_out_is_found(net):
    row = own.load(f"{net()}:ENCODER")
    assert row.outputs == (Tap("y", 6, stride=4), Tap("vector", 6, stride=0))
    assert row.vectors == ("vector",)
    assert row.origin.reference == "net.py:ENCODER"
    assert encoders.get("Net") is row is own.load(f"{net()}:ENCODER") is own.register(row)
    loaded_encoders.check(Extraction(encoders=("VGG", "Net")), "xla")
    installed = own.load("tests.encoders.small_encoder:SMALL")
    assert installed.origin.reference == "tests.encoders.small_encoder:SMALL"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("NOPE", "has no NOPE: its encoders are ENCODER, HYPHEN, "),
        ("ROW", "is of type int, expected a histojax.encoders.Encoder"),
        ("HYPHEN", "'My-Net', expected a letter and then letters, digits or _"),
        ("TAKEN", "net.py:TAKEN is called vgg, which is the name of one of histojax"),
        ("LAYER", "a tap 'z', but its module returns first, vector, x, y"),
        ("WIDTH", "says channels=5, its module has 6"),
        ("STRIDE", "says stride=8, its module has 4"),
        ("BEFORE", "a_bn is not applied to what a_conv returns, into which it would be folded"),
        ("TAPPED", "its map x is what a_conv returns before the batch norm a_bn"),
        ("OTHER", "a_bn has epsilon 1e-05, and the class says 0.001"),
        ("PADDED", "a_conv pads, and the row says first_convolution_padded=False"),
        ("COMMA", r"outputs=Tap\(.*expected a tuple of taps, such as \(Tap\(\"block3\"\),\)"),
        ("TWICE", "Net has a tap twice among y, y"),
        ("MIXED", r"mixed of shape \(1, 4\) for 2 images"),
        ("OBLONG", "maps oblong of 112 x 56 cells for square images"),
        ("CHANNELS", "maps first of 4 x 112 cells for square images"),
        ("COMPLEX", "returns complex of complex numbers, expected real ones"),
        ("RANK", r"first of shape \(2, 56, 6\) for 2 images, expected maps \[N, H, W, C\]"),
        ("NONE", "no outputs: name taps among first, vector, x, y"),
        ("LIST", "a list or a dictionary among the fields of .*make it a tuple"),
        ("CLASS", "expected an instance of a flax.linen.Module"),
        ("TILE", "tile=256 and halo=256, expected multiples of 32 px"),
        ("EPSILON", "the batch norm b_bn cannot be folded: say epsilon"),
        ("PAIR", "a batch norm X_bn follows a convolution X_conv"),
        ("DENSE", "convolutions and batch norms alone, not params/norm/"),
        ("FIRST", "Net: there is no layer 'b_conv', its first_convolution"),
        ("RAISING", "224 px: line [0-9]+, `raise RuntimeError.*`: RuntimeError: as it likes"),
        ("ARRAY", "returns an array, expected a dictionary"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(net, row, message):
    with pytest.raises(InputError, match=message):
        own.load(f"{net()}:{row}")
    assert "Net" not in encoders.ENCODERS


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "there is no file .*net.py"),
        ("x = (", "cannot be run: SyntaxError: .*line 1"),
        ("import nowhere_at_all", "line 1, `import nowhere_at_all`: ModuleNotFoundError"),
        ("raise SystemExit(3)", "line 1, .*SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_run_is_refused(tmp_path, source, message):
    if source is not None:
        (tmp_path / "net.py").write_text(source)
    with pytest.raises(InputError, match=message):
        own.load(f"{tmp_path / 'net.py'}:ENCODER")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("net.py", "names no encoder: expected path/to/module.py:ENCODER or package"),
        ("nowhere.net:ENCODER", "nowhere.net cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_reference_to_nothing_is_refused(reference, message):
    with pytest.raises(InputError, match=message):
        own.load(reference)


def test_two_modules_may_not_share_a_name_and_a_changed_one_takes_its_place(net, tmp_path):
    first = own.load(f"{net()}:ENCODER")
    changed = own.load(f"{net('nn.relu', 'nn.gelu')}:ENCODER")
    assert encoders.get("Net") is changed is not first
    (tmp_path / "other.py").write_text(NET)
    with pytest.raises(InputError, match="the name of one of net.py:ENCODER: give"):
        own.load(f"{tmp_path / 'other.py'}:ENCODER")


def test_a_module_changed_within_a_second_is_run_as_it_is(net, monkeypatch):
    """Python would take the bytecode of the file before: its size and second are the same."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert own.load(f"{net()}:ENCODER").width == 12
    path, mtime = net(), net().stat().st_mtime
    net("(4, 6)", "(4, 7)")
    os.utime(path, (mtime, mtime))
    assert own.load(f"{path}:ENCODER").width == 14


def test_an_imported_module_is_recorded_as_it_was_when_it_ran(net, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    net()
    first = own.load("net:ENCODER")
    net("nn.relu", "nn.gelu")
    assert own.load("net:ENCODER") is first
    monkeypatch.delitem(sys.modules, "net")


def test_a_module_that_was_interrupted_is_run_anew(tmp_path, monkeypatch):
    path = tmp_path / "net.py"
    path.write_text(f'import os\nif "GO_ON" not in os.environ: raise KeyboardInterrupt\n{NET}')
    with pytest.raises(KeyboardInterrupt):
        own.load(f"{path}:ENCODER")
    monkeypatch.setenv("GO_ON", "yes")
    assert own.load(f"{path}:ENCODER").width == 12


def manifest(encoder: Encoder) -> manifests.Manifest:
    loaded = loaded_encoders.LoadedEncoder(encoder, {}, "random, seed 0", "abc")
    return loaded.manifest(Extraction(), View(0.5, 32))


def test_only_other_code_is_another_module(net):
    here = manifest(own.load(f"{net()}:ENCODER"))
    assert here["module"]["reference"] == "net.py:ENCODER"
    for old, new in (
        ("import flax", "# A comment.\n\nimport flax"),
        ("Maps at two strides, and a vector.", "In other words."),
        ("widths: tuple = (4, 6)", "widths: tuple = (\n        4, 6\n    )"),
    ):
        commented = manifest(own.load(f"{net(old, new)}:ENCODER"))
        assert commented["module"]["file_sha256"] != here["module"]["file_sha256"]
        assert manifests.differences(here, commented) == []
    other = manifest(own.load(f"{net('nn.relu', 'nn.gelu')}:ENCODER"))
    (line,) = manifests.differences(here, other)
    sha256 = here["module"]["file_sha256"][:16]
    assert line.startswith(f"module: found net.py:ENCODER (SHA-256 {sha256}...), expected net.py:E")
    without = {name: value for name, value in here.items() if name != "module"}
    assert len(manifests.differences(without, here)) == 1
    assert manifests.weights_text([without, here]).endswith(
        f"; Net is of net.py:ENCODER (SHA-256 {sha256}...)"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_a_module_may_be_written_in_any_encoding(tmp_path, encoding):
    said = "" if encoding == "utf-8-sig" else "# -*- coding: latin-1 -*-\n# Zuk\u00fcnftig.\n"
    (tmp_path / "net.py").write_text(said + NET, encoding)
    assert own.load(f"{tmp_path / 'net.py'}:ENCODER").width == 12


def test_a_network_that_another_module_holds_is_said(tmp_path, monkeypatch, notices):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "held_network.py").write_text(NET)
    (tmp_path / "row.py").write_text("from held_network import ENCODER")
    own.load(f"{tmp_path / 'row.py'}:ENCODER")
    assert [notice for notice in notices if "network of Net is in held_network, not in" in notice]


def test_maps_of_a_resized_image_are_taken_whole(net):
    resized = 'jax.image.resize(images, (len(images), 64, 64, 3), "linear")'
    path = net("x = nn.relu", f"import jax; images = {resized}; x = nn.relu")
    assert own.load(f"{path}:ENCODER").vectors == ("y", "vector")


def test_maps_of_images_of_one_size_are_taken_whole(net):
    """As those of a network with a parameter for each place."""
    embedding = 'self.param("place", nn.initializers.zeros, (1, 224, 224, 3))'
    path = net("x = nn.relu", f"images = images + {embedding}; x = nn.relu")
    assert own.load(f"{path}:ENCODER").vectors == ("y", "vector")


def test_models_go_on_with_a_commented_module_and_not_with_another(net, tmp_path):
    path = tmp_path / "models" / "manifest.json"
    path.parent.mkdir()
    (path.parent / "seed0-fold01.npz").touch()
    changes = ("", ""), ("import flax", "# A comment.\n\nimport flax"), ("nn.relu", "nn.gelu")
    first, commented, other = (
        {"extraction": manifest(own.load(f"{net(old, new)}:ENCODER"))} for old, new in changes
    )
    ensembles.record_manifest(path, first)
    ensembles.record_manifest(path, commented)
    with pytest.raises(InputError, match=r"extraction.module.code_sha256: found"):
        ensembles.record_manifest(path, other)


def test_a_bundle_asks_for_the_module_and_takes_no_other(net):
    module = manifest(own.load(f"{net()}:ENCODER"))["module"]
    bundle = types.SimpleNamespace(
        name="b.histojax",
        imported=None,
        extraction=Extraction(encoders=("Net",)),
        encoder_module=lambda name: module,
    )
    own.load(f"{net('nn.relu', 'nn.gelu')}:ENCODER")
    with pytest.raises(InputError, match="has other code than that of b.histojax, net.py:ENCODER"):
        bundled_encoders.load(bundle)
    del encoders.ENCODERS["Net"]
    with pytest.raises(
        InputError,
        match=r"b.histojax needs the module of its encoder Net, net.py:ENCODER \(SHA-256 "
        rf"{module['file_sha256'][:16]}...\), .*: pass --encoders=net.py:ENCODER, with its path",
    ):
        bundled_encoders.load(bundle)


def test_any_flax_module_is_applied_as_it_is_in_each_precision(net):
    row = own.load(f"{net()}:ENCODER")
    variables = weights.random("Net", 0)
    assert float(jnp.std(variables["params"]["second"]["kernel"])) > 0.1
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    maps = row.module.apply(variables, images / np.float32(127.5) - 1)
    expected = np.concatenate([maps["y"].mean(axis=(1, 2)), maps["vector"]], axis=-1)
    folded = row.folded("float32")
    np.testing.assert_allclose(
        folded.descriptors(row.fold_variables(variables), images), expected, rtol=1e-5, atol=1e-6
    )
    low = row.folded("bfloat16").descriptors(row.fold_variables(variables, "bfloat16"), images)
    assert low.dtype == jnp.float32
    assert 1e-5 < np.abs(np.asarray(low) - expected).max() / expected.max() < 0.03


def test_the_kernel_is_refused_for_signed_taps(net):
    path = net('(Tap("y"), Tap("vector"))', '(Tap("y", signed=True),)')
    own.load(f"{path}:ENCODER")
    with pytest.raises(InputError, match="Net has signed taps.*pass --pooling=xla"):
        loaded_encoders.check(Extraction(encoders=("Net",), weights="random"), "pallas")


def test_code_without_a_file_is_not_the_same_for_that():
    one, other = (
        {"module": {"reference": "Net in Python", "file_sha256": "", "code_sha256": code}}
        for code in "ab"
    )
    assert modules.same(one, one)
    assert not modules.same(one, other)


def test_vectors_are_refused_where_maps_are_needed(net):
    row = own.load(f"{net()}:ENCODER")
    for asked, pooling, message in (
        (Extraction(("Net",), crop_mode="hybrid"), "xla", "hybrid takes windows of feature maps"),
        (Extraction(("Net",)), "pallas", "pallas pools feature maps, but vector of Net is"),
    ):
        with pytest.raises(InputError, match=message):
            loaded_encoders.check(asked, pooling)

    def check_heat_maps(encoder):
        loaded = {"Net": types.SimpleNamespace(encoder=encoder)}
        passes.check_encoders(types.SimpleNamespace(encoders=loaded))

    check_heat_maps(row)  # Its crops go through it one by one.
    check_heat_maps(dataclasses.replace(row, outputs=(Tap("x", 4, 2), Tap("y", 6, 4))))
    with pytest.raises(InputError, match="strides divide one another and 32 px, but Net has 14"):
        check_heat_maps(dataclasses.replace(row, outputs=(Tap("x", 4, 14),)))


def test_its_weights_are_read_by_its_names_and_as_fine_tuning_writes_them(tmp_path, notices):
    row = own.register(Encoder("Plain", Plain(), (Tap("maps"),), RAW))
    assert row.origin.reference == "Plain in Python"
    variables = weights.random("Plain", 3)
    flat = weights.to_flat(variables)
    np.savez(tmp_path / "plain.npz", **flat)
    body = {name.replace("params/", "body/"): array for name, array in flat.items()}
    np.savez(tmp_path / "tuned.npz", **body, **{"head/kernel": np.ones((6, 2), np.float32)})
    for file in ("plain.npz", "tuned.npz"):
        found = weights.read(row, tmp_path / file)
        assert weights.checksum(found.variables) == weights.checksum(variables)
    assert [notice for notice in notices if "fine-tuned" in notice and "tuned.npz" in notice]


class Plain(nn.Module):
    @nn.compact
    def __call__(self, images):
        maps = nn.Conv(6, (3, 3), 2, name="conv")(images)
        return {"maps": nn.LayerNorm(name="norm")(maps) * self.param("w", nn.zeros, (1, 1, 1, 6))}


class Projection(nn.Module):
    @nn.compact
    def __call__(self, images):
        return {"x": nn.Dense(3, name="head")(images.mean(axis=(1, 2)))}


def test_a_square_matrix_of_pytorch_is_turned_and_names_may_have_dots(tmp_path):
    table = {"head.weight": "params/head/kernel", "head.bias": "params/head/bias"}
    torch = layouts.Layout("PyTorch", layouts.by_table(lambda _: table), output_first=True)
    row = own.register(Encoder("Square", Projection(), (Tap("x"),), RAW, layouts=(torch,)))
    matrix, bias = np.arange(9, dtype=np.float32).reshape(3, 3), np.zeros(3, np.float32)
    np.savez(tmp_path / "torch.npz", **{"head.weight": matrix, "head.bias": bias})
    np.savez(tmp_path / "dots.npz", **{"params.head.kernel": matrix.T, "params.head.bias": bias})
    for file in ("torch.npz", "dots.npz"):
        found = weights.read(row, tmp_path / file).variables
        np.testing.assert_array_equal(found["params"]["head"]["kernel"], matrix.T)


def test_what_fine_tuning_needs_is_said(net):
    row = own.register(Encoder("Plain", Plain(), (Tap("maps"),), RAW))
    variables = weights.random("Plain", 0)
    encoder, params = finetune_step.fold_batch_norms(row, variables, "float32")
    assert finetune_step.split_layers(params, encoder, "all") == (params, {})
    with pytest.raises(InputError, match=r"pass --blocks=all, or .*last_block=\('w',\)"):
        finetune_step.split_layers(params, encoder, "last")
    normed = own.load(f"{net()}:ENCODER")
    with pytest.raises(InputError, match="its batch_stats cannot be folded: make .*FrozenNetwork"):
        finetune_step.fold_batch_norms(normed, weights.random("Net", 0), "float32")
