"""How files name an encoder's arrays: the file's names to ours.

Pure functions of names and shapes. A flat name of ours is `params/conv1_conv/kernel`. Whatever
stands before a file's names (`module.`, `backbone.`, `state_dict.`, the name of a nested model) is
found, not listed: it is the prefix under which most of the expected names are. Arrays outside it,
and the dense layers of a top, are left out; anything else that is not expected is an error.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping

from histojax.encoders.layers import KerasFile, Shapes

Shape = tuple[int, ...]

# The last part of an array's name in a Keras file to ours. `running_std` holds the variance,
# despite its name.
_LEAVES = {
    "kernel": ("params", "kernel"),
    "W": ("params", "kernel"),
    "bias": ("params", "bias"),
    "b": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "running_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
    "running_std": ("batch_stats", "var"),
}
_ENDING = re.compile(rf"(?:^|[/_.])({'|'.join(_LEAVES)})(?:_\d+)?(?::0)?$")
# Layers after the last map, as Keras and its users call them.
_KERAS_TOP = re.compile(r"(fc|dense|predictions|probs|logits|classifier|head|output)(_?\d+)?")
# PyTorch counts batches beside the statistics of a batch norm.
_COUNTER = re.compile(r"(^|\.)num_batches_tracked$")
# Of several complete copies this one is taken, as those who publish such files do.
_PREFERRED = "teacher"
# Begins the name of an empty array that says which encoder a fine-tuned one was made from, since
# VGG-16 of Keras and of PyTorch differ in their input alone.
MADE_FROM = "encoder/"


@dataclasses.dataclass(frozen=True)
class Names:
    """What the names in a file mean.

    Attributes:
      sources: the file's names by our flat name: one, or those of the parts that it has of an array
        that we keep in one.
      left_out: names that are not needed: of the top, or outside the prefix.
      prefixes: where complete copies of the network are; more than one is a question to the user.
      absent: the names of parts that the file lacks, by our flat name.
    """

    sources: dict[str, tuple[str, ...]]
    left_out: frozenset[str]
    prefixes: tuple[str, ...] = ("",)
    absent: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


# (the file's shapes, our shapes, both by name) -> what the names mean.
Assign = Callable[[Mapping[str, Shape], Shapes], Names]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to name arrays.

    Attributes:
      name: what users call it.
      assign: finds our arrays among the file's.
      output_first: whether kernels are [out, in, rows, columns] and [out, in], as in PyTorch.
      folded: whether batch norms are folded into the convolutions, as fine-tuning does.
      of_one_image: whether tokens are [1, T, D], as in PyTorch, not [T, D].
    """

    name: str
    assign: Assign
    output_first: bool = False
    folded: bool = False
    of_one_image: bool = False


def by_table(
    table: Callable[[Shapes], Mapping[str, str]], separator: str = ".", top: str = r"(?!)"
) -> Assign:
    """Names by a table from the file's to ours, behind any prefix.

    Args:
      table: our shapes to {the file's name: our flat name}, where parts of one array of ours, of
        one shape, which follow one another along the file's first axis, have one flat name.
      separator: between the parts of a name.
      top: a regular expression of beginnings of names, within the prefix, that are not needed.
    """
    unneeded = re.compile(top)

    def assign(file: Mapping[str, Shape], shapes: Shapes) -> Names:
        ours = table(shapes)
        prefixes = _prefixes(file, ours, separator)
        prefix = prefixes[0]
        inside = {name: name.removeprefix(prefix) for name in file if name.startswith(prefix)}
        parts: dict[str, list[str]] = {}
        for theirs, flat_name in ours.items():
            parts.setdefault(flat_name, []).append(prefix + theirs)
        found = {flat: tuple(n for n in names if n in inside) for flat, names in parts.items()}
        sources = {flat_name: names for flat_name, names in found.items() if names}
        absent = {
            flat_name: tuple(name for name in parts[flat_name] if name not in inside)
            for flat_name, names in sources.items()
            if len(names) < len(parts[flat_name])
        }
        left_out = {name for name in file if name not in inside or _COUNTER.search(name)}
        left_out |= {full for full, name in inside.items() if unneeded.match(name)}
        left_out -= {name for names in sources.values() for name in names}
        return Names(sources, frozenset(left_out), prefixes, absent)

    return assign


