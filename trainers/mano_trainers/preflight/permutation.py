"""Permutation tests: how often does a shuffled pairing do as well as the true one?"""

from collections.abc import Iterator, Sequence

import numpy as np

from mano_trainers.arrays import Integers


def permutations(count: int, times: int) -> Iterator[Integers]:
    """This many random orders of `count` things, always the same ones."""
    random = np.random.default_rng(0)
    for _ in range(times):
        yield random.permutation(count)


def p_value(true: float, shuffled: Sequence[float]) -> float:
    """Share of pairings, the true one among them, that reach the true score; at least 1 / (shufflings + 1).

    Phipson and Smyth, "Permutation p-values should never be zero", 2010.
    """
    return (1 + sum(value >= true for value in shuffled)) / (1 + len(shuffled))
