"""Exchanges of labels for permutation tests that keep groups whole.

Where all of a group's members have one label, whole groups exchange their labels; where they have
several, they do so among themselves. All exchanges are tried where they are few, else random ones
(Phipson and Smyth, Permutation p-values should never be zero, 2010).

N members, P exchanges.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import gammaln

from histojax.utils import ties

_LABELS_AT_ONCE = 1_000_000  # Held in memory at a time.


@dataclasses.dataclass(frozen=True)
class Exchanges:
    """Labels after exchanges.

    Attributes:
      parts: int [at most P, N] each, some exchanges at a time; where they are random, the labels as
        they are, which count as one of them, are left out.
      exact: whether these are all that exist.
    """

    parts: Iterator[np.ndarray]
    exact: bool


def exchange(groups: Sequence[str], labels: np.ndarray, draws: int, seed: int) -> Exchanges:
    """The exchanges of labels, int [N], between groups.

    Args:
      groups: of each member.
      labels: from 0 on.
      draws: exchanges that are tried, where more exist; the labels as they are count as one.
      seed: of numpy's default generator.
    """
    blocks = _blocks(groups, labels)
    exact = sum(_log_arrangements(of_block) for _, of_block in blocks) < math.log(draws + 0.5)
    parts = _all_labels(blocks) if exact else _random_labels(blocks, draws - 1, seed)
    return Exchanges(parts, exact)


def with_labels_as_they_are(tried: np.ndarray, value: float, exact: bool) -> np.ndarray:
    """The statistic in every exchange, among them that of the labels as they are."""
    return tried if exact else np.append(tried, value)


def p_value(tried: np.ndarray, value: float) -> float:
    """The share of exchanges, the labels as they are among them, whose statistic reaches a value.

    Of labels that are all alike, no statistic is defined, and nothing is shown: 1.
    """
    return 1.0 if math.isnan(value) else float((tried >= value - ties.FLOAT64).mean())


# Units that exchange their labels: the members of each, as index arrays, and their labels.
_Block = tuple[list[np.ndarray], np.ndarray]


def _blocks(groups: Sequence[str], labels: np.ndarray) -> list[_Block]:
    """Groups of one label, which exchange it with each other; then each other group's members.

    A unit has one label: it is a group in the first block, and a member in the others.
    """
    group = np.unique(groups, return_inverse=True)[1]
    whole, blocks = [], []
    order = np.argsort(group, kind="stable")
    for members in np.split(order, np.cumsum(np.bincount(group))[:-1]):
        own = labels[members]
        if (own == own[0]).all():
            whole.append(members)
        else:
            blocks.append(([np.array([member]) for member in members], own))
    if whole:
        blocks.insert(0, (whole, np.array([labels[members[0]] for members in whole])))
    return blocks


def _log_arrangements(labels: np.ndarray) -> float:
    """The logarithm of the number of ways in which the labels of a block can be arranged."""
    return float(gammaln(len(labels) + 1) - gammaln(np.bincount(labels) + 1).sum())


def _all_labels(blocks: Sequence[_Block]) -> Iterator[np.ndarray]:
    """The labels of all members in every exchange, int [P, N]."""
    arrangements = [list(_arranged(labels.tolist())) for _, labels in blocks]
    exchanged = list(itertools.product(*arrangements))
    columns = [np.array([one[place] for one in exchanged]) for place in range(len(blocks))]
    yield _spread(blocks, columns)


def _arranged(labels: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Each distinct arrangement of labels, once, in lexicographic order (Narayana's algorithm)."""
    row = sorted(labels)
    while True:
        yield tuple(row)
        rising = (i for i in range(len(row) - 2, -1, -1) if row[i] < row[i + 1])
        if (i := next(rising, None)) is None:
            return
        j = next(j for j in range(len(row) - 1, i, -1) if row[j] > row[i])
        row[i], row[j] = row[j], row[i]
        row[i + 1 :] = reversed(row[i + 1 :])


def _random_labels(blocks: Sequence[_Block], draws: int, seed: int) -> Iterator[np.ndarray]:
    """The labels of all members in random exchanges, int [at most P, N], some at a time."""
    rng = np.random.default_rng(seed)
    count = sum(len(members) for units, _ in blocks for members in units)
    step = max(1, _LABELS_AT_ONCE // count)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        columns = [rng.permuted(np.tile(labels, (rows, 1)), axis=1) for _, labels in blocks]
        yield _spread(blocks, columns)


def _spread(blocks: Sequence[_Block], columns: Sequence[np.ndarray]) -> np.ndarray:
    """Labels of units, int [P, units] by block, as labels of members, int [P, N]."""
    order = np.concatenate([members for units, _ in blocks for members in units])
    sizes = [[len(members) for members in units] for units, _ in blocks]
    spread = [np.repeat(labels, of, axis=1) for labels, of in zip(columns, sizes, strict=True)]
    found = np.empty((len(columns[0]), len(order)), np.int64)
    found[:, order] = np.concatenate(spread, axis=1)
    return found
