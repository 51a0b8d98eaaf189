"""histojax accelerator: the whole of it at tiny sizes, its time, its tables and its projection."""

import functools
import json
import subprocess
import sys
import time
import types

import jax
import pytest

from experiments.measuring import block, budget, describe, items, peers, projection, results
from experiments.measuring.results import Results
from experiments.measuring.sizes import SIZES
from histojax.config import ENCODERS, Extraction, Runtime
from histojax.errors import InputError
from histojax.extraction import pooling_choice
from tests.running import run
from tests.test_walls import run_without


def test_the_whole_command_runs_with_what_an_accelerator_machine_has(tmp_path):
    code = f"""
        sys.argv = ["accelerator", "--out={tmp_path}", "--encoders=VGG"]
        from experiments import accelerator, runner
        import dataclasses
        from experiments.measuring import peers, sizes, transformers
        from histojax import config, encoders
        from histojax.config import View
        from histojax.extraction import devices, profiling, xla_presets
        from tests import narrow

        image, view = (96, 128), View(1.0, 48)  # The same for all items: fewer programs.
        sizes.SIZES["small"] = sizes.Sizes(
            image, (view,), 2, 2, 2, image, view, 1, 2, ("float32",), ("Lunit-S16",), (2,)
        )
        config.CROP_MODES = ("exact",)  # Programs of hybrid take longer, and are tested elsewhere.
        for name in ("cublas", "triton", "tiling"):
            del xla_presets.PRESETS[name]
        profiling._PEAK_SIZES["cpu"] = 256, 2**18
        accelerator.run_process = lambda item, own, most: accelerator.measure_here(item, own)
        peers.of_peers = lambda *arguments: iter([])
        devices.split_cpu()
        row = encoders.get("Lunit-S16")
        module = row.module.clone(width=32, heads=2, depth=1, hidden=64)
        encoders.ENCODERS["Lunit-S16"] = dataclasses.replace(row, module=module)
        transformers.PRECISION = "float32"
        with narrow.vgg():
            runner.run(accelerator.main, accelerator.__doc__)
    """
    blocked = (
        "lightgbm tensorflow_datasets tensorflow sklearn matplotlib pandas keras cv2 torch tqdm "
        "imagecodecs openslide openpyxl jinja2 array_record importlib_resources"
    )
    done = run_without(blocked, code)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "accelerator.json").read_text())
    assert {*written} == {*budget.NAMES, "projection"} - {"peers"}
    assert Results(tmp_path, written).missing() == []
    assert written["machine"]["device"]["platform"] == "cpu"
    assert written["machine"]["device"]["sizes"] == "small"
    taps = "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1"
    assert written["parity"]["VGG 1.0-48 exact float32"]["errors"] == dict.fromkeys(taps, 0)
    rate = written["rates"]["VGG 1.0-48 exact float32"]
    assert rate["share_of_peak"] > 0
    assert written["pooling"]["agreement"]["difference bfloat16"] < 1e-5
    # Two devices, an augmentation of two crops each; so small crops share a step on a CPU too.
    steps = written["pooling"]["VGG 1.0-48 exact float32"]["per_step"]
    assert steps == {"pallas": 4, "xla": 4}
    assert written["pooling"]["choice"]["remembered"].startswith("no: ")
    assert sum("bytes" in row for row in written["pooling"].values()) == 1
    (preset,) = written["presets"].values()
    assert preset["none"] > 0 < preset["times_as_fast_with_preset"]
    (transformer,) = written["transformers"].values()
    assert transformer["crops_per_second"] > 0 < transformer["share_of_peak"]
    images = written["images"]["exact float32"]
    assert images["images"] == 2
    busy = images["seconds_of_programs"] / images["seconds"]
    assert images["idle_share"] == pytest.approx(max(0, 1 - busy))
    operations = written["machine"]["operations VGG"]
    # Of 4 crops of 48 px; the paper's are 1000 of 400 px, and all sides of VGG's maps are whole.
    paper = rate["operations"] / 4 * (400 / 48) ** 2 * 1000
    assert operations["VGG 0.5-400 exact"] == pytest.approx(paper)
    expected = 400 * sum(n for key, n in operations.items() if key.endswith("exact"))
    projected = written["projection"]["exact"]
    assert projected["seconds"] == pytest.approx(expected / rate["operations_per_second"])
    assert projected["from_other_sizes"]
    text = (tmp_path / "accelerator.md").read_text()
    assert "| VGG | 1.0-48 | exact | float32 |" in text
    assert "| nhwc VGG 1.0-48 exact float32 |" in text
    assert "`histojax accelerator --minutes=8 --encoders=VGG`, synthetic" in text
    assert "20 crops x 2 of 6 configurations:\n" in text
    assert "Not measured" not in text


