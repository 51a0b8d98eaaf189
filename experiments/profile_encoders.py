"""How near the encoders are to the limit of this machine.

histojax profile_encoders --out=OUT                each encoder and crop size, both crop modes
histojax profile_encoders --out=OUT --encoders=VGG --precisions=float32,bfloat16 --trace=TRACE

Shows rates, shares of the machine's peak, stages and errors. Each program runs as extraction runs
it, on a rendered image of --height x --width, with random weights, or those of --weights. The peak
is that of a large matrix product in the same precision, the bandwidth that of a large copy, both in
the same run. Prints tables; writes OUT/profile.json and, where matplotlib is installed,
OUT/roofline.png (--figure_only draws it later from OUT/profile.json); with --trace a profiler trace
whose scopes are the stages (open it with xprof or Perfetto). Needs jax, flax, absl-py, numpy,
scikit-image and h5py, no more. Some minutes on two cores.

step: crops at a time; images/s: with all augmentations and crops of the protocol, TFLOP: of the
network for one; peak: share of the matrix product's rate; roof: share of the roofline, layer by
layer; MiB: memory beside weights and image; error: the largest of a tap against the published
network in float32, on the same crops. (How near crop mode hybrid is to exact is another question:
see histojax compare_crop_modes.) Run it on an idle machine: shares above 100 % say that it was not.
"""

import dataclasses
import datetime
import platform

import jax
import numpy as np
from absl import flags

from histojax import encoders
from histojax.config import CROP_MODES, PRECISIONS, Extraction, Option, Runtime
from histojax.datasets import synthetic
from histojax.errors import InputError
from histojax.extraction import loaded_encoders, pooling_choice, profiling
from histojax.extraction.engine import Engine
from histojax.images.padding import PaddedImage, bucket, scaled_size
from histojax.utils import files

from . import computing, protocol, runner
from .flag_types import define, define_path

FLAGS = flags.FLAGS

protocol.define_preset("extraction")
computing.define_runtime("xla_preset")
define("modes", tuple[str, ...], Option("Crop modes to profile.", choices=CROP_MODES), CROP_MODES)
define(
    "precisions",
    tuple[str, ...],
    Option(
        "Precisions to profile. Default: float32, and all three on an accelerator.",
        choices=PRECISIONS,
    ),
)
text = "Height of the image in pixels, rounded up to the shape it is padded to."
flags.DEFINE_integer("height", 1536, text, lower_bound=64)
flags.DEFINE_integer("width", 2048, "Width of the image, as --height.", lower_bound=64)
define_path("out", "Folder to write the profile to.", required=True)
define_path("trace", "Folder to write a profiler trace to.")
flags.DEFINE_bool(
    "figure_only", False, "Draw OUT/roofline.png from OUT/profile.json, and measure nothing."
)

HEADER = (
    "encoder   crops                 mode   precision step compile  crops/s images/s   TFLOP  "
    "TFLOP/s  peak  roof  MiB error"
)


def main() -> None:
    if FLAGS.figure_only:
        draw(FLAGS.out)
        return
    runtime = computing.runtime()
    extraction = protocol.from_flags("extraction").extraction
    if FLAGS.weights is None:
        extraction = dataclasses.replace(extraction, weights="random")
    size = bucket(FLAGS.height), bucket(FLAGS.width)
    check_flags(extraction, size)
    cpu = jax.default_backend() == "cpu"
    precisions = FLAGS.precisions or (("float32",) if cpu else PRECISIONS)
    rgb = synthetic.render("Benign", 0, *size)
    image = PaddedImage(files.Path("profile"), rgb, size, digest="")
    published = (encoders.get(name, extraction.resnet_variant) for name in extraction.encoders)
    unfolded = {
        encoder.name: (encoder, loaded_encoders.weights_of(encoder, extraction, runtime).variables)
        for encoder in published
    }

    print(f"{machine_text()}; image {size[1]} x {size[0]} px", flush=True)
    measured, rows, stages = {}, [], {}
    for precision in precisions:
        machine = Engine.of(runtime)
        peak = measured[precision] = profiling.peak(machine, precision)
        print(
            f"{precision}: matrix product {peak.operations / 1e12:.3g} TFLOP/s, "
            f"copy {peak.bytes / 1e9:.3g} GB/s"
        )
        print(HEADER)
        for mode in FLAGS.modes:
            asked = dataclasses.replace(extraction, crop_mode=mode, precision=precision)
            loaded = loaded_encoders.fold_encoders(asked, runtime)
            machine = machine_for(asked, runtime)
            for row in profiling.rows(machine, loaded, unfolded, asked, image, peak):
                rows.append(row)
                print(line(row), flush=True)
            print_errors(rows, mode, precision)
        asked = dataclasses.replace(extraction, precision=precision)
        stages[precision] = stage_table(machine, asked, runtime, rgb)
    write(FLAGS.out, measured, rows, stages)
    draw(FLAGS.out)
    if FLAGS.trace:
        profiling.trace(machine, extraction, runtime, image, FLAGS.trace)
        print(f"trace: {FLAGS.trace}")


