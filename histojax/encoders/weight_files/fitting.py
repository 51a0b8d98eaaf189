"""How well the arrays of a file are those of an encoder, and the file's arrays as ours.

Pure functions of names, shapes and arrays; `layouts` says what the names mean.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from histojax.encoders.layers import Shapes
from histojax.encoders.weight_files.layouts import (
    FINE_TUNED,
    MADE_FROM,
    Layout,
    Names,
    Shape,
    folded_shapes,
)

_MOST_LINES = 40  # Of a message.


@dataclasses.dataclass(frozen=True)
class Fit:
    """How well the arrays of a file are those of an encoder in a layout.

    Attributes:
      layout: the layout.
      names: what the file's names mean.
      missing, extra, misshapen: a line for each array that does not fit.
    """

    layout: Layout
    names: Names
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def fine_tuned(self) -> bool:
        """Whether fine-tuning wrote the file."""
        return self.layout.name == FINE_TUNED

    @property
    def problems(self) -> int:
        """How many arrays do not fit."""
        return len(self.missing) + len(self.extra) + len(self.misshapen)

    @property
    def distance(self) -> float:
        """How far off the file is: the shares of its arrays, and of ours, that do not fit."""
        found = len(self.names.sources)
        ours, file = found + len(self.missing), found + len(self.extra) + len(self.names.left_out)
        return (len(self.missing) + len(self.misshapen)) / max(ours, 1) + len(self.extra) / max(
            file, 1
        )

    @property
    def counts(self) -> str:
        """The problems in a few words."""
        return (
            f"{len(self.missing)} missing, {len(self.extra)} extra, {len(self.misshapen)} misshapen"
        )

    def lines(self) -> Iterable[str]:
        """The problems, a line each."""
        for kind in ("missing", "extra", "misshapen"):
            for item in getattr(self, kind):
                yield f"  {kind}: {item}"


def equal(name: str, shape: Shape, expected: Shape) -> bool:
    """Whether an array, by our flat name, has the expected shape."""
    return shape == expected


def fit(
    name: str,
    layout: Layout,
    shapes: Shapes,
    file: Mapping[str, Shape],
    real: Mapping[str, bool],
    takes: Callable[[str, Shape, Shape], bool] = equal,
) -> Fit:
    """How the arrays of a file fit the variables of an encoder.

    Args:
      name: of the encoder.
      layout: how the file may name them.
      shapes: of the variables by flat name.
      file: the shapes of the file's arrays by name.
      real: whether each has real numbers.
      takes: whether the encoder takes an array of a shape in place of one of the expected shape.
    """
    expected = folded_shapes(shapes) if layout.folded else shapes
    names = layout.assign(file, shapes)
    missing, misshapen = [], []
    for key, shape in expected.items():
        if key in names.absent:
            missing.append(f"{', '.join(names.absent[key])}, of {key} {shape}")
        elif key not in names.sources:
            missing.append(f"{key} {shape}")
        else:
            parts = [file[theirs] for theirs in names.sources[key]]
            found = _shape(layout, key, parts)
            whole = not all(real[theirs] for theirs in names.sources[key])
            if whole or found is None or not takes(key, found, shape):
                shown = found or " and ".join(map(str, parts))
                numbers = " of whole numbers" if whole else ""
                misshapen.append(f"{key}: {shown}{numbers}, expected {shape}")
    used = {theirs for sources in names.sources.values() for theirs in sources} | names.left_out
    made_from = {entry for entry in file if entry.startswith(MADE_FROM)}
    if MADE_FROM + name in made_from:
        made_from = set()
    used -= made_from
    extra = [f"{entry} {shape}" for entry, shape in file.items() if entry not in used]
    return Fit(layout, names, tuple(missing), tuple(extra), tuple(misshapen))


def misfit_text(name: str, fit: Fit) -> str:
    """Which layout a file comes closest to, and a line for each array that does not fit."""
    lines = list(fit.lines())
    shown = lines[:_MOST_LINES]
    if len(lines) > len(shown):
        shown.append(f"  and {len(lines) - len(shown)} more")
    closest = f"The closest layout is {fit.layout.name} of {name} ({fit.counts}):"
    return "\n".join([closest, *shown])


def as_ours(layout: Layout, name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    """An array of ours, by our flat name, of those of a file that fit; in C's order."""
    array = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if _of_one_image(layout, array.shape):
        array = array[0]
    return np.ascontiguousarray(array.transpose(_axes(layout, name, array.ndim)))


def _shape(layout: Layout, name: str, parts: Sequence[Shape]) -> Shape | None:
    """The shape of what `as_ours` makes of arrays of these; None where they are unlike."""
    shape = parts[0]
    if len(parts) > 1:
        if not shape or len({*parts}) > 1:
            return None
        shape = (len(parts) * shape[0], *shape[1:])
    if _of_one_image(layout, shape):
        shape = shape[1:]
    return tuple(shape[axis] for axis in _axes(layout, name, len(shape)))


def _of_one_image(layout: Layout, shape: Shape) -> bool:
    """Whether the first axis is that of one image, which our array does not have."""
    return layout.of_one_image and len(shape) == 3 and shape[0] == 1


def _axes(layout: Layout, name: str, dimensions: int) -> tuple[int, ...]:
    """The axes of a file's array in our order, by our flat name of it."""
    if layout.output_first and dimensions == 4:
        return 2, 3, 1, 0
    if layout.output_first and dimensions == 2 and name.endswith("/kernel"):
        return 1, 0
    return tuple(range(dimensions))
