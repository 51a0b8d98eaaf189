"""What a GPU or TPU does: peaks, agreement, rates, peers, the paper projected.

histojax accelerator                                    8 minutes; figures in runs/accelerator
histojax accelerator --minutes=4 --out=OUT --encoders=VGG
histojax accelerator --minutes=12 --items=transformers,peers    vision transformers, and PyTorch's
python -m experiments.accelerator                       the same, where nothing can be installed

Measures what --items lists, in order of value, on synthetic tissue with random weights; needs no
network, and of packages jax, flax, absl-py, numpy, scikit-image and h5py. PyTorch and Keras are
timed where installed. Each figure is written to OUT/accelerator.json at once, so a run that is cut
off has told what it measured, and the same command goes on there (for new figures, and for other
devices or another JAX, take another --out). OUT/accelerator.md is a block for docs/performance.md,
with date, device and versions of all figures; OUT/roofline.png is drawn where matplotlib is.

Time: each item gets a share of what is left, and what it does not use goes to the next ones. Within
an item the last measurements are dropped first: of rates float32, then tf32, and in a precision the
larger crops. Each item has a process of its own, stopped at twice its time, so that no crash, hang
or lack of memory costs more than an item; what fails is recorded with its error. Compiled programs
are kept in OUT/compiled (or where JAX_COMPILATION_CACHE_DIR says), so a compilation, which has
XLA's autotuning in it, is counted where it happens first.

Rates are medians of five calls, after one that is not counted, each until the device has finished;
calls of more than 3 s are timed once. TFLOP/s counts two operations for each multiply-add of the
convolutions and matrix products of the encoder that a program runs, over the time of the whole
program, in crop mode hybrid those of its fewer crops and passes. Shares are of the peak measured in
the same run and precision; the roofline is that of each layer. Parity compares descriptors with
those of the same machine's CPU in float32, from the same image, through all of the pipeline, so a
grey level rounded otherwise is in it.

What is compared, peers, kernel and flags, takes turns, in alternating order; a ratio is the median
of the rounds' ratios, so that other work on the machine moves it little.

Where every encoder is faster with the fused pooling kernel, by 2 % or more of the whole program at
the paper's sizes, it becomes the default of --pooling on devices of this kind and this version of
JAX (pooling.json in the cache); extraction says so when it uses it.

On a CPU it takes small sizes (--sizes): good for a test of the command, not for figures.
"""

import os
import sys
import time
from pathlib import Path

from absl import flags

from histojax import config
from histojax.config import Option
from histojax.errors import InputError
from histojax.utils import files

from . import runner
from .flag_types import define, define_path
from .measuring import block, budget, peers
from .measuring.budget import Item
from .measuring.projection import project
from .measuring.results import FILE, Results, measure
from .measuring.sizes import SIZES

FLAGS = flags.FLAGS

flags.DEFINE_float("minutes", 8.0, "Minutes for everything.", lower_bound=0.1)
define("out", Path, Option("Folder for the figures."), Path("runs/accelerator"))
what = "; ".join(f"{item.name}: {item.what}" for item in budget.ITEMS)
define(
    "items",
    tuple[str, ...],
    Option(f"What to measure, in this order. {what}.", choices=budget.NAMES),
    budget.NAMES,
)
define(
    "encoders",
    tuple[str, ...],
    Option("Encoders to measure.", choices=config.ENCODERS),
    config.ENCODERS,
)
define(
    "sizes",
    str,
    Option(
        "Sizes of images and crops: the paper's, or small ones. Default: paper, and small on a "
        "CPU.",
        choices=tuple(SIZES),
    ),
)
define_path("trace", "Folder to write a profiler trace of each encoder to, at the end.")
define(
    "item",
    str,
    Option("Used by the command itself: measure this item alone.", choices=budget.CHILDREN),
)
flags.DEFINE_float("seconds", 60.0, "Used by the command itself: time of --item.")


def main() -> None:
    if FLAGS.item:
        measure_item(FLAGS.item, FLAGS.seconds)
        return
    start = time.monotonic()
    for folder in (FLAGS.out, FLAGS.trace):
        if folder is not None:
            files.require_writable(folder)
    # What others build on comes first, and tells whether the device is the same as before.
    items = [item for item in budget.ITEMS if item.name in ("machine", *FLAGS.items)]
    items += [budget.TRACE] if FLAGS.trace else []
    for i, item in enumerate(items):
        left = 60 * FLAGS.minutes - (time.monotonic() - start)
        results = Results.read(FLAGS.out)
        if i == 1 and not FLAGS.sizes and results.row("machine", "device")["platform"] == "cpu":
            print("JAX sees no GPU or TPU: small sizes, which test this command and no more")
        if left <= 0:
            results.add(item.name, "all", {"left_out": "no time was left"})
        else:
            run(item, *budget.limits(left, items[i:]))
        summarize(FLAGS.out)
    print(f"{FLAGS.out / FILE}, {FLAGS.out / 'accelerator.md'}")
    draw(Results.read(FLAGS.out))


