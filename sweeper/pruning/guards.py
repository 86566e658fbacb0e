"""Guards: rules on a trial's own reported metrics that say when it is not worth another epoch.

Pure decisions, no Ray and no I/O. A guard that trips ends a trial as COLLAPSED, which is a statement about the trial
alone; whether it is worse than others is `scheduling`'s question.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mano_trainers.report import TrainerOffers
from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.spec.sections import CollapseGuard, Guard, PlateauGuard, ThresholdGuard

RECOVERY_FACTOR = 1.5  # a variance ratio that grew by this factor over the window is recovering


class Point(Protocol):
    """One point of a trial's curve."""

    @property
    def epoch(self) -> float: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Evaluation:
    """A point of a curve that is in no ledger."""

    epoch: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Tripped:
    """Why a guard ended a trial: a sentence for people, and the numbers behind it."""

    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def check_guards(
    guards: Sequence[Guard], curve: Sequence[Point], offers: TrainerOffers = DEFAULT_OFFERS
) -> Tripped | None:
    """The first guard that trips on the curve so far, or None.

    A loss or objective that is not a number always trips, whatever guards the spec names.

    Args:
        guards: of the spec.
        curve: the trial's evaluations, the latest last.
        offers: the names of the metrics that tell a collapse.
    """
    latest = curve[-1]
    for name, value in latest.metrics.items():
        if name == "train/loss" and not math.isfinite(value):
            return Tripped(f"{name} is {value} at epoch {latest.epoch:g}", {"metric": name, "epoch": latest.epoch})
    for guard in guards:
        if isinstance(guard, PlateauGuard):
            if tripped := _stalled(guard, curve):
                return tripped
            continue
        window = _latest(curve, guard.for_evaluations, guard.after_epochs)
        if len(window) < guard.for_evaluations:
            continue
        tripped = _collapsed(guard, window, offers) if isinstance(guard, CollapseGuard) else _beyond(guard, window)
        if tripped:
            return tripped
    return None


def _latest(curve: Sequence[Point], count: int, after_epochs: float) -> Sequence[Point]:
    """The last evaluations that count, up to this number. Does not look at earlier ones: a curve may be long."""
    found: list[Point] = []
    for point in reversed(curve):
        if len(found) == count:
            break
        if point.epoch >= after_epochs:
            found.append(point)
    return found[::-1]


def _collapsed(guard: CollapseGuard, window: Sequence[Point], offers: TrainerOffers) -> Tripped | None:
    """Low variance alone, early on, would kill later winners: every run dips. So three things must hold together over
    the window: the variance ratio is low, R^2 says the images are not being read, and the ratio is not rising."""
    ratios = [point.metrics.get(offers.variance_ratio, math.inf) for point in window]
    r2s = [point.metrics.get(offers.explained, math.inf) for point in window]
    low = all(ratio < guard.var_ratio_below for ratio in ratios)
    blind = all(r2 < guard.r2_below for r2 in r2s)
    rising = len(ratios) > 1 and ratios[-1] > RECOVERY_FACTOR * ratios[0]
    if not (low and blind) or rising:
        return None
    epochs = ", ".join(f"{point.epoch:g}" for point in window)
    return Tripped(
        f"{guard.name}: {offers.variance_ratio.removeprefix('val/')} {ratios[-1]:.4f} < {guard.var_ratio_below:g} and "
        f"{offers.explained.removeprefix('val/')} {r2s[-1]:.3f} < {guard.r2_below:g} at epochs {epochs}, not rising",
        {
            "guard": guard.name,
            "epochs": [point.epoch for point in window],
            offers.variance_ratio: ratios,
            offers.explained: r2s,
        },
    )


def _beyond(guard: ThresholdGuard, window: Sequence[Point]) -> Tripped | None:
    """A metric that was not reported breaks nothing: NaN is neither above nor below, and absence is not NaN."""
    values = [point.metrics[guard.metric] for point in window if guard.metric in point.metrics]
    if len(values) < len(window):
        return None
    limit = None
    if guard.below is not None and all(value < guard.below for value in values):
        limit = f"< {guard.below:g}"
    elif guard.above is not None and all(value > guard.above for value in values):
        limit = f"> {guard.above:g}"
    elif guard.nonfinite and not any(math.isfinite(value) for value in values):
        limit = "is not finite"
    if limit is None:
        return None
    epochs = ", ".join(f"{point.epoch:g}" for point in window)
    return Tripped(
        f"{guard.name}: {guard.metric} {values[-1]:.4g} {limit} at epoch{'s' if len(window) > 1 else ''} {epochs}",
        {"guard": guard.name, "epochs": [point.epoch for point in window], guard.metric: values},
    )


def _stalled(guard: PlateauGuard, curve: Sequence[Point]) -> Tripped | None:
    """NaN counts as no better; an evaluation without the metric does not count."""
    if curve[-1].epoch < guard.after_epochs:
        return None
    sign = 1 if guard.mode == "min" else -1
    best, best_epoch, since = math.inf, 0.0, 0
    for point in curve:
        value = point.metrics.get(guard.metric)
        if value is None:
            continue
        since += 1
        if sign * value < best - (guard.min_delta if math.isfinite(best) else 0.0):
            best, best_epoch, since = sign * value, point.epoch, 0
    if since < guard.for_evaluations or math.isinf(best):
        return None
    return Tripped(
        f"{guard.name}: {guard.metric} no better than {sign * best:.5g} of epoch {best_epoch:g} in {since} evaluations",
        {"guard": guard.name, "best": sign * best, "best_epoch": best_epoch, "evaluations": since},
    )
