"""Encoders of users: rows of Python modules that they name, checked before any long work.

`load("net.py:ENCODER")` and `load("package.net:ENCODER")` run the module, once, and add its row to
`ENCODERS`; `register(row)` adds a row that was made in Python. Nothing else runs a module: what
manifests and bundles record of it (`Origin`) can say that it is needed, and cannot stand for it.
"""

import dataclasses
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging

from histojax import encoders
from histojax.encoders import Encoder, Tap, folding, weights
from histojax.encoders.own import foldable, modules, origins
from histojax.errors import InputError

_KNOWN = ("histojax.", "flax.")  # Of a version that manifests record.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Sides of square images, px. Their difference is a multiple of every usual stride.
_SIDES = (224, 224 + 1344)
_IMAGES = 2  # Not one, so that a module that mixes images, or takes one alone, is found.
_SQUARE = 32  # Sides of tiles and halos are multiples of it, as `Encoder` says.


def load(reference: str) -> Encoder:
    """Runs the module that a reference names, unless it has run, and registers its row.

    Args:
      reference: `path/to/module.py:ENCODER`, or `package.module:ENCODER` of an installed one.

    Raises:
      InputError: there is no such module or row, the module raises, or the row cannot be used: see
        `register`.
    """
    place, _, attribute = reference.rpartition(":")
    if not place or not attribute.isidentifier():
        raise InputError(f"{reference!r} names no encoder: expected {modules.FORMS}")
    if place.endswith(".py") or "/" in place:
        module, shown = modules.run(Path(place).expanduser().resolve()), Path(place).name
    else:
        module, shown = modules.import_installed(place), place
    if not hasattr(module, attribute):
        there = ", ".join(
            name for name, value in vars(module).items() if isinstance(value, Encoder)
        )
        raise InputError(f"{place} has no {attribute}: its encoders are {there or 'none'}")
    row = getattr(module, attribute)
    if not isinstance(row, Encoder):
        raise InputError(
            f"{reference} is of type {type(row).__name__}, expected a histojax.encoders.Encoder"
        )
    place_of_network = type(row.module).__module__
    if place_of_network != module.__name__ and not place_of_network.startswith(_KNOWN):
        logging.warning(
            "the network of %s is in %s, not in %s: where its code changes, this is not noticed",
            row.name,
            place_of_network,
            place,
        )
    origin = origins.of_file(f"{shown}:{attribute}", modules.content(module))
    return register(dataclasses.replace(row, origin=origin))


def load_all(rows: "str | Encoder | Iterable[str | Encoder]") -> None:
    """Registers rows, and those that references name; one of them, or several."""
    for row in [rows] if isinstance(rows, str | Encoder) else rows:
        load(row) if isinstance(row, str) else register(row)


def register(row: Encoder) -> Encoder:
    """Adds a row to `ENCODERS`, by whose name protocols, flags and `encoders.get` then take it.

    A row that is there already is left as it is; one of the same module, changed, takes its place.

    Returns:
      The row, its taps with their channels and strides, and with its origin.

    Raises:
      InputError: the name is another encoder's or no file name, the module cannot be applied to an
        image, or its maps are not those that the row says.
    """
    row = row if row.origin else dataclasses.replace(row, origin=origins.in_python(row))
    there = encoders.ENCODERS.get(row.name)
    if there and dataclasses.replace(there, outputs=row.outputs) == row:
        return there
    _check_name(row)
    if not isinstance(row.module, nn.Module):
        kind = row.module if isinstance(row.module, type) else type(row.module)
        what = f"the class {kind.__name__}" if kind is row.module else f"of type {kind.__name__}"
        raise InputError(
            f"the module of {row.name} is {what}, expected an instance of a flax.linen.Module, "
            "such as SmallNet()"
        )
    _check_outputs(row)
    try:
        hash(row)
    except TypeError as error:
        raise InputError(
            f"{row.name} has a list or a dictionary among the fields of its row or module, by "
            "which programs could not be told apart: make it a tuple"
        ) from error
    if row.tile % _SQUARE or row.halo % _SQUARE or not 0 <= 2 * row.halo < row.tile:
        raise InputError(
            f"{row.name} has tile={row.tile} and halo={row.halo}, expected multiples of {_SQUARE} "
            "px, the tile larger than two halos"
        )
    row = _with_measured_taps(row)
    encoders.ENCODERS[row.name] = row
    return row


def _check_name(row: Encoder) -> None:
    if not isinstance(row.name, str) or not _NAME.fullmatch(row.name):
        raise InputError(
            f"an encoder is called {row.name!r}, expected a letter and then letters, digits or _: "
            "it begins the names of folders, such as SmallNet-0.5-400"
        )
    for name, other in encoders.ENCODERS.items():
        same_place = other.origin and other.origin.reference == row.origin.reference
        if name.lower() == row.name.lower() and not (name == row.name and same_place):
            whose = f"of {other.origin.reference}" if other.origin else "of histojax"
            raise InputError(
                f"the encoder of {row.origin.reference} is called {row.name}, which is the name of "
                f"one {whose}: give it another"
            )


