"""Where in the search space trials collapse: a smoothed share, and the region where at least half do. Pure maths.

The share at a place is that of the collapsed trials among those nearby, weighted by a Gaussian of the distance in the
unit cube of the axes (Nadaraya 1964, Watson 1964). It is left open where fewer than one trial is near.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sweeper.html_report.data import Axis
from sweeper.ledger.trial import TrialRecord, TrialState

GRID: Final = 33
NEAREST: Final = 0.5
"""Weight of trials nearby (1 for one at exactly that place) below which nothing is said."""
JUDGED: Final = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.COLLAPSED)
"""The states that say whether a trial collapsed; one that failed or was stopped might have."""


def collapse_share(trials: Sequence[TrialRecord], axes: Sequence[Axis]) -> NDArray[np.float64]:
    """The smoothed share of collapsed trials on a grid over one or two axes.

    Returns:
        [GRID] for one axis, [GRID of the second, GRID of the first] for two; NaN where no trial is near. All NaN
        if there are not trials of both kinds: then there is no boundary.
    """
    judged = [trial for trial in trials if trial.state in JUDGED and all(axis.path in trial.params for axis in axes)]
    collapsed = np.array([trial.state is TrialState.COLLAPSED for trial in judged], dtype=float)
    shape = (GRID,) * len(axes)
    if not 0 < collapsed.sum() < len(judged):
        return np.full(shape, np.nan)
    places = np.array([[axis.unit(trial.params[axis.path]) for axis in axes] for trial in judged])  # (n, axes)
    line = np.linspace(0.0, 1.0, GRID)
    grid = np.stack(np.meshgrid(*[line] * len(axes)), axis=-1)  # (..., axes)
    distance2 = ((grid[..., None, :] - places) ** 2).sum(-1)
    weight = np.exp(-distance2 / (2 * bandwidth(len(judged), len(axes)) ** 2))
    near = weight.sum(-1)
    share = weight @ collapsed / np.maximum(near, 1e-300)
    return np.where(near >= NEAREST, share, np.nan)


def bandwidth(trials: int, axes: int) -> float:
    """Scott's rule (1992) for points that fill the unit cube evenly, whose standard deviation is 1/sqrt(12)."""
    return max(0.05, math.pow(trials, -1 / (axes + 4)) / math.sqrt(12))


def collapsed_regions(trials: Sequence[TrialRecord], axis: Axis) -> list[tuple[float, float]]:
    """Where along an axis at least half of the trials nearby collapsed: pairs of numbers, low and high; of a
    category, from half a place below to half a place above."""
    if axis.kind == "category":
        return [(index - 0.5, index + 0.5) for index in range(len(axis.categories)) if _half_of(trials, axis, index)]
    over = collapse_share(trials, [axis]) >= 0.5  # NaN is not
    edges = np.flatnonzero(np.diff(np.concatenate([[0], over.astype(int), [0]])))
    half = 0.5 / (GRID - 1)
    return [
        (axis.at(max(0.0, start / (GRID - 1) - half)), axis.at(min(1.0, (end - 1) / (GRID - 1) + half)))
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def _half_of(trials: Sequence[TrialRecord], axis: Axis, index: int) -> bool:
    own = [
        trial.state is TrialState.COLLAPSED
        for trial in trials
        if trial.state in JUDGED and axis.path in trial.params and axis.index(trial.params[axis.path]) == index
    ]
    return bool(own) and 2 * sum(own) >= len(own)
