"""Descriptors made of features that others computed: how a slide's tiles become [A, D].

<root>/<configuration>/<image name>.npy   float32 [A, D], as ours: see `store`
<root>/<configuration>/manifest.json      the recipe as the protocol: see `Recipe`
<root>/<configuration>/sources.csv        where they come from: see `feature_sources`

A is the number of random draws of tiles, or 1 where all tiles are pooled into one vector.
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from histojax.config import Extraction
from histojax.errors import InputError
from histojax.extraction import feature_files, feature_sources, manifests, store, tile_pooling
from histojax.extraction.feature_files import FeatureSet, Slide, Source
from histojax.extraction.manifests import Manifest
from histojax.utils import files
from histojax.utils.progress import Progress

AUTO = "auto"
POOLINGS = ("p-norm", "mean", "none")
_SAVED_EVERY = 5  # Seconds between two versions of sources.csv.
_UNKNOWN_WEIGHTS = {"source": "not known: the features were imported"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How features became descriptors, so that those of new slides are made alike.

    Attributes:
      source: what the feature files hold.
      pooling: of tiles: `p-norm`, `mean`, or `none`, where each row is a vector of the slide.
      p: exponent of the p-norm; None for other poolings.
      draws: random draws of tiles from each slide, A; 1 where all tiles are taken, and the number
        of rows where pooling is `none`.
      tiles: of a draw; None takes all.
      seed: of the draws.
    """

    source: Source
    pooling: str
    p: float | None = None
    draws: int = 1
    tiles: int | None = None
    seed: int = 0

    def manifest(self) -> Manifest:
        """The manifest of its descriptors, without versions."""
        fields = {name: value for name, value in vars(self).items() if name != "source"}
        source = {name: value for name, value in vars(self.source).items() if value is not None}
        return {"protocol": source | fields, "weights": dict(_UNKNOWN_WEIGHTS)}

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> "Recipe":
        """The recipe that `manifest` wrote; InputError where another version did."""
        protocol = dict(manifest["protocol"])
        names = {field.name for field in dataclasses.fields(Source)} & protocol.keys()
        source = Source(**{name: protocol.pop(name) for name in names})
        try:
            return cls(source, **protocol)
        except TypeError as error:
            raise InputError(
                f"the descriptors of {source.configuration} were imported by another version of "
                f"histojax: {error}. Import them again"
            ) from error


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
      configuration: of the descriptors.
      recipe: how they were made.
      names: slides that have descriptors now.
      kept: how many of them had descriptors before.
      empty: slides without tiles, which have none.
      failures: why other files could not be used.
      notices: what else a person should know.
    """

    configuration: str
    recipe: Recipe
    names: tuple[str, ...]
    kept: int
    empty: tuple[str, ...]
    failures: dict[Path, str]
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
    found = feature_files.find(features, expected=recipe.source)
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
    manifests.claim(root, configuration, recipe.manifest())
    rows = feature_sources.read(root, configuration)
    done = feature_sources.unchanged(found, root, configuration, rows)
    if recipe.pooling == "none" and (rows_of_each := _rows_of_each(found)) != recipe.draws:
        raise InputError(
            f"{configuration}: slides have {rows_of_each} rows, expected {recipe.draws} as those "
            "that were imported before"
        )
    failures, failed, saved = dict(found.failures), set(), time.monotonic()
    try:
        with Progress("import", len(found.slides) - len(done), "slides") as bar:
            for name, slide in found.slides.items():
                if name in done:
                    continue
                try:
                    digest = hashlib.sha256()
                    descriptors = _describe(name, slide, recipe, digest)
                except InputError as error:
                    failures[slide.path] = str(error)
                    failed.add(name)
                else:
                    rows[name] = feature_sources.row_of(name, slide, digest)
                    store.write(root, configuration, name, descriptors)
                    if time.monotonic() - saved > _SAVED_EVERY:
                        feature_sources.write(root, configuration, rows)
                        saved = time.monotonic()
                bar.add(1, name)
    finally:
        if rows:
            feature_sources.write(root, configuration, rows)
    names = tuple(name for name in found.slides if name not in failed)
    if not names:
        raise InputError(next(iter(failures.values())))
    notices = found.notices + _few_tiles(found, recipe)
    return Imported(configuration, recipe, names, len(done), found.empty, failures, notices)


def recipe_for(
    found: FeatureSet,
    pooling: str = AUTO,
    p: float = Extraction.p,
    draws: int | None = None,
    tiles: int | None = None,
    seed: int = 0,
    root: Path | None = None,
) -> tuple[Recipe, str]:
    """The recipe of a set of features, and why its tiles are pooled so.

    Args:
      found: the set; for `auto` and the p-norm it is read until a feature is negative.
      pooling: `auto`, or one of `POOLINGS`.
      p: of a p-norm.
      draws, tiles, seed: see `Recipe`; without `tiles`, all make one vector.
      root: folder of descriptors; `auto` goes on as those of this source that are there were made.

    Raises:
      InputError: a p-norm is asked for, and features have signs; there are no tiles to pool or to
        draw; or with `none` slides have different numbers of rows.
    """
    source = found.source
    if (draws is None) != (tiles is None):
        raise InputError(
            "--draws=N --tiles=K go together: N random draws of K tiles from each slide. Without "
            "either, all tiles make one vector"
        )
    if source.level == "slide" and (pooling not in (AUTO, "none") or draws):
        flag = "draws" if draws else "pooling"
        raise InputError(
            f"{source.configuration} has one vector for each slide, so --{flag} does nothing: "
            "leave it out"
        )
    if pooling == "none" and draws:
        raise InputError("--draws takes random tiles, --pooling=none each: pass one of them")
    drawn = {"draws": draws, "tiles": tiles, "seed": seed} if draws else {}
    earlier = _recorded(root, source.configuration) if root is not None else None
    if pooling == AUTO and earlier is not None:
        why = "as the descriptors that are there"
        return dataclasses.replace(earlier, source=source, **drawn), why
    if source.level == "slide":
        return Recipe(source, "none"), "one vector for each slide"
    if pooling == "none":
        return Recipe(source, "none", draws=_rows_of_each(found)), "as asked for"
    if pooling == "mean":
        return Recipe(source, "mean", **drawn), "as asked for"
    negative = next((s for s in found.slides.values() if _has_negative(s)), None)
    if negative is None:
        why = "no feature is negative" if pooling == AUTO else "as asked for"
        return Recipe(source, "p-norm", p, **drawn), why
    if pooling == AUTO:
        return Recipe(source, "mean", **drawn), "features have signs, which a p-norm would lose"
    raise InputError(
        f"{negative.path} has negative features, whose signs a p-norm would lose: pass "
        "--pooling=mean, or leave it out"
    )


def _recorded(root: Path, configuration: str) -> Recipe | None:
    """The recipe of the imported descriptors that are there; None where there are none."""
    recorded = manifests.read(root, configuration)
    if manifests.is_imported(recorded) and store.image_names(root, configuration):
        return Recipe.from_manifest(recorded)
    return None


def _has_negative(slide: Slide) -> bool:
    try:
        return any((block < 0).any() for block in slide.contents.blocks())
    except InputError:  # Damaged: the import says so.
        return False


def _describe(name: str, slide: Slide, recipe: Recipe, digest) -> np.ndarray:
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


def _checked(slide: Slide, recipe: Recipe, digest) -> Iterator[np.ndarray]:
    for block in slide.contents.blocks():
        if not np.isfinite(block).all():
            raise InputError(f"{slide.path} holds NaN or infinity: compute its features again")
        if recipe.pooling == "p-norm" and (block < 0).any():
            raise InputError(
                f"{slide.path} has negative features, and those of the set have none: is it of "
                f"{recipe.source.encoder}?"
            )
        feature_sources.update(digest, block)
        yield block


def _rows_of_each(found: FeatureSet) -> int:
    """How many rows every slide has; InputError where slides differ."""
    numbers = {slide.contents.rows: name for name, slide in found.slides.items()}
    if len(numbers) > 1:
        listed = ", ".join(f"{rows} in {name}" for rows, name in sorted(numbers.items())[:5])
        raise InputError(
            f"{found.source.configuration}: with --pooling=none each slide needs the same number "
            f"of rows, found {listed}. Pool tiles with --pooling=mean"
        )
    return next(iter(numbers))


def _few_tiles(found: FeatureSet, recipe: Recipe) -> tuple[str, ...]:
    few = [n for n, s in found.slides.items() if s.contents.rows <= (recipe.tiles or 0)]
    if not few or recipe.draws == 1:
        return ()
    listed = ", ".join(few[:5]) + (", ..." if len(few) > 5 else "")
    return (
        f"{len(few)} slides have at most {recipe.tiles} tiles, so that all of their draws are the "
        f"same: {listed}",
    )
