"""What validation samples can show: intervals and p-values for samples that may be similar.

Frames of one recording are nearly the same sample. So intervals are over groups (a recording, a subject, or a pose if
poses are independent), and skill is tested against the model's own predictions in another order.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.special import stdtr

from mano_trainers.arrays import Array, Integers, evenly
from mano_trainers.evaluation.metrics import ROUNDING

RESAMPLES: Final = 1000
ORDERS: Final = 12
MOST_ORDERED: Final = 1024
"""The most samples that are reordered: aligning more would slow down training, and say no more about a model worth
looking at."""
SHIFTED_FROM: Final = 8
"""Size of a group from which its predictions are shifted along it; smaller groups are shuffled together."""


def interval(errors: Array, groups: Integers) -> tuple[float, float]:
    """95 % interval of the mean error: a bootstrap of whole groups.

    Cameron, Gelbach and Miller, "Bootstrap-based improvements for inference with clustered errors", 2008 (the pairs
    cluster bootstrap).

    Args:
        errors: (N,) of samples.
        groups: (N,) number of each sample's group, from 0 without gaps.

    Returns:
        Lowest and highest value; both infinite if there is only one group.
    """
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        return -np.inf, np.inf
    sums = np.bincount(groups, weights=errors)
    random = np.random.default_rng(0)
    drawn = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    means = drawn @ sums / (drawn @ sizes)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def p_of_order(error_of: Callable[[Integers, Integers], float], groups: Integers) -> float:
    """p-value that a model's error is as small with its own predictions in another order.

    Along a longer group, a recording, predictions are shifted by a random number of frames: the similarity of
    neighbours remains. Predictions of shorter groups are shuffled together. So a model that does not read the images is
    exposed whatever the frames of a group have in common.

    Mean errors of other orders are about normal, so a few of them give small p-values too: t-test of one value against
    a sample.

    Args:
        error_of: mean error of the predictions at some rows for the truth at others.
        groups: (N,) number of each sample's group, from 0 without gaps, in the order of recording.

    Returns:
        Between 0 and 1; 1 where there is nothing to tell: a single sample, or one prediction for all.
    """
    rows = _some(groups)
    if len(rows) < 2:
        return 1.0
    random = np.random.default_rng(0)
    true = error_of(rows, rows)
    others = np.array([error_of(rows[_other_order(groups[rows], random)], rows) for _ in range(ORDERS)])
    spread = others.std(ddof=1)
    if not spread > ROUNDING * abs(true):
        return 1.0
    return float(stdtr(ORDERS - 1, (true - others.mean()) / (spread * math.sqrt(1 + 1 / ORDERS))))


def _some(groups: Integers) -> Integers:
    """About `MOST_ORDERED` rows from everywhere, in their order. A recording stays whole: of too many, some are left
    out, so that none has too few frames to be shifted."""
    if len(groups) <= MOST_ORDERED:
        return np.arange(len(groups))
    sizes = np.bincount(groups)
    each = max(SHIFTED_FROM, MOST_ORDERED // len(sizes))
    parts = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    thinned = [evenly(part, each) for part in parts]
    share = min(1.0, MOST_ORDERED / sum(map(len, thinned)))
    chosen = evenly(np.arange(len(thinned)), max(1, round(share * len(thinned))))
    return np.sort(np.concatenate([thinned[group] for group in chosen]))


def _other_order(groups: Integers, random: np.random.Generator) -> Integers:
    order = np.arange(len(groups))
    small = np.bincount(groups)[groups] < SHIFTED_FROM
    order[small] = random.permutation(order[small])
    for group in np.unique(groups[~small]):
        rows = np.flatnonzero(groups == group)
        order[rows] = np.roll(rows, random.integers(1, len(rows)))
    return order