def run(item: Item, seconds: float, most: float) -> None:
    """Measures an item in a process of its own; whatever ends it is recorded.

    Args:
      item: what to measure.
      seconds: after which it begins nothing more.
      most: seconds after which it is stopped.

    Raises:
      InputError: the device cannot be used at all, or is not that of the figures in OUT.
    """
    results = Results.read(FLAGS.out)
    results.remove(item.name, "all")
    print(f"{item.name}: {seconds:.0f} s for {item.what}", flush=True)
    if item.name == "peers":
        sizes = SIZES[results.row("machine", "device")["sizes"]]
        names = (*FLAGS.encoders, *sizes.transformers * ("transformers" in FLAGS.items))
        work = peers.of_peers(__package__, sizes, names, FLAGS.out, most)
        measure(item.name, work, results, seconds)
        return
    failure = run_process(item.name, seconds, most)
    if item.name == "machine":
        known = "device" in Results.read(FLAGS.out).rows("machine")
        if not known or failure == budget.REFUSED:  # Or OUT has figures of another device.
            raise InputError(f"the device cannot be measured: {failure or 'see above'}")
    if failure:
        Results.read(FLAGS.out).add(item.name, "all", {"error": failure})
        print(f"{item.name}: {failure}", flush=True)


def run_process(item: str, seconds: float, most: float) -> str | None:
    """This command for one item; says what went wrong, if anything."""
    command = [sys.executable, "-m", f"{__package__}.accelerator"]
    values = {"item": item, "seconds": seconds, "out": FLAGS.out, "sizes": FLAGS.sizes}
    values |= {"trace": FLAGS.trace, "encoders": ",".join(FLAGS.encoders)}
    command += [f"--{name}={value}" for name, value in values.items() if value is not None]
    return budget.run_for(command, most)


def measure_item(name: str, seconds: float) -> None:
    """Measures one item in this process, on all local devices."""
    # Not above: the process that starts these has no JAX.
    from histojax.extraction import compiled, devices

    devices.split_cpu()
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        compiled.keep(FLAGS.out / "compiled")
    measure_here(name, seconds)


def measure_here(name: str, seconds: float) -> None:
    """Measures one item with JAX as it is set up; InputError where OUT is of another device."""
    from .measuring import describe, items, job

    results = Results.read(FLAGS.out)
    sizes = describe.sizes(FLAGS.sizes)
    describe.require_same(results, sizes)
    work = job.Job(sizes, FLAGS.encoders, results, FLAGS.trace)
    measure(name, items.MEASUREMENTS[name](work), results, seconds)


def summarize(out: Path) -> None:
    """Writes the projection and the block of Markdown from what there is."""
    results = Results.read(out)
    measured = {item: results.rows(item) for item in results.items}
    projected = project(measured)
    results.items["projection"] = projected
    files.write_json(out / FILE, results.items)
    files.write_text(out / "accelerator.md", block.markdown(results, projected, command()))


def command() -> str:
    """This command, as it is typed, with what was asked for."""
    text = f"histojax accelerator --minutes={FLAGS.minutes:g}"
    for name in ("items", "encoders", "sizes"):
        if FLAGS[name].present:
            value = FLAGS[name].value
            text += f" --{name}={value if isinstance(value, str) else ','.join(value)}"
    return text


def draw(results: Results) -> None:
    """Draws the roofline, where matplotlib is and there are rates."""
    rates = list(results.rows("rates").values())
    if not rates:
        return
    try:
        from histojax.report import figures, roofline
    except ImportError as error:
        print(f"the roofline is not drawn: {error}")
        return
    machine = results.rows("machine")
    peaks = {key[5:]: row for key, row in machine.items() if key.startswith("peak ")}
    profile = {"machine": block.machine_text(machine["device"]), "peaks": peaks, "rows": rates}
    figures.save_all(results.folder, {"roofline": roofline.draw_roofline(profile)})
    print(results.folder / "roofline.png")


if __name__ == "__main__":
    runner.run(main, __doc__)
