"""What bundle.json of a bundle may hold; see `bundle`. It is checked before any of it is used."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from histojax.errors import InputError
from histojax.extraction import manifest_form

_MOST_MODELS = 100_000  # Of a configuration.


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MOST_MODELS


def _share(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 < value <= 1


_MAY_BE: dict[str, Callable[[Any], bool]] = {
    "classes": lambda value: _texts(value) and 1 < len(value) == len(set(value)),
    "positive": lambda value: isinstance(value, list) and all(type(i) is int for i in value),
    "positive_reason": lambda value: isinstance(value, str),
    "learner": lambda value: isinstance(value, str),
    "seeds": _count,
    "folds": _count,
    "sensitivity": _share,
    "made_with": lambda value: isinstance(value, dict) and bool(value),
    "about": lambda value: isinstance(value, dict),
    "training_files": lambda value: value is None or _texts(value),
}


def check(description: dict[str, Any], name: str | Path) -> None:
    """Raises InputError where a value is none that its key may have; `name` is of the file."""
    for key, may_be in _MAY_BE.items():
        if key in description and not may_be(description[key]):
            raise InputError(
                f"{name} is damaged ({key} is {description[key]!r:.80}): make the bundle again"
            )
    places = range(len(description["classes"]))
    if not set(description["positive"]) <= set(places):
        raise InputError(
            f"{name} is damaged (positive classes {description['positive']!r:.80} of "
            f"{len(places)}): make the bundle again"
        )
    if description["seeds"] * description["folds"] > _MOST_MODELS:
        raise InputError(f"{name} is damaged (more than {_MOST_MODELS} models): make it again")
    for configuration, manifest in description["made_with"].items():
        manifest_form.check(manifest, f"{configuration} in {name}")
