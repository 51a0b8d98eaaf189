"""Flags of a protocol: a preset, and each number that `histojax.config` has."""

import dataclasses

from absl import flags

from histojax import config
from histojax.config import PRESETS, Option, Protocol

from .flag_types import define

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


def define_folds() -> None:
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


def _encoders() -> dict:
    from histojax.encoders import ENCODERS  # Where there is no JAX, other flags work without it.

    return ENCODERS


def _normalizers() -> dict:
    from histojax.ops.stain import NORMALIZERS

    return NORMALIZERS


def _augmentations() -> dict:
    from histojax.ops.stain import AUGMENTATIONS

    return AUGMENTATIONS


# What names there are, where a table above `histojax.config` decides it.
_TABLES = {
    "encoders": _encoders,
    "stain_normalizer": _normalizers,
    "stain_augmentation": _augmentations,
}
