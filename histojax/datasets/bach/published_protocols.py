"""Two protocols by which others judge frozen encoders on BACH: eva's and THUNDER's.

Both take the 400 photos in one order, by class in the order of the alphabet and then by file name,
and cut it into parts at the same places for everybody. Read off eva 0.4.5 (kaiko-ai/eva, commit
73b61a79, configs/vision/pathology/offline/classification/bach.yaml) and THUNDER (MICS-Lab/thunder,
commit 6fe47e0); the figures off eva's tools/data/leaderboards/pathology.csv of that version and
THUNDER's page of leaderboards of 2026-04-08, `Per-dataset linear probing performance`.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from histojax.config import BACH_CLASSES
from histojax.datasets import bach
from histojax.datasets.dataset import Dataset
from histojax.errors import InputError

_Ranges = tuple[tuple[int, int], ...]

# Places in the order, the end not included.
_EVA_TRAIN = ((0, 41), (59, 60), (90, 139), (169, 240), (258, 260), (273, 345), (368, 400))
_EVA_VAL = ((41, 59), (60, 90), (139, 169), (240, 258), (260, 273), (345, 368))
_THUNDER_VAL = ((15, 25), (110, 120), (200, 210), (305, 315), (380, 390))
_LISTED = 8  # Images that an error names.


class Split(NamedTuple):
    """Indices of the images that heads are fitted to, chosen by, and reported on; int arrays."""

    fitted: np.ndarray
    chosen: np.ndarray
    reported: np.ndarray


@dataclasses.dataclass(frozen=True)
class PublishedProtocol:
    """How a linear head is fitted to frozen descriptors of BACH, chosen and judged.

    Attributes:
      name, publisher: for people.
      fitted, chosen, reported: the parts, as ranges of places in the order.
      own_resizing: whether photos are resized as each encoder's publishers do, or all bilinearly.
      class_token_alone: whether of a transformer the class token alone is the descriptor.
      decoupled_decay: whether weights decay beside Adam's steps (AdamW), or in the gradient.
      learning_rates, weight_decays: one head is fitted with each pair of them.
      batch_rows: images in a minibatch; the last of an epoch has what is left.
      epochs: at most.
      patience: epochs without a better score after which fitting stops.
      seeds: of the first weights and the order of the images.
      metric: of `chosen`, which decides epoch and pair, and of `reported`: a key of METRICS.
      published_seeds: over how many the published figures are means.
      source: of the figures.
      figures: what was published, by encoder; shares.
    """

    name: str
    publisher: str
    fitted: _Ranges
    chosen: _Ranges
    reported: _Ranges
    own_resizing: bool
    class_token_alone: bool
    decoupled_decay: bool
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    batch_rows: int
    epochs: int
    patience: int
    metric: str
    published_seeds: int
    source: str
    figures: dict[str, float] = dataclasses.field(hash=False)
    seeds: int = 5

    @property
    def chosen_on_reported(self) -> bool:
        """Whether the epoch is chosen by the very images that are reported, which flatters."""
        return self.chosen == self.reported

    @property
    def settings(self) -> tuple[tuple[float, float], ...]:
        """Pairs of learning rate and weight decay, in the order in which ties are decided."""
        return tuple((rate, decay) for rate in self.learning_rates for decay in self.weight_decays)

    def split(self, dataset: Dataset) -> Split:
        """The parts of the data set.

        Raises:
          InputError: it is not BACH's 400 labelled photos, by name and class; all that is missing
            or extra is counted, and some is named.
        """
        places = _order(dataset)
        parts = (self.fitted, self.chosen, self.reported)
        return Split(*(places[np.r_[tuple(slice(*ends) for ends in part)]] for part in parts))


def _order(dataset: Dataset) -> np.ndarray:
    """The index of the image at each place of the order, int [400]."""
    prefixes = dict(zip(BACH_CLASSES, bach.PREFIXES, strict=True))
    expected = [
        (f"{prefixes[label]}{number:03d}", label)
        for label in sorted(prefixes)
        for number in range(1, bach.PER_CLASS + 1)
    ]
    labels = [dataset.classes[label] for label in dataset.labels]
    found = {pair: index for index, pair in enumerate(zip(dataset.names, labels, strict=True))}
    missing = [pair for pair in expected if pair not in found]
    extra = [pair for pair in found if pair not in {*expected}]
    if missing or extra:
        raise InputError(
            f"{len(found)} labelled images are not BACH's {len(expected)} photos, which the split "
            f"is of: {_listed(missing)} missing, {_listed(extra)} not expected. Name the folder of "
            "BACH as unzipped, ICIAR2018_BACH_Challenge"
        )
    return np.array([found[pair] for pair in expected])


def _listed(pairs: list[tuple[str, str]]) -> str:
    """How many, and the first of them: `2 (b001 of Benign, b002 of Benign)`."""
    names = [f"{name} of {label}" for name, label in pairs[:_LISTED]]
    more = ", ..." if len(pairs) > _LISTED else ""
    return f"{len(pairs)} ({', '.join(names)}{more})" if pairs else "none"


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        PublishedProtocol(
            name="eva-bach",
            publisher="eva",
            fitted=_EVA_TRAIN,
            chosen=_EVA_VAL,
            reported=_EVA_VAL,
            own_resizing=False,
            class_token_alone=True,
            decoupled_decay=True,
            learning_rates=(3e-4,),
            # PyTorch's default, which its configuration leaves; its documentation says 0.
            weight_decays=(1e-2,),
            batch_rows=256,
            epochs=6250,  # 12,500 steps, two of them an epoch of 268 images.
            patience=1250,
            metric="balanced_accuracy",
            published_seeds=5,
            source="eva 0.4.5, tools/data/leaderboards/pathology.csv",
            figures={
                "UNI2-h": 0.915,
                "Midnight-12k": 0.904,
                "Virchow2": 0.883,
                "kaiko-B8": 0.866,
                "kaiko-L14": 0.864,
                "kaiko-B16": 0.835,
                "kaiko-S16": 0.812,
                "Hibou-L": 0.810,
                "kaiko-S8": 0.802,
                "UNI": 0.785,
                "Lunit-S16": 0.783,
                "H-optimus-0": 0.759,
                "GigaPath": 0.759,
                "Phikon-v2": 0.732,
                "Phikon": 0.729,
            },
        ),
        PublishedProtocol(
            name="thunder-bach",
            publisher="THUNDER",
            fitted=(
                *((0, 15), (25, 41), (59, 60), (90, 110), (120, 139), (169, 200), (210, 240)),
                *((258, 260), (273, 305), (315, 345), (368, 380), (390, 400)),
            ),
            chosen=_THUNDER_VAL,
            reported=_EVA_VAL,
            own_resizing=True,
            class_token_alone=False,
            decoupled_decay=False,
            learning_rates=(1e-3, 1e-4, 1e-5),
            weight_decays=(0.0, 1e-3, 1e-4),
            batch_rows=64,
            epochs=200,
            patience=200,
            metric="macro_f1",
            published_seeds=1,
            source="THUNDER's leaderboards of 2026-04-08, mics-lab.github.io/thunder/leaderboards",
            figures={
                "Midnight-12k": 0.879,
                "UNI2-h": 0.847,
                "Hibou-L": 0.765,
                "Virchow2": 0.765,
                "UNI": 0.730,
                "kaiko-S16": 0.726,
                "H-optimus-1": 0.725,
                "GigaPath": 0.707,
                "H-optimus-0": 0.697,
                "kaiko-B16": 0.696,
                "Phikon": 0.693,
                "DINOv2-L": 0.689,
                "Virchow": 0.662,
                "Hibou-B": 0.656,
                "Phikon-v2": 0.647,
                "DINOv2-B": 0.644,
            },
        ),
    )
}
