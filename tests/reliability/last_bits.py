"""How many p-values move when images are compared one by one in place of all at once.

python -m tests.reliability.last_bits

400 images that were trained on, each exactly as far as in training, so that rounding decides the
rank of each distance unless values that differ by rounding alone are tied.
"""

from unittest import mock

import numpy as np

from histojax.datasets.folds import Folds
from histojax.prediction import distance, out_of_distribution
from histojax.utils import ties

_IMAGES, _CHANNELS, _FOLDS = 400, 512, 10


def main() -> None:
    """Prints the counts."""
    rng, number = np.random.default_rng(0), np.arange(_IMAGES)
    means = {name: rng.normal(size=(_IMAGES, _CHANNELS)).astype(np.float32) for name in "ab"}
    names, labels = tuple(f"i{i}" for i in number), np.zeros(_IMAGES, int)
    split = Folds(names, labels, number % _FOLDS, ("x", "y"))
    reference = out_of_distribution.fit(split, means, {})
    parts = [{name: mean[i : i + 1] for name, mean in means.items()} for i in number]
    others = {name: mean[split.folds > 0] for name, mean in means.items()}
    alone = np.concatenate([distance.to_nearest(others, part) for part in parts])
    print(f"distances that differ: {(alone != distance.to_nearest(others, means)).sum()}")

    def moved() -> int:
        p = out_of_distribution.descriptors_p_values
        each = np.concatenate([p(reference, part) for part in parts])
        return int((np.abs(each - p(reference, means)) > 1e-9).sum())

    print(f"p-values that move: {moved()}")
    with mock.patch.object(ties, "FLOAT32", 0.0):
        print(f"p-values that would move without ties: {moved()}")


if __name__ == "__main__":
    main()