def check_flags(extraction: Extraction, size: tuple[int, int]) -> None:
    """Raises InputError where flags are not for the profile or views do not fit into the image."""
    for name in ("crop_mode", "precision"):
        if FLAGS[name].value is not None:
            raise InputError(f"--{name} is not for the profile: it takes --modes and --precisions")
    if extraction.crop_layout != "random":
        raise InputError("--crop_layout is not for the profile: it times random crops")
    if "hybrid" in FLAGS.modes:
        chosen = [encoders.get(name) for name in extraction.encoders if name in encoders.ENCODERS]
        loaded_encoders.require_maps(chosen, "mode hybrid takes windows of", "pass --modes=exact")
    for mode in FLAGS.modes:
        loaded_encoders.check(dataclasses.replace(extraction, crop_mode=mode), "xla")
    for folder in (FLAGS.out, FLAGS.trace):
        if folder is not None:
            files.require_writable(folder)
    for view in extraction.views:
        if min(scaled_size(size, view.scale)) < view.crop_size:
            raise InputError(
                f"view {view.name} does not fit into {size[1]} x {size[0]} px: choose other --views"
            )


def machine_for(extraction: Extraction, runtime: Runtime) -> Engine:
    """All local devices; the fused kernel, where it is chosen, in crop mode exact."""
    if extraction.crop_mode == "hybrid":
        runtime = dataclasses.replace(runtime, pooling="xla")
    return Engine.of(pooling_choice.resolve(extraction, runtime))


def line(row: profiling.Row) -> str:
    """A row of the table."""
    return (
        f"{row.encoder:9} {'+'.join(row.views):22} {row.mode:6} {row.precision:9} {row.per_step:4} "
        f"{row.compile_seconds:6.1f}s {row.crops_per_second:8.3g} {row.images_per_second:8.3g} "
        f"{row.operations / 1e12:7.3g} "
        f"{row.operations_per_second / 1e12:8.3g} {row.share_of_peak:5.0%} "
        f"{row.share_of_roofline:5.0%} {row.memory / 2**20:5.0f} {row.largest_error:7.1e}"
    )


def print_errors(rows: list[profiling.Row], mode: str, precision: str) -> None:
    """The errors of this mode's and precision's rows, tap by tap."""
    for row in rows:
        if (row.mode, row.precision) == (mode, precision):
            errors = ", ".join(f"{tap} {error:.1e}" for tap, error in row.errors.items())
            print(f"  error of {row.encoder} {row.views[0]} {mode} {precision} by tap: {errors}")


def stage_table(
    machine: Engine, extraction: Extraction, runtime: Runtime, image: np.ndarray
) -> dict[str, dict[str, float]]:
    """Prints and returns the seconds of each stage by encoder, for the first view."""
    view, tables = extraction.views[0], {}
    print(
        "seconds an image by stage, each timed by itself, crop mode exact, "
        f"{view.name}, {extraction.precision}:"
    )
    for name, loaded in loaded_encoders.fold_encoders(extraction, runtime).items():
        table = tables[name] = profiling.stages(machine, loaded, extraction, view, image)
        seconds = ", ".join(f"{stage} {value:.3g}" for stage, value in table.items())
        print(f"  {name:9} {seconds}", flush=True)
    return tables


def machine_text() -> str:
    """What it ran on."""
    local = jax.local_devices()
    devices = f"{len(local)} x {local[0].device_kind}"
    return f"{datetime.date.today()}, {devices}, jax {jax.__version__}, {platform.machine()}"


def write(
    out: files.Path,
    measured: dict[str, profiling.Peak],
    rows: list[profiling.Row],
    stages: dict[str, dict],
) -> None:
    """Writes OUT/profile.json."""
    peaks = {precision: dataclasses.asdict(peak) for precision, peak in measured.items()}
    profile = {"machine": machine_text(), "peaks": peaks}
    profile |= {"rows": [dataclasses.asdict(row) for row in rows], "stages": stages}
    files.write_json(out / "profile.json", profile)
    print(out / "profile.json")


def draw(out: files.Path) -> None:
    """Draws OUT/roofline.png from OUT/profile.json, where matplotlib is installed."""
    try:
        from histojax.report import figures, roofline  # The rest runs without matplotlib.
    except ImportError as error:
        print(
            f"{out / 'roofline.png'} is not drawn ({error}). Where matplotlib is installed, run "
            f"histojax profile_encoders --out={out} --figure_only"
        )
        return
    profile = files.read_json(out / "profile.json", ("machine", "peaks", "rows"))
    figures.save_all(out, {"roofline": roofline.draw_roofline(profile)})
    print(out / "roofline.png")


if __name__ == "__main__":
    runner.run(main, __doc__)
