"""How the time given is divided among the items, which are in order of their value.

An item that begins gets the share of the time left that its weight is of those still to come, so
what one does not use goes to all that follow. Within it the last measurements are dropped first.
"""

import dataclasses
import subprocess
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Item:
    """A part of the command.

    Attributes:
      name: of the item, as --items takes it.
      weight: of its time, in parts of a hundred.
      what: what it measures, for --help.
    """

    name: str
    weight: int
    what: str


ITEMS = (
    Item("machine", 8, "device, versions, peak of matrix products and copies, operations counted"),
    Item("parity", 13, "descriptors against the CPU in float32, by tap"),
    Item("rates", 34, "crops/s, TFLOP/s, shares of peak and roofline, compile time, memory"),
    Item("pooling", 10, "the fused kernel against XLA's pooling"),
    Item("transformers", 6, "vision transformers in bfloat16: crops/s, shares of the peak"),
    Item("peers", 12, "PyTorch, Keras and transformers, where installed, alternating with ours"),
    Item("images", 11, "images end to end, time by stage, idle share of the devices"),
    Item("presets", 6, "XLA's flags for GPUs by preset (--xla_preset) against none"),
)
NAMES = tuple(item.name for item in ITEMS)
TRACE = Item("trace", 3, "a profiler trace of each encoder")
# Items that have a process of this command.
CHILDREN = tuple(name for name in (*NAMES, TRACE.name) if name != "peers")
# An item is stopped at this many times its time, and not before this many seconds: it may have
# begun a long compilation, and a process takes a while to start.
_PATIENCE, _LEAST_SECONDS = 2.0, 60.0
_ENDED = "its process ended with exit code {}"
# Of Python after an error that no measurement caught: nothing can be measured in this way.
REFUSED = _ENDED.format(1)


def limits(left: float, items: Sequence[Item]) -> tuple[float, float]:
    """Seconds after which the first of the items begins nothing more, and when it is stopped.

    Args:
      left: seconds left for all of the items.
      items: that are still to come, in order.
    """
    own = max(0.0, left) * items[0].weight / sum(item.weight for item in items)
    return own, min(max(0.0, left), max(_LEAST_SECONDS, _PATIENCE * own))


def run_for(command: Sequence[str], seconds: float) -> str | None:
    """Runs a command, which is stopped after that time; says what went wrong, if anything."""
    try:
        code = subprocess.run(command, check=False, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s: its time was over"
    return _ENDED.format(code) if code else None
