"""accelerator.md: the figures as a block of Markdown for docs/performance.md."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .projection import AUGMENTATIONS, CONFIGURATIONS, IMAGES, MODELS
from .results import Results

_Row = Mapping[str, Any]
_REASON_LENGTH = 200


def markdown(results: Results, projected: Mapping[str, Any], command: str) -> str:
    """The block; parts that were not measured are left out, and listed at its end."""
    device = results.rows("machine").get("device")
    head = f"## {device['date'][:10]}: {machine_text(device)}" if device else "## Not measured"
    parts = [head, f"`{command}`, {_work_text(device)}random weights."]
    parts += _peaks(results.rows("machine"))
    parts += _rates(results.rows("rates").values())
    parts += _parity(results.rows("parity").values())
    parts += _pooling(results.rows("pooling"))
    parts += _transformers(results.rows("transformers").values())
    parts += _peers(results.rows("peers"))
    parts += _images(results.rows("images"))
    parts += _presets(results.rows("presets"))
    parts += _projection(projected)
    parts += _missing(results.missing())
    return "\n\n".join(parts) + "\n"


def machine_text(device: _Row) -> str:
    """Device, processor and versions in one line."""
    versions = device["versions"]
    named = [
        f"{label} {versions[package]}"
        for package, label in (
            ("jax", "jax"),
            ("jaxlib", "jaxlib"),
            ("nvidia-cudnn-cu12", "cuDNN"),
            ("nvidia-cudnn-cu13", "cuDNN"),
            ("libtpu", "libtpu"),
            ("torch", "PyTorch"),
            ("keras", "Keras"),
            ("transformers", "transformers"),
        )
        if package in versions
    ]
    driver = [f"driver {device['driver']}"] if device.get("driver") else []
    chips = f"{device['count']} x {device['kind']}, {device['cores']} cores ({device['cpu']})"
    return "; ".join([chips, ", ".join([*driver, *named])])


def _work_text(device: _Row | None) -> str:
    """The sizes of rates, pooling and images."""
    if not device:
        return ""
    work, (height, width) = device["work"], device["work"]["image"]
    return (
        f"synthetic tissue of {width} x {height} px, {work['augmentations']} augmentations of "
        f"{work['crops']} crops (crop mode hybrid: a pool of {work['pool_crops']}), "
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _peaks(machine: Mapping[str, _Row]) -> list[str]:
    rows = [
        [key.removeprefix("peak "), f"{row['operations'] / 1e12:.4g}", f"{row['bytes'] / 1e9:.4g}"]
        for key, row in machine.items()
        if key.startswith("peak ")
    ]
    headings = ["precision", "matrix product, TFLOP/s", "copy, GB/s"]
    return ["Measured peaks:", table(headings, rows)] if rows else []


def _rates(rates: Iterable[_Row]) -> list[str]:
    rows = [
        [
            row["encoder"],
            "+".join(row["views"]),
            row["mode"],
            row["precision"],
            f"{row['per_step']}",
            f"{row['crops_per_second']:.4g}",
            f"{row['images_per_second']:.3g}",
            f"{row['operations_per_second'] / 1e12:.3g}",
            f"{100 * row['share_of_peak']:.0f} %",
            f"{100 * row['share_of_roofline']:.0f} %",
            f"{row['compile_seconds']:.1f}",
            f"{row['memory'] / 2**30:.2f}",
        ]
        for row in rates
    ]
    headings = ["encoder", "view", "mode", "precision", "a step", "crops/s", "images/s", "TFLOP/s"]
    headings += ["of peak", "of roofline", "compile, s", "memory, GiB"]
    return ["Rates of whole programs:", table(headings, rows)] if rows else []


def _transformers(transformers: Iterable[_Row]) -> list[str]:
    rows = [
        [
            row["encoder"],
            row["precision"],
            f"{row['crops']}",
            f"{row['crops_per_second']:.4g}",
            f"{row['operations_per_second'] / 1e12:.3g}",
            f"{100 * row['share_of_peak']:.0f} %",
            f"{row['compile_seconds']:.1f}",
            f"{row['weights'] / 2**30:.2f}",
            f"{row['memory'] / 2**30:.2f}",
        ]
        for row in transformers
    ]
    headings = ["encoder", "precision", "crops a device", "crops/s", "TFLOP/s", "of peak"]
    headings += ["compile, s", "weights, GiB", "memory beside, GiB"]
    return ["Vision transformers, crops of their input size:", table(headings, rows)] * bool(rows)


def _parity(parity: Iterable[_Row]) -> list[str]:
    rows = [
        [
            row["encoder"],
            "+".join(row["views"]),
            row["mode"],
            row["precision"],
            ", ".join(f"{tap} {error:.1e}" for tap, error in row["errors"].items()),
        ]
        for row in parity
    ]
    headings = ["encoder", "view", "mode", "precision", "relative error by tap"]
    title = "Descriptors against the same machine's CPU in float32:"
    return [title, table(headings, rows)] if rows else []


def _pooling(pooling: Mapping[str, _Row]) -> list[str]:
    rows = _turns(pooling, "xla", "pallas")
    parts = ["The fused pooling kernel against XLA's pooling:"] if pooling else []
    if rows:
        parts.append(table(["what", "XLA, ms", "kernel, ms", "with the kernel"], rows))
    if agreement := pooling.get("agreement"):
        differences = [
            f"{key.removeprefix('difference ')} {value:.1e}"
            for key, value in agreement.items()
            if key.startswith("difference ")
        ]
        parts.append(f"Relative difference: {', '.join(differences)}.")
    if choice := pooling.get("choice"):
        parts.append(
            f"Default of `--pooling`: {choice['pooling']}; remembered {choice['remembered']}."
        )
    return parts


def _turns(measured: Mapping[str, _Row], one: str, other: str) -> list[list[str]]:
    """Milliseconds of two ways that took turns, and how many times as fast the other is."""
    return [
        [
            key,
            f"{1e3 * row[one]:.4g}",
            f"{1e3 * row[other]:.4g}",
            f"{row[f'times_as_fast_with_{other}']:.2f} x",
        ]
        for key, row in measured.items()
        if one in row
    ]


def _presets(presets: Mapping[str, _Row]) -> list[str]:
    rows = _turns(presets, "none", "preset")
    headings = ["what", "none, ms", "preset, ms", "with the preset"]
    return ["XLA's flags (`--xla_preset`) against none:", table(headings, rows)] if rows else []


def _peers(peers: Mapping[str, _Row]) -> list[str]:
    rows, notes = [], []
    for key, measured in peers.items():
        notes += measured["notes"]
        for row in measured["peers"]:
            ratio = row["ours_is_times_as_fast"]
            shown = f"{ratio:.2f} x" if ratio and row["peer"] != "ours" else ""
            rate = f"{row['per_second']:.4g}"
            rows.append([key, row["peer"], f"{row['median_ms']:.4g}", rate, shown])
    if not rows:
        return []
    headings = ["encoder", "peer", "median, ms", "crops/s", "ours, times as fast"]
    parts = ["Beside others, alternating:", table(headings, rows)]
    return [*parts, *(f"- {note}" for note in dict.fromkeys(notes))]


def _images(images: Mapping[str, _Row]) -> list[str]:
    whole = [row for row in images.values() if "idle_share" in row]
    rows = [
        [
            row["mode"],
            row["precision"],
            f"{row['images']}",
            f"{row['seconds']:.3g}",
            f"{row['seconds_of_programs']:.3g}",
            f"{row['seconds_waited_for_decoding']:.2g}",
            f"{100 * row['idle_share']:.0f} %",
        ]
        for row in whole
    ]
    headings = ["mode", "precision", "images", "seconds", "of programs", "waited for decoding"]
    parts = ["From image files to descriptors, all encoders and views, compiled before:"]
    parts = [*parts, table([*headings, "idle"], rows)] if rows else []
    for key, row in images.items():
        if "stages" in row:
            shown = ", ".join(f"{stage} {value:.3g}" for stage, value in row["stages"].items())
            share = f"{100 * row['preprocessing_share']:.1f} %"
            parts.append(f"Seconds an image, {key}: {shown}. Before the network: {share}.")
    return parts


def _projection(projected: Mapping[str, Any]) -> list[str]:
    parts = []
    for mode in ("exact", "hybrid"):
        if mode not in projected:
            continue
        row = projected[mode]
        whole = row["seconds_end_to_end"]
        text = f"- {mode}, {row['precision']}: extraction {duration(row['seconds'])} of programs"
        text += f", {duration(whole)} with what devices wait for" if whole else ""
        if checks := row.get("seconds_of_checks"):
            text += f", and {duration(checks)} for checks of 5 % of the images"
        text += " (from rates of other crop sizes)" if row["from_other_sizes"] else ""
        parts.append(f"{text}. Bound: {row['bound']}.")
    if parts and (trees := projected.get("trees")):
        paper, fast = duration(trees["paper"]), duration(trees["fast"])
        parts.append(
            f"- {MODELS} models on {trees['cores']} cores, from seconds measured elsewhere: "
            f"{paper} with the paper's trees, {fast} with fast ones."
        )
    if not parts:
        return []
    measured = max(row.get("configurations", 0) for row in projected.values())
    title = (
        f"The paper projected, {IMAGES} images x {AUGMENTATIONS} augmentations x 20 crops x "
        f"{measured} of {CONFIGURATIONS} configurations:"
    )
    return [title, "\n".join(parts)]


def duration(seconds: float) -> str:
    """Such as `41 s` or `12.5 min`."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 6000:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 3.6e6 else f"{seconds / 3600:.0f} h"


def _missing(missing: Iterable[tuple[str, str, str]]) -> list[str]:
    """What was left out or failed, by item and reason."""
    keys = collections.defaultdict(list)
    for item, key, why in missing:
        keys[item, " ".join(why.split())[:_REASON_LENGTH]].append(key)
    lines = [f"- {item}, {', '.join(named)}: {why}" for (item, why), named in keys.items()]
    return ["Not measured:", "\n".join(lines)] if lines else []
