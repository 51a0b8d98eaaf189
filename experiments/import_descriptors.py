"""Features that TRIDENT, CLAM, STAMP or others computed, to descriptors.

histojax import_descriptors --features=JOB --run=runs/uni               all sets of a TRIDENT job
histojax import_descriptors --features=CLAM --name=resnet50 --descriptors=OUT
histojax import_descriptors --features=JOB --run=runs/uni --draws=10 --tiles=200

--features is a TRIDENT job, a folder of feature files, or a file; several are separated by commas.
Files are TRIDENT's, CLAM's and STAMP's (.h5, .pt), .npy, .npz, or .csv; with the features of the
tiles of a slide, or one vector for each slide. Each encoder and kind of tile is a configuration of
its own, such as OUT/uni_v1-20x-256px/<slide>.npy, float32 (draws, channels), with a manifest.json.

The tiles of a slide are pooled: by the p-norm if no feature in the set is negative, else by their
mean. Without --draws all tiles make one vector; --draws=N --tiles=K makes N vectors of K random
tiles each, which training takes as augmentations.

After a stop, the same command goes on. Files that cannot be read, or hold NaN or infinity, are
listed; the script then ends with exit code 3.
"""

import dataclasses
import sys
from collections.abc import Sequence

from absl import flags, logging

from histojax.config import Extraction, Option, options
from histojax.errors import InputError
from histojax.features import feature_sets, importing, recipes
from histojax.features.importing import Imported
from histojax.utils.files import as_path, require_writable
from histojax.utils.words import quantity

from . import runner
from .flag_types import define, define_path

FLAGS = flags.FLAGS
POSITIONAL = ("features",)  # The flag that may be passed without its name.

define(
    "features",
    tuple[str, ...],
    Option("TRIDENT jobs, folders or files of features."),
    required=True,
)
define_path("descriptors", "Folder to write descriptors to.", required=True)
define("name", str, Option("The encoder's name, where neither files nor TRIDENT's folders say it."))
define(
    "pooling",
    str,
    Option(
        "How the tiles of a slide become a vector: auto is the p-norm where no feature is "
        "negative, else the mean; none takes each row of a file as a vector of its slide.",
        choices=(recipes.AUTO, *recipes.POOLINGS),
    ),
    recipes.AUTO,
)
_P_HELP = "Exponent of the p-norm: 1 is the mean, inf the maximum. Default: 3.0."
define("p", float, dataclasses.replace(options(Extraction)["p"], help=_P_HELP))
define("draws", int, Option("Random draws of tiles from each slide; with --tiles.", least=1))
define("tiles", int, Option("Tiles of a draw, without replacement; with --draws.", least=1))
define("seed", int, Option("Seed of the draws. Default: 0.", least=0))


def main() -> None:
    paths = [as_path(path) for path in FLAGS.features]
    root = FLAGS.descriptors
    asked = {name: FLAGS[name].value for name in ("pooling", "p", "draws", "tiles", "seed")}
    found = feature_sets.find(paths, FLAGS.name)
    chosen = [recipes.recipe_for(each, **asked, root=root) for each in found]
    if len({recipe.draws for recipe, _ in chosen}) > 1:
        numbers = ", ".join(f"{r.source.configuration} {r.draws}" for r, _ in chosen)
        raise InputError(
            f"sets would have different numbers of vectors for each slide ({numbers}): import them "
            "into folders of their own"
        )
    require_writable(root)
    done = []
    for each, (recipe, why) in zip(found, chosen, strict=True):
        done.append(importing.import_set(each, root, recipe))
        tell(done[-1], why)
    names = {name for each in done for name in each.names}
    for each in done:
        if missing := sorted(names.difference(each.names)):
            print(f"{each.configuration} lacks {len(missing)} of {len(names)}: {listed(missing)}")
    print(f"descriptors of {quantity(len(names), 'slide')}: {root}")
    if any(each.failures for each in done):
        sys.exit(runner.PARTLY_FAILED)


def tell(done: Imported, why: str) -> None:
    """Says what was decided, and what was left out."""
    recipe, configuration = done.recipe, done.configuration
    if recipe.pooling == "none":
        pooled = "taken row by row"
    else:
        pooled = "pooled by their " + ("mean" if recipe.p is None else f"{recipe.p:g}-norm")
    draws = f", {recipe.draws} draws of {recipe.tiles} tiles" if recipe.tiles else ""
    kept = f"; {done.kept} were there already" if done.kept else ""
    print(
        f"{configuration}: {recipe.source.format}, {quantity(len(done.names), 'slide')}, "
        f"{recipe.source.channels} channels, {pooled} ({why}){draws}{kept}"
    )
    if done.empty:
        print(f"{configuration}: left out, without tiles: {listed(done.empty)}")
    for notice in done.notices:
        print(f"{configuration}: {notice}")
    for reason in done.failures.values():
        logging.error("%s", reason)


def listed(names: Sequence[str]) -> str:
    """The first of some names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


if __name__ == "__main__":
    runner.run(main, __doc__, POSITIONAL)