ITEMS = [budget.Item("a", 10, ""), budget.Item("b", 30, ""), budget.Item("c", 60, "")]


@pytest.mark.parametrize(
    ("left", "items", "own", "stopped"),
    [
        (480, ITEMS, 48, 96),
        (480, ITEMS[1:], 160, 320),  # The first took nothing.
        (300, ITEMS[2:], 300, 300),
        (100, ITEMS, 10, 60),  # A process needs a while to start.
        (20, ITEMS, 2, 20),
        (-5, ITEMS, 0, 0),
    ],
)
def test_an_item_has_its_share_of_the_time_left_and_twice_that_before_it_is_stopped(
    left, items, own, stopped
):
    assert budget.limits(left, items) == (own, stopped)


def test_the_weights_are_of_a_hundred():
    assert sum(item.weight for item in budget.ITEMS) == 100


def fail():
    raise ValueError("no such convolution")


def test_what_fails_is_recorded_and_the_rest_goes_on(tmp_path):
    found = Results(tmp_path, {})
    work = [("one", lambda: {"n": 1}), ("bad", fail), ("two", lambda: {"n": 2})]
    results.measure("rates", work, found, 60)
    rows = Results.read(tmp_path).items["rates"]
    assert [rows[key].get("n") for key in ("one", "bad", "two")] == [1, None, 2]
    assert rows["bad"]["error"] == "ValueError: no such convolution"
    assert Results.read(tmp_path).missing() == [("rates", "bad", rows["bad"]["error"])]
    with pytest.raises(InputError, match="'bad' of the item rates"):
        found.row("rates", "bad")


def test_each_row_is_written_before_the_next_is_measured(tmp_path):
    def read():
        return {"seen": [*Results.read(tmp_path).rows("rates")]}

    results.measure("rates", [("one", dict), ("two", read)], Results(tmp_path, {}), 60)
    assert Results.read(tmp_path).row("rates", "two")["seen"] == ["one"]


