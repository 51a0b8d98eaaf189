"""Files of vision transformers: names of arrays, what does not fit, positions of another grid."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from histojax import encoders
from histojax.encoders import weights
from histojax.errors import InputError
from histojax.utils.array_files.stored import StoredArray
from tests.encoders import made_files, made_vits
from tests.running import python

ATTENTION = "encoder.layer.0.attention.attention"  # Of Hugging Face's, where queries and keys are.


@pytest.mark.parametrize(("way", "name"), made_vits.LAYOUTS.items(), ids=list(made_vits.LAYOUTS))
def test_a_file_of_each_layout_loads_or_is_refused_by_the_names_of_what_does_not_fit(
    way, name, tiny_rows, tmp_path
):
    flat = made_vits.drawn(tiny_rows[name])
    file = made_vits.as_file(way, flat) | {made_vits.BESIDE[way]: np.zeros((1, 8), "f")}
    wanted = weights.checksum(weights.to_variables(flat))
    writers = {"a.safetensors": made_files.safetensors, "a.bin": made_files.pytorch}
    lost = next(key for key in file if ".query." in key or ".qkv." in key)
    short = next(key for key in file if key.endswith("layernorm.bias") or key == "norm.bias")
    changed = {key: array for key, array in file.items() if key != lost}
    changed |= {"blocks.9.norm1.bias": np.zeros(8, "f"), short: np.zeros(9, "f")}
    for file_name, write in writers.items():
        path = tmp_path / file_name
        path.write_bytes(write(file))
        assert weights.checksum(weights.load(name, path)) == wanted
        path.write_bytes(write(changed))
        with pytest.raises(InputError) as refused:
            weights.load(name, path)
        header, *lines = str(refused.value).splitlines()
        assert "(1 missing, 1 extra, 1 misshapen), so none of it was used" in header
        kind = "weight" if lost.endswith("weight") else "bias"
        ours = "params/block0/attention/qkv/" + {"weight": "kernel", "bias": "bias"}[kind]
        shape = flat[ours].shape
        of = f"{lost}, of " if ".query." in lost else ""
        assert lines == [
            f"  missing: {of}{ours} {shape}",
            "  extra: blocks.9.norm1.bias (8,)",
            "  misshapen: params/norm/bias: (9,), expected (8,)",
        ]


@pytest.mark.parametrize(
    ("way", "changed", "problem"),
    [
        (
            "Hugging Face's ViT",
            {f"{ATTENTION}.key.weight": np.zeros((8, 9), "f")},
            "params/block0/attention/qkv/kernel: (8, 8) and (8, 9) and (8, 8), expected (8, 24)",
        ),
        (
            "Hugging Face's ViT",  # Of 24 rows together.
            {
                f"{ATTENTION}.query.weight": np.zeros((7, 8), "f"),
                f"{ATTENTION}.key.weight": np.zeros((9, 8), "f"),
            },
            "params/block0/attention/qkv/kernel: (7, 8) and (9, 8) and (8, 8), expected (8, 24)",
        ),
        (
            "Hugging Face's ViT",
            {f"{ATTENTION}.key.bias": np.zeros(8, "i8")},
            "params/block0/attention/qkv/bias: (24,) of whole numbers, expected (24,)",
        ),
        (
            "timm",
            {"pos_embed": np.zeros((2, 21, 8), "f")},
            "params/position_embedding: (2, 21, 8), expected (21, 8)",
        ),
    ],
    ids=["width", "heights", "whole numbers", "two images"],
)
def test_parts_that_differ_and_tokens_of_two_images_are_misshapen(way, changed, problem, tiny_rows):
    encoder = tiny_rows[made_vits.LAYOUTS[way]]
    file = made_vits.as_file(way, made_vits.drawn(encoder))
    assert file.keys() >= changed.keys()
    arrays = {
        name: StoredArray(a.shape, a.dtype, lambda: None) for name, a in (file | changed).items()
    }
    assert list(weights.fits(encoder, arrays)[0].lines()) == [f"  misshapen: {problem}"]


def test_another_square_grid_of_positions_is_taken_and_resampled(tiny_rows, tmp_path, notices):
    encoder = tiny_rows["Virchow2"]
    wide = made_vits.drawn(encoder)
    rng = np.random.default_rng(0)
    for tokens, taken in ((5 + 36, True), (5 + 37, False), (5, False), (4, False)):
        wide["params/position_embedding"] = rng.normal(size=(tokens, 8)).astype("f")
        path = tmp_path / f"{tokens}.safetensors"
        path.write_bytes(made_files.safetensors(made_vits.as_file("timm", wide)))
        if taken:
            variables = weights.load("Virchow2", path)
            images = np.full((1, 28, 28, 3), 99, np.uint8)
            assert np.isfinite(encoder.descriptors(variables, images)).all()
        else:
            with pytest.raises(InputError, match="misshapen: params/position_embedding"):
                weights.load("Virchow2", path)
    text = "is (41, 8), where Virchow2 is expected to have (21, 8): it is resampled"
    assert [notice for notice in notices if text in notice]


def test_rows_have_the_arrays_that_timm_and_transformers_give_the_same_networks():
    """Names and shapes at depth 2, made by tests/encoders/make_vit_names.py."""
    text = (Path(__file__).parent / "vit_names.json").read_text()
    for name, shapes in json.loads(text).items():
        row = encoders.get(name)
        row = dataclasses.replace(row, module=row.module.clone(depth=2))
        arrays = {n: StoredArray(tuple(s), np.dtype("f4"), lambda: None) for n, s in shapes.items()}
        fit = weights.fits(row, arrays)[0]
        assert not fit.problems, (name, list(fit.lines()))
        assert fit.layout in row.layouts


@pytest.mark.slow
def test_a_large_file_loads_within_twice_its_size(tmp_path):
    """In a process of its own, whose other memory is not counted."""
    row = encoders.get("kaiko-B16")
    shapes = weights.shapes(row)
    flat = {name: np.full(shape, 0.5, "f") for name, shape in shapes.items()}
    file = made_vits.as_file("timm", flat)
    for name, write in (("a.safetensors", made_files.safetensors), ("a.bin", made_files.pytorch)):
        (tmp_path / name).write_bytes(write(file))
        program = (
            "import resource, sys; from histojax.encoders import weights\n"
            "peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "weights.random('Lunit-S16', 0); before = peak()\n"
            f"weights.load('kaiko-B16', {str(tmp_path / name)!r}); print(peak() - before)"
        )
        done = python("-c", program)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 1.5 * (tmp_path / name).stat().st_size
