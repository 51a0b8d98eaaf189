"""Flags of a protocol: a preset, and each number that `histojax.config` has."""

import dataclasses
import importlib

from absl import flags

from histojax import config
from histojax.config import PRESETS, Option, Protocol

from .flag_types import Choices, define

FLAGS = flags.FLAGS


def define_preset(*parts: str) -> None:
    """Defines --protocol, and the flags of its parts, such as `extraction` and `boosting`."""
    text = "Preset whose numbers hold where their own flags are not passed."
    define("protocol", str, Option(text, choices=tuple(PRESETS)), default="paper")
    for part in parts:
        paper = getattr(PRESETS["paper"], part)
        for field in dataclasses.fields(paper):
            option = field.metadata["option"]
            default = config.as_text(getattr(paper, field.name))
            shown = dataclasses.replace(option, help=f"{option.help} Default: {default}.")
            define(field.name, field.type, shown, choices=_TABLES.get(field.name))


def define_fold_count() -> None:
    """Defines how many folds there are, and the seed of the split, where no protocol does."""
    for name in ("folds", "fold_seed"):
        default = getattr(config.Boosting, name)
        define(name, int, config.options(config.Boosting)[name], default)


def from_flags(*parts: str) -> Protocol:
    """The preset of --protocol with the flags of its parts laid over it, checked.

    Raises:
      InputError: values that do not go together.
    """
    chosen = PRESETS[FLAGS.protocol]
    for part in parts:
        fields = dataclasses.fields(getattr(chosen, part))
        passed = {field.name: FLAGS[field.name].value for field in fields}
        passed = {name: value for name, value in passed.items() if value is not None}
        changed = dataclasses.replace(getattr(chosen, part), **passed)
        chosen = dataclasses.replace(chosen, **{part: changed})
    config.check(chosen)
    return chosen


def _table(module: str, name: str) -> Choices:
    """The keys of a table; its module is imported when they are needed, for not all need JAX."""
    return lambda: getattr(importlib.import_module(module), name)


# What names there are, where a table above `histojax.config` decides it.
_TABLES = {
    "encoders": _table("histojax.encoders", "ENCODERS"),
    "stain_normalizer": _table("histojax.ops.stain", "NORMALIZERS"),
    "stain_augmentation": _table("histojax.ops.stain", "AUGMENTATIONS"),
}