def test_a_measurement_that_would_not_fit_is_left_out_and_made_by_the_next_run(
    tmp_path, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(results.time, "monotonic", lambda: now[0])

    def takes(seconds):
        now[0] += seconds
        return {"took": seconds}

    work = [(f"{n}", lambda n=n: takes(n)) for n in (10, 20, 30)]
    results.measure("rates", work, Results.read(tmp_path), 39)
    found = Results.read(tmp_path)
    assert [*found.rows("rates")] == ["10", "20"]
    assert found.missing() == [("rates", "30", "no time was left")]
    results.measure("rates", work, found, 39)
    assert [*Results.read(tmp_path).rows("rates")] == ["10", "20", "30"]
    assert now[0] == 60  # Nothing was measured twice.


def rate(encoder, views, mode, speed, precision="bfloat16"):
    return {
        "encoder": encoder,
        "views": views.split("+"),
        "mode": mode,
        "precision": precision,
        "per_step": 64,
        "crops_per_second": 5.0,
        "images_per_second": 0.5,
        "operations_per_second": speed,
        "share_of_peak": 0.25,
        "share_of_roofline": 0.5,
        "compile_seconds": 12.0,
        "memory": 2**30,
    }


DEVICE = {
    "kind": "NVIDIA H100",
    "platform": "gpu",
    "count": 1,
    "cores": 16,
    "cpu": "x",
    "driver": "570.1",
    "versions": {"jax": "0.10.2", "nvidia-cudnn-cu12": "9.8"},
    "date": "2026-11-28T10:00:00+00:00",
    "sizes": "paper",
    "work": {"image": [1536, 2048], "augmentations": 50, "crops": 20, "pool_crops": 24},
}
MACHINE = {
    "device": DEVICE,
    "peak bfloat16": {"operations": 7e14, "bytes": 3e12},
    "operations ResNet": {"ResNet 0.5-400 exact": 1e14},
    "operations VGG": {
        "VGG 0.5-400 exact": 2e14,
        "VGG 0.5-650 exact": 6e14,
        "VGG 0.5-400+0.5-650 hybrid": 1e13,
        "measured_in_seconds": 1.0,
    },
}


def with_rates(*rates):
    return {"machine": MACHINE, "rates": {str(i): row for i, row in enumerate(rates)}}


def test_the_paper_is_projected_from_the_rates_of_every_encoder():
    given = with_rates(
        rate("VGG", "0.5-400", "exact", 4e14, "tf32"),
        rate("VGG", "0.5-400", "exact", 4e14),
        rate("VGG", "0.5-650", "exact", 3e14),
        rate("ResNet", "0.5-400", "exact", 1e14),
        rate("VGG", "0.5-400+0.5-650", "hybrid", 2e14),
    )
    given["images"] = {"hybrid bfloat16": {"idle_share": 0.75}}
    projected = projection.project(given)
    exact, hybrid = projected["exact"], projected["hybrid"]
    # In tf32 there is no rate of ResNet.
    assert exact["precision"] == "bfloat16"
    assert exact["seconds_by_encoder"] == {"VGG": 400 * (0.5 + 2), "ResNet": 400}
    assert exact["seconds"] == 1400
    assert not exact["from_other_sizes"]
    assert (exact["configurations"], hybrid["configurations"]) == (3, 2)
    assert exact["seconds_end_to_end"] is None
    assert exact["bound"].startswith(
        "extraction by VGG, 71 % of the programs' time, at 50 % of its roofline"
    )
    assert hybrid["seconds"] == 20
    assert hybrid["seconds_end_to_end"] == 80
    assert hybrid["seconds_of_checks"] == pytest.approx(1400 * 0.05 / 50)
    assert "by the host: devices are idle 75 %" in hybrid["bound"]
    assert projected["trees"]["paper"] == pytest.approx(300 * 54.5 / 16)
    assert hybrid["bound"].endswith("the whole by the paper's trees, 12.8 x the extraction")
    assert "trees" not in exact["bound"]


def test_a_crop_size_without_a_rate_is_projected_from_the_other_and_says_so():
    given = with_rates(
        rate("VGG", "0.5-400", "exact", 4e14), rate("ResNet", "0.5-400", "exact", 1e14)
    )
    exact = projection.project(given)["exact"]
    assert exact["seconds_by_encoder"]["VGG"] == 400 * (0.5 + 1.5)
    assert exact["from_other_sizes"]


def test_nothing_is_projected_while_an_encoder_has_no_rate():
    assert set(projection.project(with_rates(rate("VGG", "0.5-400", "exact", 4e14)))) == {"trees"}
    assert projection.project({}) == {}


def test_the_block_has_the_date_the_device_and_what_was_not_measured(tmp_path):
    given = with_rates(rate("VGG", "0.5-400", "exact", 4e14))
    given["rates"] |= {key: {"left_out": "no time was left"} for key in ("a", "b")}
    given["pooling"] = {"all": {"error": "its process ended with exit code -11"}}
    text = block.markdown(Results(tmp_path, given), {}, "histojax accelerator --minutes=8")
    head, command, *_ = text.split("\n\n")
    assert head == (
        "## 2026-11-28: 1 x NVIDIA H100, 16 cores (x); driver 570.1, jax 0.10.2, cuDNN 9.8"
    )
    assert command == (
        "`histojax accelerator --minutes=8`, synthetic tissue of 2048 x 1536 px, 50 augmentations "
        "of 20 crops (crop mode hybrid: a pool of 24), random weights."
    )
    assert "| bfloat16 | 700 | 3000 |" in text
    row = "| VGG | 0.5-400 | exact | bfloat16 | 64 | 5 | 0.5 | 400 | 25 % | 50 % | 12.0 | 1.00 |"
    assert row in text
    assert "- rates, a, b: no time was left\n" in text
    assert "- pooling, all: its process ended with exit code -11\n" in text


def test_the_block_of_a_device_that_failed_says_so(tmp_path):
    given = {"machine": {"device": {"error": "RuntimeError: no CUDA"}}}
    text = block.markdown(Results(tmp_path, given), {}, "command")
    assert text.startswith("## Not measured\n")
    assert "- machine, device: RuntimeError: no CUDA" in text


def test_the_sizes_of_the_paper_are_the_protocols():
    paper, protocol = SIZES["paper"], Extraction()
    made = paper.extraction("exact", "float32", *protocol.encoders)
    assert made == Extraction(weights="random")


def finished(code, **written):
    def start(command, **options):
        assert options["env"]["CUDA_VISIBLE_DEVICES"] == "3"
        assert 1 <= options["timeout"] <= 60
        out = next(word[6:] for word in command if word.startswith("--out="))
        if not code:
            with open(out, "w") as file:
                json.dump(written, file)
        return subprocess.CompletedProcess(command, code, "torch is left out: none\n", "error: x")

    return start


def test_peers_are_timed_by_their_own_command(tmp_path, monkeypatch):
    rows = [{"peer": "keras", "ours_is_times_as_fast": 1.5}, {"peer": "ours"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(peers.subprocess, "run", finished(0, encoders=rows, machine={}))
    ((key, work),) = peers.of_peers("experiments", SIZES["small"], ["VGG"], tmp_path, 60)
    assert key == "VGG 96 px, 4 crops, float32"
    assert work() == {
        "times as fast as keras": 1.5,
        "peers": rows,
        "notes": ["torch is left out: none"],
    }
    assert not [*tmp_path.iterdir()]
    monkeypatch.setattr(peers.subprocess, "run", finished(1))
    with pytest.raises(InputError, match="error: x"):
        work()


def test_the_command_of_the_peers_has_flags_that_exist(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(peers, "_run", lambda command, *rest: commands.append(command))
    for _, work in peers.of_peers("experiments", SIZES["paper"], ["VGG"], tmp_path, 60):
        work()
    done = run("benchmark_peers", *commands[0][3:], "--help")
    assert done.returncode == 0, done.stderr
    for word in commands[0][3:]:
        assert word.split("=")[0].removeprefix("--") in done.stdout


@pytest.mark.parametrize(
    ("code", "seconds", "said"),
    [
        ("", 60, None),
        ("import sys; sys.exit(3)", 60, "its process ended with exit code 3"),
        ("import os; os.abort()", 60, "its process ended with exit code -6"),
        ("import time; time.sleep(60)", 0.2, "stopped after 0 s: its time was over"),
    ],
)
def test_the_end_of_an_items_process_is_told(code, seconds, said):
    assert budget.run_for([sys.executable, "-c", code], seconds) == said


def test_a_gpu_that_jax_does_not_see_is_not_passed_over(monkeypatch):
    assert describe.sizes("paper") == "paper"
    monkeypatch.setattr(describe, "driver", lambda: None)
    assert describe.sizes(None) == "small"
    monkeypatch.setattr(describe, "driver", lambda: "570.1")
    assert describe.sizes("small") == "small"
    with pytest.raises(InputError, match=r"NVIDIA driver \(570.1\), but JAX .* sees a CPU alone"):
        describe.sizes(None)


def test_a_folder_has_figures_of_one_device_and_size(tmp_path):
    here = {"kind": "cpu", "count": jax.local_device_count(), "sizes": "small"}
    here["versions"] = {"jax": jax.__version__}
    describe.require_same(Results(tmp_path, {"machine": {"device": here}}), "small")
    describe.require_same(Results(tmp_path, {}), "paper")
    with pytest.raises(InputError, match="sizes small, these would be of sizes paper: pass"):
        describe.require_same(Results(tmp_path, {"machine": {"device": here}}), "paper")
    gpu = Results(tmp_path, {"machine": {"device": here | {"kind": "NVIDIA H100"}}})
    with pytest.raises(InputError, match="has figures of kind NVIDIA H100, these would be of kind"):
        describe.require_same(gpu, "small")
    for change, said in (({"count": 99}, "count 99"), ({"versions": {"jax": "0.9"}}, "jax 0.9")):
        other = Results(tmp_path, {"machine": {"device": here | change}})
        with pytest.raises(InputError, match=f"has figures of {said}, these would be of"):
            describe.require_same(other, "small")


def test_nothing_is_added_to_the_figures_of_another_device(tmp_path, monkeypatch):
    figures = Results(tmp_path, {})
    figures.add("machine", "device", DEVICE)
    before = (tmp_path / "accelerator.json").read_text()
    commands = []

    def refuse(command, seconds):
        commands.append(command)
        return budget.REFUSED

    monkeypatch.setattr(budget, "run_for", refuse)
    done = run("accelerator", f"--out={tmp_path}", "--items=peers")
    assert done.returncode == 1
    assert "cannot be measured: its process ended with exit code 1" in done.stderr
    assert len(commands) == 1
    assert (tmp_path / "accelerator.json").read_text() == before


@pytest.mark.parametrize(
    ("takes", "left_out"), [(1, []), (500, [("rates", "all", "no time was left")])]
)
def test_what_an_item_failed_of_is_forgotten_when_it_is_measured_again(
    tmp_path, monkeypatch, takes, left_out
):
    figures, now = Results(tmp_path, {}), [0.0]
    figures.add("machine", "device", DEVICE)
    figures.add("rates", "all", {"error": "stopped"})

    def measured(command, seconds):
        now[0] += takes

    monkeypatch.setattr(budget, "run_for", measured)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    done = run("accelerator", f"--out={tmp_path}", "--items=rates")
    assert done.returncode == 0, done.stderr
    assert Results.read(tmp_path).missing() == left_out


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ({name: {"xla": 1.1, "pallas": 1.0} for name in ENCODERS}, "pallas"),
        ({name: {"xla": 1.0, "pallas": 1.1} for name in ENCODERS}, "xla"),
        # One that failed is never chosen; one without time leaves the default as it was.
        ({name: {"xla": 1.1, "pallas": 1.0} for name in ENCODERS} | {"VGG": {"error": "x"}}, "xla"),
        (
            {name: {"xla": 1.1, "pallas": 1.0} for name in ENCODERS} | {"VGG": {"left_out": "x"}},
            None,
        ),
    ],
)
def test_the_choice_of_pooling_needs_every_encoder_at_the_papers_sizes(tmp_path, rows, chosen):
    from experiments.measuring import job, pooling

    measured = {f"{name} 0.5-400 exact bfloat16": row for name, row in rows.items()}
    found = Results(tmp_path, {"pooling": measured})
    cache = {"runtime": Runtime(cache=tmp_path)}
    work = job.Job("paper", ENCODERS, found, **cache)
    if chosen:
        assert pooling._choose(work, "bfloat16")["pooling"] == chosen
        remembered = pooling_choice.recall(tmp_path, jax.local_devices())
        assert remembered["pooling"] == chosen
        (tmp_path / pooling_choice.REMEMBERED).unlink()
    else:
        with pytest.raises(InputError, match="which was not measured"):
            pooling._choose(work, "bfloat16")
    assert not (tmp_path / pooling_choice.REMEMBERED).exists()
    few = job.Job("paper", ("ResNet",), found, **cache), job.Job("small", ENCODERS, found, **cache)
    assert not any(each.decides for each in few)


def test_programs_take_turns_and_a_ratio_is_the_median_of_the_rounds(monkeypatch):
    from experiments.measuring import presets, turns

    order = []
    times = turns.take_turns({way: functools.partial(order.append, way) for way in "ab"}, each=2)
    assert [len(times[way]) for way in "ab"] == [turns._MOST_ROUNDS] * 2
    assert "".join(order).startswith("ab" + "aabb" + "bbaa" + "aabb")
    times = {"none": [4.0, 4.0, 4.0], "nhwc": [1.0, 2.0, 3.0]}
    assert turns.times_as_fast(times, "nhwc", "none") == 2
    monkeypatch.setattr(turns, "take_turns", lambda calls: {**dict.fromkeys(calls), **times})
    monkeypatch.setattr(turns, "program", lambda *arguments: (None, 8))
    work = types.SimpleNamespace(runtime=Runtime())
    row = presets._times(work, "float32", "VGG", "nhwc")
    assert (row["none"], row["preset"], row["times_as_fast_with_preset"]) == (4, 2, 2)


def test_what_a_device_does_before_the_network():
    stages = {"decode": 9.0, "resize": 0.1, "normalise": 0.2, "crop": 0.3, "augment": 0.4}
    stages |= {"trunk": 8.0, "taps and pooling": 1.0, "write": 9.0}
    assert items.preprocessing_share(stages) == pytest.approx(0.1)


def test_the_block_has_pooling_peers_images_and_projection(tmp_path):
    pooling = {"xla": 0.5, "pallas": 0.25, "times_as_fast_with_pallas": 2.0}
    found = {
        "machine": {"device": DEVICE},
        "pooling": {
            "agreement": {"difference float32": 2e-7},
            "VGG 0.5-400 exact bfloat16": pooling,
            "choice": {"pooling": "pallas", "remembered": "in x"},
        },
        "presets": {"nhwc VGG": {"none": 0.4, "preset": 0.5, "times_as_fast_with_preset": 0.8}},
        "peers": {
            "VGG 400 px": {
                "peers": [
                    {"peer": "torch", "median_ms": 8, "per_second": 9, "ours_is_times_as_fast": 2},
                    {"peer": "ours", "median_ms": 4, "per_second": 18, "ours_is_times_as_fast": 1},
                ],
                "notes": ["keras is left out: none"],
            }
        },
        "images": {
            "hybrid bfloat16": {
                "mode": "hybrid",
                "precision": "bfloat16",
                "images": 20,
                "seconds": 4.0,
                "seconds_of_programs": 1.0,
                "seconds_waited_for_decoding": 0.5,
                "idle_share": 0.75,
            },
            "stages VGG": {"preprocessing_share": 0.031, "stages": {"decode": 0.05, "trunk": 0.5}},
        },
    }
    rates = with_rates(rate("VGG", "0.5-400", "exact", 4e14), rate("ResNet", "x", "exact", 1e14))
    text = block.markdown(Results(tmp_path, found), projection.project(rates), "command")
    for line in (
        "| VGG 0.5-400 exact bfloat16 | 500 | 250 | 2.00 x |",
        "Relative difference: float32 2.0e-07.",
        "Default of `--pooling`: pallas; remembered in x.",
        "| nhwc VGG | 400 | 500 | 0.80 x |",
        "| encoder | peer | median, ms | crops/s | ours, times as fast |",
        "| VGG 400 px | torch | 8 | 9 | 2.00 x |",
        "| VGG 400 px | ours | 4 | 18 |  |",
        "- keras is left out: none",
        "| hybrid | bfloat16 | 20 | 4 | 1 | 0.5 | 75 % |",
        "Seconds an image, stages VGG: decode 0.05, trunk 0.5. Before the network: 3.1 %.",
        "- exact, bfloat16: extraction 20 min of programs (from rates of other crop sizes). Bound",
        "- 300 models on 16 cores, from seconds measured elsewhere: 17 min with the paper's",
    ):
        assert line in text, line
    assert "Not measured" not in text
