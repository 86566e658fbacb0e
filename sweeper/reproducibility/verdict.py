"""The verdict on a rerun: how close it comes to the record."""

import math
from collections.abc import Sequence
from typing import Final

from sweeper.reproducibility.metric_diff import RELATIVE_TOLERANCE, Deviation
from sweeper.reproducibility.rerun import Rerun
from sweeper.tracking import RecordedTrial
from sweeper.tracking.recorded.seed_spread import SeedSpread

BIT_EXACT: Final = "BIT-EXACT"
WITHIN_TOLERANCE: Final = "WITHIN TOLERANCE"
AS_SEEDS: Final = "AS FAR APART AS TWO SEEDS"
DIFFERS: Final = "DIFFERS"
DID_NOT_FINISH: Final = "THE RERUN DID NOT FINISH"
"""It crashed, and until then nothing differed by more than the tolerance."""


def judge(found: Sequence[Deviation], rerun: Rerun, trial: RecordedTrial, spread: SeedSpread | None = None) -> str:
    """The verdict, with the place of the largest or the first deviation.

    Args:
        found: values that are not equal.
        rerun: the rerun.
        trial: the record.
        spread: how far apart seeds of the study are; None: not known.
    """
    beyond = next((deviation for deviation in found if not deviation.is_tolerable), None)
    if beyond is not None and rerun.failure and beyond.step not in rerun.metrics:
        return f"{DID_NOT_FINISH} (it ended before {place_of(trial, beyond.step)})"
    if beyond is not None:
        what = beyond.metric if beyond.step in rerun.metrics else "the rerun did not get there"
        differs = f"from {place_of(trial, beyond.step)} ({what})"
        apart = None if spread is None else _apart_at_end(rerun, trial, spread.metric)
        if spread is None or apart is None:
            return f"{DIFFERS} {differs}"
        ends = f"{spread.metric} ends {apart:.3g} apart; two seeds of this study up to {spread.largest:.3g}"
        if apart <= spread.largest:
            return f"{AS_SEEDS} {differs}: {ends} in 19 of 20 pairs"
        return f"{DIFFERS} {differs}, further than seeds: {ends}"
    if found:
        worst = max(found, key=lambda deviation: deviation.relative)
        place = f"{worst.metric} at step {worst.step}"
        return f"{WITHIN_TOLERANCE} (largest relative deviation {worst.relative:.2g}, {place})"
    if rerun.weights is not None:
        step = rerun.weights.step
        if rerun.weights.relative > RELATIVE_TOLERANCE:
            return f"{DIFFERS} from {place_of(trial, step)} (every metric is equal, the weights {rerun.weights.tensor})"
        return f"{WITHIN_TOLERANCE} (every metric is equal, the weights differ from step {step})"
    return BIT_EXACT


def _apart_at_end(rerun: Rerun, trial: RecordedTrial, metric: str) -> float | None:
    """How far apart the two end in a metric; None if the rerun did not get there, or it was not reported."""
    last = max(trial.metrics)
    then, now = (side.metrics.get(last, {}).get(metric) for side in (trial, rerun))
    apart = math.nan if rerun.failure or then is None or now is None else abs(then - now)
    return apart if math.isfinite(apart) else None


def place_of(trial: RecordedTrial, step: int) -> str:
    epoch = trial.metrics[step].get("epoch")
    return f"step {step}" if epoch is None else f"epoch {epoch:g}"
