"""Flags of a protocol: a preset, and each number that `histojax.config` has."""

import dataclasses
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path

from absl import flags

from histojax import config
from histojax.config import PRESETS, Extraction, Option, Protocol
from histojax.errors import InputError

from . import computing
from .flag_types import AUTO, Choices, define

FLAGS = flags.FLAGS
_OF_HYBRID = ("pool_crops", "gain_nodes", "checked")


def define_preset(*parts: str, default: str | None = "paper", but: str = "") -> None:
    """Defines --protocol, and the flags of its parts, such as `extraction` and `boosting`.

    `but` names a flag that is left out, where the script sets it itself.
    """
    text = "Preset whose numbers hold where their own flags are not passed."
    define("protocol", str, Option(text, choices=tuple(PRESETS)), default)
    for part in parts:
        paper = getattr(PRESETS["paper"], part)
        for field in dataclasses.fields(paper):
            if field.name == but:
                continue
            option = field.metadata["option"]
            default = config.as_text(getattr(paper, field.name))
            shown = dataclasses.replace(option, help=f"{option.help} Default: {default}.")
            is_other = computing.is_module if field.name == "encoders" else lambda value: False
            known = _TABLES.get(field.name)
            define(field.name, field.type, shown, choices=known, is_other=is_other)


def define_fold_count() -> None:
    """Defines how many folds there are, and the seed of the split, where no protocol does."""
    for name in ("folds", "fold_seed"):
        default = getattr(config.Boosting, name)
        define(name, int, config.options(config.Boosting)[name], default)


def _no_images(extraction: Extraction) -> Extraction:
    raise InputError("--views=auto has no place here: name the views")


def from_flags(*parts: str, suit: Callable[[Extraction], Extraction] = _no_images) -> Protocol:
    """The preset of --protocol with the flags of its parts laid over it, checked.

    Args:
      parts: such as `extraction` and `boosting`.
      suit: makes an extraction suit the images at hand, for --views=auto; see `suited_to`.

    Raises:
      InputError: values that do not go together.
    """
    chosen = PRESETS[FLAGS.protocol]
    for part in parts:
        names = [f.name for f in dataclasses.fields(getattr(chosen, part)) if f.name in FLAGS]
        passed = {name: FLAGS[name].value for name in names}
        passed = {name: value for name, value in passed.items() if value not in (None, AUTO)}
        if "encoders" in passed:
            passed["encoders"] = computing.load_modules()
        changed = dataclasses.replace(getattr(chosen, part), **passed)
        if "weights" in passed:
            of_preset = getattr(chosen, part).weights
            words = computing.weights(passed["weights"], changed.encoders, of_preset)
            changed = dataclasses.replace(changed, weights=words)
        if part == "extraction" and FLAGS.views == AUTO:
            changed = suit(changed)
        chosen = dataclasses.replace(chosen, **{part: changed})
    config.check(chosen)
    return chosen


def refuse_idle(extraction: Extraction) -> None:
    """Raises InputError where a flag of crop mode hybrid was passed with another mode."""
    passed = (name for name in _OF_HYBRID if name in FLAGS and FLAGS[name].present)
    if extraction.crop_mode != "hybrid" and (idle := next(passed, None)):
        raise InputError(
            f"--{idle} does nothing in crop mode {extraction.crop_mode}: pass --crop_mode=hybrid "
            "with it, or leave it out"
        )


def suited_to(paths: Iterable[Path], mpp: float | None) -> Callable[[Extraction], Extraction]:
    """A function that gives an extraction the views that suit image files, and tells which.

    Images are resampled where their pixel sizes are known, as inspection recommends, unless
    --target_mpp says otherwise. `mpp` is the microns per pixel of all images; None to believe each
    file.
    """

    def suit(extraction: Extraction) -> Extraction:
        from histojax.inspection import recommend

        made = recommend.recommend_for_files(paths, mpp, FLAGS.target_mpp)
        if made is None:  # No image can be read: extraction says why.
            return extraction
        if not made.views:
            raise InputError(" ".join(made.why))
        resampled = f", --target_mpp={made.target_mpp:g}" if made.target_mpp else ""
        print(f"views: {config.as_text(made.views)}{resampled}. {' '.join(made.why)}")
        return dataclasses.replace(extraction, views=made.views, target_mpp=made.target_mpp)

    return suit


def _table(module: str, name: str) -> Choices:
    """The keys of a table; its module is imported when they are needed, for not all need JAX."""
    return lambda: getattr(importlib.import_module(module), name)


# What names there are, where a table above `histojax.config` decides it.
_TABLES = {
    "encoders": _table("histojax.encoders", "ENCODERS"),
    "stain_normalizer": _table("histojax.ops.stain", "NORMALIZERS"),
    "stain_augmentation": _table("histojax.ops.stain", "AUGMENTATIONS"),
}