def _check_outputs(row: Encoder) -> None:
    if not isinstance(row.outputs, tuple) or not all(isinstance(tap, Tap) for tap in row.outputs):
        raise InputError(
            f"{row.name} has outputs={row.outputs!r}, expected a tuple of taps, such as "
            '(Tap("block3"),)'
        )
    layers = [tap.layer for tap in row.outputs]
    if len(layers) > len({*layers}):
        raise InputError(f"{row.name} has a tap twice among {', '.join(layers)}: leave one out")


def _source_file(row: Encoder) -> Path | None:
    """The file of the class of its network."""
    try:
        return Path(inspect.getsourcefile(type(row.module)))
    except TypeError:
        return None


def _with_measured_taps(row: Encoder) -> Encoder:
    """The row with the channels and strides of its taps as its module has them."""
    small, large = _maps(row)
    if unknown := [tap.layer for tap in row.outputs if tap.layer not in small]:
        raise InputError(
            f"{row.name} has a tap {unknown[0]!r}, but its module returns {', '.join(small)}"
        )
    if not row.outputs:
        raise InputError(f"{row.name} has no outputs: name taps among {', '.join(small)}")
    return dataclasses.replace(
        row, outputs=tuple(_measured(row, tap, small, large) for tap in row.outputs)
    )


def _measured(row: Encoder, tap: Tap, small: dict[str, Any], large: dict[str, Any]) -> Tap:
    shape = small[tap.layer].shape
    if len(shape) not in (2, 4) or shape[0] != _IMAGES:
        raise InputError(
            f"{row.name} returns {tap.layer} of shape {shape} for {_IMAGES} images, expected maps "
            "[N, H, W, C] or a vector [N, C]"
        )
    if jnp.issubdtype(small[tap.layer].dtype, jnp.complexfloating):
        raise InputError(
            f"{row.name} returns {tap.layer} of complex numbers, expected real ones: take their "
            "absolute values, or both parts"
        )
    if len(shape) == 4 and shape[1] != shape[2]:
        raise InputError(
            f"{row.name} returns maps {tap.layer} of {shape[1]} x {shape[2]} cells for square "
            "images, expected as many rows as columns, and channels last: [N, H, W, C]"
        )
    stride = cells = 0
    if large and len(shape) == 4:
        side, cells = _SIDES[1] - _SIDES[0], large[tap.layer].shape[1] - shape[1]
    if cells:  # Else images are resized inside, or of one size.
        if side % cells:
            raise InputError(
                f"the maps of {tap.layer} of {row.name} have a cell for every {side / cells:.4g} "
                "px, expected a whole number"
            )
        stride = side // cells
    found = dataclasses.replace(tap, channels=shape[-1], stride=stride)
    for name in ("channels", "stride"):
        if (said := getattr(tap, name)) not in (0, getattr(found, name)):
            raise InputError(
                f"the tap {tap.layer} of {row.name} says {name}={said}, its module has "
                f"{getattr(found, name)}: leave it out, and it is found"
            )
    return found


def _maps(row: Encoder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shapes of what the module returns for small and large images; nothing is computed.

    The second is empty where the module takes images of one size.
    """
    try:
        shapes = weights.shapes(row)
        variables = jax.eval_shape(lambda: weights.to_variables(_zeros(shapes)))
        small = jax.eval_shape(row.maps, variables, _images(_SIDES[0]))
    except Exception as error:  # Whatever the user's module raises.
        raise InputError(
            f"{row.name} cannot be applied to images of {_SIDES[0]} px: "
            f"{modules.place_of(error, _source_file(row))}"
        ) from error
    if not isinstance(small, dict) or not all(hasattr(maps, "shape") for maps in small.values()):
        kind = "an array" if hasattr(small, "shape") else type(small).__name__
        raise InputError(
            f"the module of {row.name} returns {kind}, expected a dictionary {{layer: maps}}, maps "
            "[N, H, W, C] or vectors [N, C]"
        )
    if row.folds:
        epsilon = getattr(row.module, "epsilon", None)
        try:
            folding.check_names(shapes, epsilon, row.first_convolution)
            foldable.check_calls(
                row.module,
                variables,
                _images(_SIDES[0]),
                row.first_convolution,
                row.first_convolution_padded,
            )
        except ValueError as error:
            raise InputError(f"{row.name}: {error}") from error
    try:
        return small, jax.eval_shape(row.maps, variables, _images(_SIDES[1]))
    except Exception:
        return small, {}


def _images(side: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((_IMAGES, side, side, 3), jnp.float32)


def _zeros(shapes: weights.Shapes) -> dict[str, jax.Array]:
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}
