"""The profile and the dry run: right counts, whole files, and few libraries needed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histojax import encoders
from histojax.config import Extraction, Runtime, View
from histojax.encoders import weights
from histojax.errors import InputError
from histojax.extraction import dry_run, encoding, extract, loaded_encoders, profiling
from histojax.extraction.engine import Engine, layers
from histojax.extraction.plans import Part, Workload
from histojax.images.padding import PaddedImage
from histojax.ops import flops
from tests.running import run
from tests.samples import SMALL, tissue
from tests.test_walls import run_without

pytestmark = pytest.mark.usefixtures("narrow_vgg")


@pytest.mark.parametrize("mode", ["exact", "hybrid"])
def test_rates_and_shares_follow_from_the_counted_operations(mode, tmp_path, monkeypatch):
    extraction = Extraction(
        ("VGG",),
        (View(1.0, 48), View(1.0, 64)),
        augmentations=2,
        crops=3,
        weights="random",
        crop_mode=mode,
    )
    extraction = dataclasses.replace(extraction, pool_crops=5)
    loaded = loaded_encoders.fold_encoders(extraction)
    machine = Engine.of(Runtime(cache=tmp_path))
    monkeypatch.setattr(
        profiling, "seconds", lambda function, *arguments: function(*arguments) and 0.5
    )
    peak = profiling.Peak(operations=1e12, bytes=1e10)
    image = PaddedImage(Path("image"), tissue(0, 96, 128), (96, 128), "")
    published = {"VGG": (encoders.ENCODERS["VGG"], weights.random("VGG", 0))}
    rows = list(profiling.rows(machine, loaded, published, extraction, image, peak))
    assert len(rows) == (2 if mode == "exact" else 1)
    encoder, variables = loaded["VGG"].encoder, loaded["VGG"].variables

    def operations(part, *of_views):
        workload = Workload(encoder, extraction, of_views, (96, 128), part)
        return flops.total_operations(layers(workload, variables))

    for row in rows:
        views = tuple(map(View.parse, row.views))
        if mode == "exact":
            calls, counted = 1, 2 * 3 * operations(Part.EXACT, *views)
        else:
            # Two devices: 9 nodes in calls of two, 4 x 5 crops of a view in two calls; the sum.
            calls = 5 + 2 * 2 + 1
            counted = 9 * operations(Part.WINDOWS, *views)
            counted += 20 * sum(operations(Part.POOL, view) for view in views)
        assert row.operations == counted
        assert row.images_per_second == pytest.approx(1 / (calls * 0.5))
        assert row.crops_per_second == pytest.approx(2 * 3 * len(views) / (calls * 0.5))
        assert row.operations_per_second == pytest.approx(counted / (calls * 0.5))
        assert row.share_of_peak == pytest.approx(row.operations_per_second / 1e12)
        assert row.share_of_roofline >= row.share_of_peak * 0.999
        assert set(row.errors) == {f"block{block}_conv1" for block in range(2, 6)}
        assert 0 < row.largest_error < 1e-5


def test_the_peak_is_measured_and_no_layer_beats_it_by_much(tmp_path, monkeypatch):
    monkeypatch.setitem(profiling._PEAK_SIZES, "cpu", (512, 2**20))
    machine = Engine.of(Runtime(cache=tmp_path))
    peak = profiling.peak(machine, "float32")
    assert 1e9 < peak.operations < 1e15
    assert 1e8 < peak.bytes < 1e13


def test_every_stage_is_timed(tmp_path):
    extraction = Extraction(("VGG",), (View(1.0, 48),), 2, 3, weights="random")
    machine = Engine.of(Runtime(cache=tmp_path))
    timed = profiling.stages(
        machine,
        loaded_encoders.fold_encoders(extraction)["VGG"],
        extraction,
        extraction.views[0],
        tissue(0, 96, 128),
    )
    expected = [
        "decode",
        "resize",
        "normalise",
        "crop",
        "augment",
        "trunk",
        "taps and pooling",
        "write",
    ]
    assert list(timed) == expected
    assert all(value > 0 for value in timed.values())


@pytest.mark.slow
def test_the_profile_runs_with_little_installed_and_its_figure_is_drawn_elsewhere(tmp_path):
    code = f"""
        sys.argv = ["profile_encoders", "--out={tmp_path}/out", "--encoders=VGG",
                    "--views=1.0-48", "--augmentations=2",
                    "--crops=2", "--height=96", "--width=128", "--trace={tmp_path}/trace"]
        import runpy
        from histojax.extraction import profiling
        from tests import narrow
        profiling._PEAK_SIZES["cpu"] = 512, 2**20
        with narrow.vgg():
            runpy.run_module("experiments.profile_encoders", run_name="__main__")
    """
    done = run_without(
        "lightgbm tensorflow_datasets tensorflow sklearn matplotlib pandas keras cv2 torch", code
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert set(written) == {"machine", "peaks", "rows", "stages"}
    kinds = {(row["mode"], row["precision"]) for row in written["rows"]}
    assert kinds == {("exact", "float32"), ("hybrid", "float32")}
    for row in written["rows"]:
        assert row["crops_per_second"] > 0
        assert 0 < row["share_of_peak"] < 3
        assert all(0 < error < 1e-5 for error in row["errors"].values())
    assert "roofline.png is not drawn (matplotlib)" in done.stdout
    assert not (tmp_path / "out" / "roofline.png").exists()
    drawn = run("profile_encoders", f"--out={tmp_path}/out", "--figure_only")
    assert drawn.returncode == 0, drawn.stderr
    with Image.open(tmp_path / "out" / "roofline.png") as figure:
        assert figure.format == "PNG"
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))
    assert "VGG" in done.stdout
    assert "decode" in done.stdout
    for mode in ("exact", "hybrid"):
        assert f"error of VGG 1.0-48 {mode} float32 by tap: block2_conv1 " in done.stdout


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--precisions=float16"], "'float16', expected float32 or tf32 or bfloat16"),
        (["--modes=quick"], "--modes has 'quick', expected exact or hybrid"),
        (["--modes="], "--modes is empty, expected exact or hybrid"),
        (["--height=96", "--width=96"], "does not fit into 96 x 96 px"),
        (
            ["--precision=bfloat16"],
            "--precision is not for the profile: it takes --modes and --precisions",
        ),
        (["--trace=/proc/x"], "cannot be written"),
    ],
)
def test_a_profile_of_nonsense_is_refused(tmp_path, flags, shown):
    done = run("profile_encoders", f"--out={tmp_path}/out", *flags)
    assert done.returncode == 1
    assert shown in done.stderr


VECTOR = """
import flax.linen as nn
from histojax.encoders import RAW, Encoder, Tap

