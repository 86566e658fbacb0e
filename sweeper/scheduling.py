"""Rank-based stopping: asynchronous successive halving (ASHA) as a pure function over the study's history.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in its stopping variant. The history
holds healthy trials only: a collapsed trial can have a good early error, and must not hold a place in a rung.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RungResult:
    """How a trial stands at a rung when it arrives there.

    `cutoff` is the worst value that is kept; `rank` counts from 1 among the `of` healthy trials seen at this rung.
    """

    rung_epoch: float
    value: float
    cutoff: float
    rank: int
    of: int
    keep: bool


def rung_epochs(grace_epochs: float, eta: float, max_epochs: float) -> list[float]:
    """Epochs at which trials are compared: grace, grace * eta, ... below the length of a full run."""
    rungs = []
    epoch = grace_epochs
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= eta
    return rungs


def judge_at_rung(
    rung_epoch: float, value: float, earlier: Sequence[float], eta: float, mode: Literal["min", "max"]
) -> RungResult:
    """Keep the trial if it is in the best 1/eta of the healthy trials that reached this rung so far, itself included.

    Args:
        rung_epoch: the rung.
        value: the trial's objective at the rung, finite.
        earlier: objectives of the healthy trials that reached the rung before.
        eta: reduction factor, > 1.
        mode: whether small or large is good.
    """
    ordered = sorted([*earlier, value], reverse=mode == "max")
    places = max(1, int(len(ordered) / eta))
    cutoff = ordered[places - 1]
    better = [other for other in earlier if (other < value if mode == "min" else other > value)]
    keep = value <= cutoff if mode == "min" else value >= cutoff
    return RungResult(rung_epoch, value, cutoff, rank=len(better) + 1, of=len(ordered), keep=keep)
