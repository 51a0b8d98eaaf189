"""The paper's whole extraction and training, projected from the rates that were measured.

400 images x 50 augmentations x 20 crops x 6 configurations, and 300 models. Arithmetic alone: it
takes the rates to hold for all images, and the trees' seconds from docs/performance.md.
"""

from collections.abc import Mapping
from typing import Any

IMAGES, AUGMENTATIONS, CONFIGURATIONS, MODELS = 400, 50, 6, 300
# Crop mode hybrid computes an augmentation of these images exactly too, to state its error.
CHECKED = 0.05
# Processor seconds of a model: `histojax benchmark_boost`, docs/performance.md, 2026-11-28, one
# core of an AMD EPYC.
TREES = {"paper": 54.5, "fast": 4.9}
MODES = ("exact", "hybrid")

Items = Mapping[str, Mapping[str, Mapping[str, Any]]]


def project(items: Items) -> dict[str, dict[str, Any]]:
    """The projection by mode, where every encoder has a rate, and of trees.

    Args:
      items: of `Results`, those that were measured.

    Returns:
      By `exact` and `hybrid`: precision; how many configurations were measured; seconds of the
      programs by encoder and in all; whether a rate of another crop size was taken; seconds with
      what the devices waited for, where images were extracted end to end; what bounds it. By
      `trees`: seconds on this machine's cores.
    """
    projected = {}
    for mode in MODES:
        row = _extraction(items, mode)
        if row:
            projected[mode] = row
    if "hybrid" in projected and "exact" in projected:
        checks = CHECKED / AUGMENTATIONS * projected["exact"]["seconds"]
        projected["hybrid"]["seconds_of_checks"] = checks
    if device := items.get("machine", {}).get("device"):
        projected["trees"] = {
            name: seconds * MODELS / device["cores"] for name, seconds in TREES.items()
        } | {"cores": device["cores"]}
    for mode in MODES:
        if mode in projected:
            projected[mode]["bound"] = bound(projected[mode], projected.get("trees"))
    return projected


def _extraction(items: Items, mode: str) -> dict[str, Any] | None:
    """Of one mode, in the first precision in which every encoder has a rate; None without one."""
    machine = items.get("machine", {})
    counted = [row for key, row in machine.items() if key.startswith("operations ")]
    wanted = {
        tuple(key.split()): n
        for row in counted
        for key, n in row.items()
        if key.split()[-1] == mode
    }
    rates = [row for row in items.get("rates", {}).values() if row["mode"] == mode]
    for precision in dict.fromkeys(row["precision"] for row in rates):
        by_encoder, other_sizes, shares = {}, False, {}
        for (encoder, views, _), operations in wanted.items():
            own = [r for r in rates if (r["encoder"], r["precision"]) == (encoder, precision)]
            if not own:
                break
            row = next((r for r in own if "+".join(r["views"]) == views), own[0])
            other_sizes |= "+".join(row["views"]) != views
            seconds = IMAGES * operations / row["operations_per_second"]
            by_encoder[encoder] = by_encoder.get(encoder, 0.0) + seconds
            shares[encoder] = row["share_of_roofline"]
        else:
            if by_encoder:
                end_to_end = items.get("images", {}).get(f"{mode} {precision}")
                return {
                    "precision": precision,
                    "configurations": sum(len(views.split("+")) for _, views, _ in wanted),
                    "seconds_by_encoder": by_encoder,
                    "seconds": sum(by_encoder.values()),
                    "from_other_sizes": other_sizes,
                    "share_of_roofline": shares,
                    "seconds_end_to_end": _with_waiting(sum(by_encoder.values()), end_to_end),
                }
    return None


def _with_waiting(seconds: float, end_to_end: Mapping[str, Any] | None) -> float | None:
    """Seconds with the share of time in which devices had nothing to do; None if not measured."""
    return seconds / (1 - end_to_end["idle_share"]) if end_to_end else None


def bound(row: Mapping[str, Any], trees: Mapping[str, Any] | None) -> str:
    """What takes longest, in words."""
    programs, whole = row["seconds"], row["seconds_end_to_end"] or row["seconds"]
    slowest = max(row["seconds_by_encoder"], key=row["seconds_by_encoder"].get)
    share, roof = row["seconds_by_encoder"][slowest] / programs, row["share_of_roofline"][slowest]
    if programs < 0.5 * whole:
        idle = 100 * (1 - programs / whole)
        text = f"extraction by the host: devices are idle {idle:.0f} % of the time"
    else:
        text = (
            f"extraction by {slowest}, {100 * share:.0f} % of the programs' time, at "
            f"{100 * roof:.0f} % of its roofline"
        )
    if trees and trees["paper"] > whole:
        text += f"; the whole by the paper's trees, {trees['paper'] / whole:.1f} x the extraction"
    return text