class Mean(nn.Module):
    def __call__(self, images):
        return {"x": images.mean(axis=(1, 2))}

ENCODER = Encoder("ProfiledMean", Mean(), (Tap("x"),), RAW)
"""


def test_a_profile_of_vectors_says_which_mode_to_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "ENCODERS", dict(encoders.ENCODERS))
    (tmp_path / "net.py").write_text(VECTOR)
    flag = f"--encoders={tmp_path / 'net.py'}:ENCODER"
    done = run("profile_encoders", f"--out={tmp_path}/out", flag)
    assert done.returncode == 1
    assert "x of ProfiledMean is a vector, or" in done.stderr
    assert "pass --modes=exact" in done.stderr


def test_the_scopes_of_the_stages_are_in_the_program(tmp_path):
    machine = Engine.of(Runtime(cache=tmp_path))
    extraction = Extraction(("VGG",), (View(1.0, 48),), 2, 3, weights="random")
    for part, scopes in (
        (Part.EXACT, ["crop", "augment", "taps", "p-norm"]),
        (Part.POOL, ["crop", "augment", "taps"]),
        (Part.WINDOWS, ["augment", "windows"]),
    ):
        (each,) = loaded_encoders.fold_encoders(extraction).values()
        workload = Workload(each.encoder, extraction, extraction.views, (96, 128), part)
        program = machine.program(workload, each.variables)
        text = program.compiled.as_text()
        for scope in [*scopes, "trunk"]:
            assert f"/{scope}/" in text or f"({scope})/" in text, (part, scope)


def test_a_dry_run_tells_what_a_run_takes_and_writes_nothing(paths, tmp_path):
    """Of crop mode hybrid, test_extract.py has the same."""
    told = dry_run.run(paths, SMALL, tmp_path / "out", runtime=Runtime(cache=tmp_path))
    assert told.images == 3
    assert told.seconds > told.compiling > 0
    assert told.memory > 0
    assert not (tmp_path / "out").exists()
    extract.run(paths, SMALL, tmp_path / "out", runtime=Runtime(cache=tmp_path))
    assert told.disk == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.npy"))
    assert dry_run.run(paths, SMALL, tmp_path / "out", runtime=Runtime(cache=tmp_path)).images == 0


def test_the_dry_run_flag_of_the_script(paths, tmp_path):
    small = [
        "--encoders=VGG",
        "--weights=random",
        "--views=0.5-48",
        "--augmentations=3",
        "--crops=3",
        "--dry_run",
    ]
    done = run("extract", f"--images={paths[0].parent}", f"--descriptors={tmp_path}/out", *small)
    assert done.returncode == 0, done.stderr
    assert "3 images to extract from, about" in done.stdout
    assert "VGG-0.5-48" in done.stdout
    assert not (tmp_path / "out").exists()
    assert np.isfinite(float(done.stdout.split("VGG-0.5-48: ")[1].split(" ")[0]))


def test_a_dry_run_refuses_what_the_run_would_refuse(paths, tmp_path):
    extract.run(paths, SMALL, tmp_path / "out", runtime=Runtime(cache=tmp_path))
    hybrid = dataclasses.replace(SMALL, crop_mode="hybrid")
    with pytest.raises(InputError, match="protocol.crop_mode"):
        dry_run.run(paths, hybrid, tmp_path / "out", runtime=Runtime(cache=tmp_path))
    with pytest.raises(InputError, match="--pooling=pallas is for --crop_mode=exact"):
        dry_run.run(
            paths, hybrid, tmp_path / "new", runtime=Runtime(cache=tmp_path, pooling="pallas")
        )


def test_a_dry_run_counts_every_shape_and_the_largest_image_of_a_hybrid_run(tmp_path, monkeypatch):
    # That is compiled once a process, so for the first of the two alone.
    monkeypatch.setattr(encoding, "assemble", lambda *_: ())
    hybrid = dataclasses.replace(
        SMALL, crop_mode="hybrid", views=(View(1.0, 32),), pool_crops=2, gain_nodes=2
    )
    told = {}
    for name, sides in (("one", [96, 96, 96]), ("many", [96, 128, 384])):
        folder = tmp_path / name
        folder.mkdir()
        for i, side in enumerate(sides):
            Image.fromarray(tissue(i, side, side)).save(folder / f"{i}.png")
        told[name] = dry_run.run(
            sorted(folder.iterdir()), hybrid, tmp_path / "out", runtime=Runtime(cache=tmp_path)
        )
    assert told["many"].memory > 2 * told["one"].memory  # Of both the weights are 59 MB.
    assert told["many"].seconds > told["one"].seconds
