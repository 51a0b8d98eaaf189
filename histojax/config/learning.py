"""What decides a model beside the folds: trees, heads, fine-tuned encoders."""

import dataclasses

from histojax.config.options import LARGEST_SEED, option

BOOSTS = ("paper", "fast", "xgboost")
HEADS = ("linear", "hidden")
BLOCKS = ("last", "all")


@dataclasses.dataclass(frozen=True)
class EnsembleSize:
    """How many models an ensemble has for each configuration."""

    folds: int = option(10, "Folds of the cross-validation.", least=2)
    fold_seed: int = option(0, "Seed of the split into folds.", least=0, most=LARGEST_SEED)
    seeds: int = option(5, "Models with different seeds per fold and configuration.", least=1)


@dataclasses.dataclass(frozen=True)
class Boosting(EnsembleSize):
    """LightGBM's parameters; what is not named here is LightGBM's default."""

    rounds: int = option(70, "Boosting rounds.", least=1)
    learning_rate: float = option(0.1, "LightGBM's learning_rate.", above=0)
    num_leaves: int = option(191, "LightGBM's num_leaves.", least=2, most=131072)
    max_depth: int = option(7, "LightGBM's max_depth.")
    feature_fraction: float = option(0.46, "LightGBM's feature_fraction.", above=0, most=1)
    bagging_fraction: float = option(0.69, "LightGBM's bagging_fraction.", above=0, most=1)
    bagging_freq: int = option(
        0, "LightGBM's bagging_freq; 0, as in the paper, makes bagging inert.", least=0
    )
    boost: str = option(
        "paper",
        "Which trees are grown: paper, the paper's, bit for bit; fast, with 15 bins, a tenth of "
        "the rows for each round, a fifth of the channels for each tree, and leaves that follow "
        "the rows where they are few; xgboost, XGBoost's with such settings "
        "(requirements-xgboost.txt).",
        choices=BOOSTS,
    )

    @property
    def learner(self) -> str:
        """Which library's trees: a key of `ensembles.LEARNERS`."""
        return "xgboost" if self.boost == "xgboost" else "trees"


@dataclasses.dataclass(frozen=True)
class Probe(EnsembleSize):
    """Heads on frozen descriptors, trained by Adam."""

    head: str = option(
        "linear", "Kind of head: hidden has one hidden layer with ReLU.", choices=HEADS
    )
    hidden_units: int = option(64, "Units of the hidden layer.", least=1)
    learning_rate: float = option(1e-3, "Adam's learning rate.", above=0)
    weight_decay: float = option(
        1e-3,
        "L2 penalty of a head's kernels: half of it times their sum of squares adds to the loss.",
        least=0,
    )
    batch_rows: int = option(
        128, "Descriptors in a minibatch; each augmentation of an image is one.", least=1
    )
    epochs: int = option(200, "Epochs of training at most.", least=1)
    patience: int = option(
        20,
        "Epochs without a lower validation loss after which training stops; the best one is kept.",
        least=1,
    )
    validation_parts: int = option(
        6,
        "Parts that the training images of a fold fall into; one decides which epoch is kept.",
        least=2,
    )


@dataclasses.dataclass(frozen=True)
class Finetune(EnsembleSize):
    """Encoders trained further on crops, by AdamW."""

    seeds: int = option(1, "Models with different seeds per fold and configuration.", least=1)
    blocks: str = option(
        "last",
        "What is trained: last, the layers at the coarsest resolution, or all layers.",
        choices=BLOCKS,
    )
    head_learning_rate: float = option(1e-3, "AdamW's peak learning rate of the new head.", above=0)
    body_learning_rate: float = option(
        1e-5, "AdamW's peak learning rate of the encoder's trained layers.", above=0
    )
    weight_decay: float = option(1e-3, "AdamW's decay of kernels.", least=0)
    batch_crops: int = option(16, "Crops that a step of training takes.", least=1)
    crops_per_epoch: int = option(4, "Random crops of each training image in an epoch.", least=1)
    epochs: int = option(10, "Epochs of training; the best one is kept.", least=1)
    warmup_epochs: int = option(
        1,
        "Epochs in which learning rates rise; after them they fall to zero along a cosine.",
        least=0,
    )
    validation_parts: int = option(
        6,
        "Parts that the training images of a fold fall into; one decides which epoch is kept.",
        least=2,
    )
