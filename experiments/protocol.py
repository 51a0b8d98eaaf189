"""Flags of a protocol: a preset, and each number that `histojax.config` has."""

import dataclasses
import importlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from absl import flags

from histojax import config
from histojax.config import PRESETS, Extraction, Option, Protocol
from histojax.errors import InputError

from . import computing
from .flag_types import AUTO, NATIVE, Choices, define

FLAGS = flags.FLAGS
_OF_HYBRID = ("pool_crops", "gain_nodes", "checked")
# What --stain sets: the normaliser and the augmentation.
_STAIN = {
    "none": ("none", "none"),
    "normalise": ("macenko", "none"),
    "augment": ("none", "hematoxylin_eosin"),
    "both": ("macenko", "hematoxylin_eosin"),
}


def define_preset(*parts: str, default: str | None = "paper", but: str = "") -> None:
    """Defines --protocol, and the flags of its parts, such as `extraction` and `boosting`.

    `but` names a flag that is left out, where the script sets it itself.
    """
    text = "Preset whose numbers hold where their own flags are not passed."
    presets = Option(text, choices=tuple(PRESETS))
    define("protocol", str, presets, default, is_other=_refuse_published)
    for part in parts:
        paper = getattr(PRESETS["paper"], part)
        names = (f.name for f in dataclasses.fields(paper) if "option" in f.metadata)
        define_fields(paper, *(name for name in names if name != but))
        if part == "extraction" and but != "stain":
            text = (
                "What is done to stains, in one word: both normalises and augments them, as the "
                "paper does; normalise and augment do one alone; none leaves colours as they are. "
                "Sets --stain_normalizer and --stain_augmentation."
            )
            define("stain", str, Option(text, choices=tuple(_STAIN)))


def _refuse_published(name: str) -> bool:
    """Raises InputError for a published protocol; False for any other name."""
    if name.lower() not in PRESETS:
        from histojax.datasets.bach.published_protocols import PROTOCOLS

        if name.lower() in PROTOCOLS:
            raise InputError(
                f"--protocol={name.lower()} is of histojax published, which describes BACH, fits "
                "heads and judges them by it"
            )
    return False


def define_fields(part: Any, *names: str, without_default: Collection[str] = ()) -> None:
    """Defines flags for some fields of a part; help says their values there are defaults."""
    for field in dataclasses.fields(part):
        if field.name not in names:
            continue
        option = field.metadata["option"]
        default = config.as_text(getattr(part, field.name))
        shown = "" if field.name in without_default else f" Default: {default}."
        define(
            field.name,
            field.type,
            dataclasses.replace(option, help=option.help + shown),
            choices=_TABLES.get(field.name),
            is_other=computing.is_module if field.name == "encoders" else lambda value: False,
        )


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
        changed = laid_over(getattr(chosen, part))
        if part == "extraction" and "views" in FLAGS:
            changed = _with_views(changed, suit)
        chosen = dataclasses.replace(chosen, **{part: changed})
    config.check(chosen)
    return chosen


def laid_over(part: Any) -> Any:
    """A part of a protocol with the flags that were passed laid over it, not checked."""
    names = [field.name for field in dataclasses.fields(part) if field.name in FLAGS]
    passed = {name: FLAGS[name].value for name in names}
    passed = {name: value for name, value in passed.items() if value not in (None, AUTO, NATIVE)}
    if isinstance(part, Extraction):
        passed |= _stain(passed)
    if "encoders" in passed:
        passed["encoders"] = computing.load_modules()
    changed = dataclasses.replace(part, **passed)
    if "weights" not in passed:
        return changed
    words = computing.weights(passed["weights"], changed.encoders, part.weights)
    return dataclasses.replace(changed, weights=words)


def _stain(passed: dict[str, Any]) -> dict[str, str]:
    """The fields that --stain sets; InputError where their own flags say something else."""
    if "stain" not in FLAGS or FLAGS.stain is None:
        return {}
    names = ("stain_normalizer", "stain_augmentation")
    values = dict(zip(names, _STAIN[FLAGS.stain], strict=True))
    for name, value in values.items():
        if passed.get(name, value) != value:
            raise InputError(
                f"--stain={FLAGS.stain} sets --{name}={value}, and --{name}={passed[name]} was "
                "passed: leave one out"
            )
    return values


def _with_views(extraction: Extraction, suit: Callable[[Extraction], Extraction]) -> Extraction:
    """The protocol with the views that --views=auto or native stand for.

    Raises:
      InputError: an encoder has no native view, or has one, and no views were asked for.
    """
    if FLAGS.views == AUTO:
        return suit(extraction)
    if FLAGS.views is None and FLAGS.encoders is None:
        return extraction
    from histojax.encoders import native  # Not above: trees are trained where there is no JAX.

    if FLAGS.views == NATIVE:
        native.require(extraction)
        return native.with_native_views(extraction)
    published = {name: native.view_of(name) for name in extraction.encoders}
    by_scale = {name: view for name, view in published.items() if view}
    if FLAGS.views is None and by_scale and not any(view.mpp for view in extraction.views):
        views = ", ".join(f"{name} {view.name}" for name, view in by_scale.items())
        raise InputError(
            f"which views? Those of --protocol={FLAGS.protocol}, {config.as_text(extraction.views)}"
            f", are the paper's, and these encoders were published with others: {views}. Pass "
            f"--views=native, or --views={config.as_text(extraction.views)}"
        )
    return extraction


def refuse_idle(extraction: Extraction) -> None:
    """Raises InputError where a flag was passed that the crop mode or layout has no use for."""
    passed = (name for name in _OF_HYBRID if name in FLAGS and FLAGS[name].present)
    if extraction.crop_mode != "hybrid" and (idle := next(passed, None)):
        raise InputError(
            f"--{idle} does nothing in crop mode {extraction.crop_mode}: pass --crop_mode=hybrid "
            "with it, or leave it out"
        )
    if extraction.crop_layout == "grid" and "crops" in FLAGS and FLAGS["crops"].present:
        raise InputError(
            "--crops does nothing with --crop_layout=grid, which takes all crops that tile the "
            "image: leave it out"
        )


def suited_to(paths: Iterable[Path], mpp: float | None) -> Callable[[Extraction], Extraction]:
    """A function that gives an extraction the views that suit image files, and tells which.

    Encoders that were published with a view of their own take that.

    Images are resampled where their pixel sizes are known, as inspection recommends, unless
    --target_mpp says otherwise. `mpp` is the microns per pixel of all images; None to believe each
    file.
    """

    def suit(extraction: Extraction) -> Extraction:
        from histojax.encoders import native
        from histojax.inspection import recommend

        published = {name: native.view_of(name) for name in extraction.encoders}
        if told := [f"{name} {view.name}" for name, view in published.items() if view]:
            print(f"native views: {', '.join(told)}")
        if len(told) == len(published):
            return native.with_native_views(extraction)
        made = recommend.recommend_for_files(paths, mpp, FLAGS.target_mpp)
        if made is None:  # No image can be read: extraction says why.
            return extraction
        if not made.views:
            raise InputError(" ".join(made.why))
        resampled = f", --target_mpp={made.target_mpp:g}" if made.target_mpp else ""
        print(f"views: {config.as_text(made.views)}{resampled}. {' '.join(made.why)}")
        suited = dataclasses.replace(extraction, views=made.views, target_mpp=made.target_mpp)
        return native.with_native_views(suited, made.views) if told else suited

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
