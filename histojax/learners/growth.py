"""Models that learned nothing: trees of one leaf, and whatever scores all images alike."""

import dataclasses

import numpy as np

from histojax.extraction.provenance import are_imported
from histojax.learners import ensembles, trees
from histojax.learners.ensembles import Ensemble


@dataclasses.dataclass(frozen=True)
class Growth:
    """How many models of an ensemble learned nothing.

    Attributes:
      models: all.
      constant: those that give every image the same scores.
      cause, remedy: in words; empty where no model is constant.
    """

    models: int
    constant: int
    cause: str = ""
    remedy: str = ""

    @property
    def text(self) -> str:
        """All of it in words; empty where no model is constant."""
        if not self.constant:
            return ""
        return (
            f"{self.constant} of {self.models} models learned nothing and give every image the "
            f"same scores: {self.cause}. {self.remedy}."
        )


def check(ensemble: Ensemble) -> Growth:
    """Counts the models of an ensemble that learned nothing, and says why.

    A model is one whose scores of held-out images are all the same; trees must lack any split too.

    Raises:
      InputError: scores are damaged.
    """
    constant = []
    for path in ensemble.models:
        scores = ensembles.read_scores(ensembles.scores_path(path))
        rows = scores.reshape(-1, scores.shape[-1])
        if len(rows) > 1 and (rows == rows[0]).all():
            constant.append(path)
    if ensemble.learner == "trees":
        constant = [path for path in constant if not trees.has_split(path.read_bytes())]
    if not constant:
        return Growth(len(ensemble.models), 0)
    if ensemble.learner == "trees":
        cause, remedy = _why_trees(ensemble, constant[0].read_bytes())
    elif ensemble.learner == "xgboost":
        cause = "the tenth of the rows that a round draws is too few to split, or all look alike"
        remedy = "Train into another folder with --boost=fast, whose leaves follow the rows"
    else:
        cause = "training never left its start, or all images look alike"
        remedy = "Look at the images, or train with a higher learning rate"
    return Growth(len(ensemble.models), len(constant), cause, remedy)


def _why_trees(ensemble: Ensemble, model: bytes) -> tuple[str, str]:
    """The cause and the remedy of trees without a split."""
    folds = ensemble.folds.folds
    images = min(int(np.sum(folds != fold)) for fold in range(ensemble.folds.count))
    first = ensemble.model(ensemble.configurations[0], 0, 0)
    augmentations = ensembles.read_scores(ensembles.scores_path(first)).shape[1]
    rows, leaf = images * augmentations, trees.parameter(model, "min_data_in_leaf")
    imported = are_imported(ensemble.extractions)
    drawn = rows
    if trees.parameter(model, "bagging_freq"):
        drawn = int(rows * trees.parameter(model, "bagging_fraction"))
    if drawn >= 2 * leaf:
        return (
            "no split of their descriptors helps, as where all descriptors are alike",
            "Look at the features, then import them again"
            if imported
            else "Look at the images and at stain_qc.csv, then extract again",
        )
    unit = "augmentations"
    if imported:
        unit = "draw" if augmentations == 1 else "draws"
    cause = f"a fold trains on {rows} rows ({images} images x {augmentations} {unit})"
    if drawn < rows:
        cause += f", of which a round draws {drawn}"
    cause += f", and a leaf holds at least {leaf:g}, so no tree can split them"
    more = "import with more --draws" if imported else "extract more --augmentations"
    return cause, (
        "Train into another folder with --boost=fast, whose leaves follow the rows there are (as "
        f"with --protocol=small, in four folds), or {more}"
    )