def _prefixes(file: Iterable[str], table: Mapping[str, str], separator: str) -> tuple[str, ...]:
    """The prefixes under which most of the table's names are, the preferred ones if there are."""
    deepest = max((name.count(separator) for name in table), default=0)
    counts: collections.Counter[str] = collections.Counter()
    for name in file:
        parts = name.rsplit(separator, deepest + 1)
        for i in range(len(parts)):
            rest = separator.join(parts[i:])
            if rest in table:
                counts[name.removesuffix(rest)] += 1
    most = max(counts.values(), default=0)
    found = [prefix for prefix, count in counts.items() if count == most]
    preferred = [prefix for prefix in found if _PREFERRED in prefix.split(separator)]
    return tuple(preferred or found) or ("",)


def keras(layer_names: Callable[[KerasFile, Shapes], Mapping[str, str]]) -> Assign:
    """Names of Keras: the layer and its array, whatever stands before.

    Args:
      layer_names: (the file's layers with the shapes of their arrays, our shapes) -> our layer by
        the file's.
    """

    def assign(file: Mapping[str, Shape], shapes: Shapes) -> Names:
        parsed, layers = {}, {}
        for name, shape in file.items():
            if ending := _ENDING.search(name):
                layer = re.split(r"[/.]", name[: ending.start()])[-1]
                parsed[name] = layer, _LEAVES[ending[1]]
                layers.setdefault(layer, {})[name] = shape
        ours = layer_names(layers, shapes)
        sources: dict[str, tuple[str, ...]] = {}
        for name, (layer, (collection, leaf)) in parsed.items():
            flat_name = f"{collection}/{ours.get(layer)}/{leaf}"
            if flat_name in shapes:
                sources.setdefault(flat_name, (name,))
        used = {name for (name,) in sources.values()}
        tops = {n for n, (layer, _) in parsed.items() if _KERAS_TOP.fullmatch(layer)}
        return Names(sources, frozenset(tops - used))

    return assign


def same_layers(file: KerasFile, shapes: Shapes) -> dict[str, str]:
    """Layers that have our names in the file."""
    return {layer: layer for layer in file}


def _flat_names(shapes: Shapes) -> dict[str, str]:
    return {name: name for name in shapes}


def _folded_names(shapes: Shapes) -> dict[str, str]:
    return {name.replace("params/", "body/", 1): name for name in folded_shapes(shapes)}


def folded_shapes(shapes: Shapes) -> Shapes:
    """The shapes of an encoder's arrays once its batch norms are folded."""
    kernels = {name: shape for name, shape in shapes.items() if name.endswith("/kernel")}
    biases = {f"{name.removesuffix('kernel')}bias": shape[-1:] for name, shape in kernels.items()}
    return kernels | biases


def _trained_names(shapes: Shapes) -> dict[str, str]:
    return {name.replace("params/", "body/", 1): name for name in shapes}


def _dotted_names(shapes: Shapes) -> dict[str, str]:
    return {name.replace("/", "."): name for name in shapes}


_OURS = Layout("histojax", by_table(_flat_names, "/"))
_DOTTED = Layout("histojax, with dots", by_table(_dotted_names))
FINE_TUNED, _TOP = "histojax, fine-tuned", f"(head|input|{MADE_FROM.rstrip('/')})/"
_OF_FOLDED = Layout(FINE_TUNED, by_table(_folded_names, "/", top=_TOP), folded=True)
_OF_OTHERS = Layout(FINE_TUNED, by_table(_trained_names, "/", top=_TOP))


def ours(folds: bool) -> tuple[Layout, ...]:
    """Every encoder's: as bundles and `weights.to_flat` name arrays, also with dots for slashes, as
    safetensors files have them, and as fine-tuning does.

    `folds` says whether the encoder's batch norms are folded when it is fine-tuned.
    """
    return _OURS, _DOTTED, _OF_FOLDED if folds else _OF_OTHERS


KERAS = Layout("Keras", keras(same_layers))
