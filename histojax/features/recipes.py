"""How features of others become descriptors: pooling and draws of tiles, in a manifest."""

import dataclasses
from pathlib import Path

from histojax.config import Extraction
from histojax.errors import InputError
from histojax.extraction import manifests, store
from histojax.extraction.manifests import Manifest
from histojax.features.feature_sets import FeatureSet, SlideFeatures, Source

AUTO = "auto"
POOLINGS = ("p-norm", "mean", "none")
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
        encoder = protocol.get("encoder", "an encoder")
        try:
            return cls(Source(**{name: protocol.pop(name) for name in names}), **protocol)
        except TypeError as error:
            raise InputError(
                f"the descriptors of {encoder} were imported by another version of histojax: "
                f"{error}. Import them again"
            ) from error


def recipe_for(
    found: FeatureSet,
    pooling: str = AUTO,
    p: float | None = None,
    draws: int | None = None,
    tiles: int | None = None,
    seed: int | None = None,
    root: Path | None = None,
) -> tuple[Recipe, str]:
    """The recipe of a set of features, and why its tiles are pooled so.

    Args:
      found: the set; for `auto` and the p-norm it is read until a feature is negative.
      pooling: `auto`, or one of `POOLINGS`.
      p: of a p-norm; None is the paper's.
      draws, tiles, seed: see `Recipe`; without `tiles`, all make one vector.
      root: folder of descriptors; `auto` goes on as those of this source that are there were made.

    Raises:
      InputError: a p-norm is asked for, and features have signs; there are no tiles to pool or to
        draw; with `none` slides have different numbers of rows; or an argument has no use.
    """
    recipe, why = _chosen(
        found, pooling, p, _drawn(found.source, pooling, draws, tiles, seed), root
    )
    if p is not None and recipe.p is None:
        raise InputError(
            f"{found.source.configuration}: --p is of the p-norm, and pooling is {recipe.pooling} "
            f"({why}): leave it out"
        )
    return recipe, why


def _drawn(
    source: Source, pooling: str, draws: int | None, tiles: int | None, seed: int | None
) -> dict[str, int]:
    """The fields of a recipe that say how tiles are drawn; none where all are taken."""
    if (draws is None) != (tiles is None):
        raise InputError(
            "--draws=N --tiles=K go together: N random draws of K tiles from each slide. Without "
            "either, all tiles make one vector"
        )
    if seed is not None and draws is None:
        raise InputError("--seed is of --draws, and none are asked for: leave it out")
    if source.level == "slide" and (pooling not in (AUTO, "none") or draws):
        flag = "draws" if draws else "pooling"
        raise InputError(
            f"{source.configuration} has one vector for each slide, so --{flag} does nothing: "
            "leave it out, or name other folders as --features"
        )
    if pooling == "none" and draws:
        raise InputError("--draws takes random tiles, --pooling=none each: pass one of them")
    return {"draws": draws, "tiles": tiles, "seed": seed or 0} if draws else {}


def _chosen(
    found: FeatureSet, pooling: str, p: float | None, drawn: dict[str, int], root: Path | None
) -> tuple[Recipe, str]:
    """The recipe and why; see `recipe_for`."""
    source = found.source
    earlier = _recorded(root, source.configuration) if root is not None else None
    if pooling == AUTO and earlier is not None:
        why = "as the descriptors that are there"
        return dataclasses.replace(earlier, source=source, p=p or earlier.p, **drawn), why
    if source.level == "slide":
        return Recipe(source, "none"), "one vector for each slide"
    if pooling == "none":
        return Recipe(source, "none", draws=rows_of_each(found)), "as asked for"
    if pooling == "mean":
        return Recipe(source, "mean", **drawn), "as asked for"
    negative = next((s for s in found.slides.values() if _has_negative(s)), None)
    if negative is None:
        why = "no feature is negative" if pooling == AUTO else "as asked for"
        return Recipe(source, "p-norm", p or Extraction.p, **drawn), why
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


def _has_negative(slide: SlideFeatures) -> bool:
    try:
        return any((block < 0).any() for block in slide.contents.blocks())
    except InputError:  # Damaged: the import says so.
        return False


def rows_of_each(found: FeatureSet) -> int:
    """How many rows every slide has; InputError where slides differ."""
    numbers = {slide.contents.rows: name for name, slide in found.slides.items()}
    if len(numbers) > 1:
        listed = ", ".join(f"{rows} in {name}" for rows, name in sorted(numbers.items())[:5])
        raise InputError(
            f"{found.source.configuration}: with --pooling=none each slide needs the same number "
            f"of rows, found {listed}. Pool tiles with --pooling=mean"
        )
    return next(iter(numbers))
