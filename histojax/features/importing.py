"""Descriptors made of features that others computed: how a slide's tiles become [A, D].

<root>/<configuration>/<image name>.npy   float32 [A, D], as ours: see `store`
<root>/<configuration>/manifest.json      the recipe as the protocol: see `recipes`
<root>/<configuration>/sources.csv        where they come from: see `sources`

A is the number of random draws of tiles, or 1 where all tiles are pooled into one vector.
"""

import collections
import dataclasses
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from histojax.errors import InputError
from histojax.extraction import mixing, store
from histojax.features import feature_sets, sources, tile_pooling
from histojax.features.feature_sets import FeatureSet, SlideFeatures
from histojax.features.recipes import Recipe, rows_of_each
from histojax.features.sources import SourceRow
from histojax.utils import files
from histojax.utils.progress import Progress

_SAVED_EVERY = 5  # Seconds between two versions of sources.csv.


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
      configuration: of the descriptors.
      recipe: how they were made.
      names: slides that have descriptors now.
      kept: how many of them had descriptors before.
      empty: slides without tiles, which have none.
      failures: why other slides could not be used, by name.
      notices: what else a person should know.
    """

    configuration: str
    recipe: Recipe
    names: tuple[str, ...]
    kept: int
    empty: tuple[str, ...]
    failures: dict[str, str]
    notices: tuple[str, ...]


def import_features(features: Sequence[Path], root: Path, recipe: Recipe) -> Imported:
    """Makes descriptors of new slides exactly as a recipe says.

    Args:
      features: folders or files, of which those of the recipe's source are taken.
      root: folder of the descriptors.
      recipe: of the descriptors that models were trained on: `Recipe.from_manifest`.

    Raises:
      InputError: no features are of this source (the message says what there is), or see
        `import_set`.
    """
    found = feature_sets.find(features, expected=recipe.source)
    alike = [each for each in found if each.source == recipe.source]
    if not alike:
        wanted = dataclasses.asdict(recipe.source)
        lines = "\n".join(
            f"  {each.source.configuration}: {line}"
            for each in found
            for line in files.differences(dataclasses.asdict(each.source), wanted)
        )
        raise InputError(
            f"{', '.join(map(str, features))} has no features like those that the models were "
            f"trained on, {recipe.source.configuration}:\n{lines}"
        )
    return import_set(alike[0], root, recipe)


def import_set(found: FeatureSet, root: Path, recipe: Recipe) -> Imported:
    """Makes descriptors of a set of features; those that are there stay.

    A file that cannot be used does not stop the others.

    Raises:
      InputError: the folder holds descriptors of another recipe, features have changed since they
        were imported, slides of `none` have different numbers of rows, or no file can be used.
    """
    configuration = recipe.source.configuration
    mixing.claim(root, configuration, recipe.manifest())
    rows = sources.read(root, configuration)
    done = sources.unchanged(found, root, configuration, rows)
    if recipe.pooling == "none" and (number := rows_of_each(found)) != recipe.draws:
        raise InputError(
            f"{configuration}: slides have {number} rows, expected {recipe.draws} as those "
            "that were imported before"
        )
    failures, saved = {**found.failures}, time.monotonic()
    try:
        with Progress("import", len(found.slides) - len(done), "slides") as bar:
            for name, slide in found.slides.items():
                if name in done:
                    continue
                try:
                    digest = hashlib.sha256()
                    descriptors = _describe(name, slide, recipe, digest)
                except InputError as error:
                    failures[name] = str(error)
                else:
                    rows[name] = sources.row_of(name, slide, digest)
                    store.write(root, configuration, name, descriptors)
                    if time.monotonic() - saved > _SAVED_EVERY:
                        sources.write(root, configuration, rows)
                        saved = time.monotonic()
                bar.add(1, name)
    finally:
        if rows:
            sources.write(root, configuration, rows)
    names = tuple(name for name in found.slides if name not in failures)
    if not names:
        raise InputError(next(iter(failures.values())))
    notices = found.notices + _few_tiles(found, recipe) + _twins(root, configuration, rows)
    return Imported(configuration, recipe, names, len(done), found.empty, failures, notices)


def _describe(name: str, slide: SlideFeatures, recipe: Recipe, digest) -> np.ndarray:
    """The descriptors of a slide, float32 [A, D]; `digest` takes in its features.

    Raises:
      InputError: its features cannot be read, are not finite, or too negative for a p-norm.
    """
    blocks = _checked(slide, recipe, digest)
    if recipe.pooling == "none":
        return np.concatenate(list(blocks))
    draws = None
    if recipe.tiles is not None:
        rows = slide.contents.rows
        draws = tile_pooling.draw(recipe.seed, name, recipe.draws, recipe.tiles, rows)
    return tile_pooling.pool(blocks, draws, recipe.p)


def _checked(slide: SlideFeatures, recipe: Recipe, digest) -> Iterator[np.ndarray]:
    for block in slide.contents.blocks():
        if not np.isfinite(block).all():
            raise InputError(f"{_where(slide)} holds NaN or infinity: compute its features again")
        if recipe.pooling == "p-norm" and (block < 0).any():
            raise InputError(
                f"{_where(slide)} has negative features, and those of the set have none: is it of "
                f"{recipe.source.encoder}?"
            )
        sources.update(digest, block)
        yield block


def _twins(root: Path, configuration: str, rows: dict[str, SourceRow]) -> tuple[str, ...]:
    """Slides with the same features: copies, or one that was imported under another name before."""
    by_digest = collections.defaultdict(list)
    for name in store.image_names(root, configuration):
        if name in rows:
            by_digest[rows[name].features_sha256].append(name)
    pairs = [" = ".join(names) for names in by_digest.values() if len(names) > 1]
    if not pairs:
        return ()
    listed = ", ".join(pairs[:5]) + (", ..." if len(pairs) > 5 else "")
    return (
        f"the same features under several names, which may be in training and test at once: "
        f"{listed}. Keep one of each in {root / configuration}",
    )


def _where(slide: SlideFeatures) -> str:
    """The file, and of a table also the slide."""
    name = slide.contents.name
    return str(slide.path) if name is None else f"{slide.path}, slide {name},"


def _few_tiles(found: FeatureSet, recipe: Recipe) -> tuple[str, ...]:
    few = [n for n, s in found.slides.items() if s.contents.rows <= (recipe.tiles or 0)]
    if not few or recipe.draws == 1:
        return ()
    listed = ", ".join(few[:5]) + (", ..." if len(few) > 5 else "")
    return (
        f"{len(few)} of {len(found.slides)} slides have at most {recipe.tiles} tiles, so that all "
        f"of their draws are the same: {listed}",
    )
