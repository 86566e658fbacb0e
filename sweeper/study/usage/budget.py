"""What a study may use, has used and has left. Pure functions: no clock, no files."""

from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.spec.sections import Budget, Resources

HOUR_S = 3600.0


@dataclass(frozen=True)
class Spent:
    """What a study has used so far.

    `trial_s` is the sum over trials of the seconds each held its worker, so that times `resources` it is
    device-seconds. A worker that waits still keeps its device from others, and counts.
    """

    trials: int
    trial_s: float
    wall_clock_s: float
    gpu_seconds: float
    cpu_seconds: float
    euros: float | None


def spent(budget: Budget, resources: Resources, trials: int, trial_s: float, wall_clock_s: float) -> Spent:
    """What trials have used.

    Args:
        budget: for the price of a GPU-hour; without one, euros are unknown (None).
        resources: what each trial takes.
        trials: how many were started.
        trial_s: seconds they held a worker, over all attempts of all.
        wall_clock_s: seconds that drivers of the study ran, together.
    """
    gpu_seconds = trial_s * resources.trial_gpus
    euros = None if budget.euros_per_gpu_hour is None else gpu_seconds / HOUR_S * budget.euros_per_gpu_hour
    return Spent(trials, trial_s, wall_clock_s, gpu_seconds, trial_s * resources.trial_cpus, euros)


def left(budget: Budget, used: Spent) -> dict[str, float]:
    """What is left of each limit the budget sets: its name -> the rest, 0 if it is used up."""
    rest = {}
    for name in ("trials", "wall_clock_s", "gpu_seconds", "cpu_seconds", "euros"):
        limit, amount = getattr(budget, name), getattr(used, name)
        if limit is not None and amount is not None:
            rest[name] = max(0.0, limit - amount)
    return rest


def used_up(budget: Budget, used: Spent) -> str | None:
    """The reason to stop everything now, or None. The number of trials is not such a reason: see `may_start`."""
    for name, rest in left(budget, used).items():
        if rest <= 0 and name != "trials":
            return f"budget: {amount_text(name, getattr(budget, name))} used up"
    return None


def may_start(budget: Budget, used: Spent) -> bool:
    """Whether the budget allows another trial to be started."""
    return all(rest > 0 for rest in left(budget, used).values())


def saved_s(stopped: Iterable[tuple[float, float]], full_epochs: float) -> float:
    """What stopping trials early saved, in seconds of a worker: each would have continued at its own pace.

    Args:
        stopped: for each trial that was stopped for its rank or by a guard, its seconds and its epochs.
        full_epochs: length of a full run.
    """
    return sum(seconds / epochs * max(0.0, full_epochs - epochs) for seconds, epochs in stopped if epochs > 0)


def amount_text(name: str, amount: float) -> str:
    """An amount of one of the budget's limits, for people: `1.5 GPU-hours`, `40 s of wall clock`."""
    match name:
        case "gpu_seconds" | "cpu_seconds":
            device = name[:3].upper()
            number = f"{amount:.3g}" if amount < 1000 else f"{amount:.0f}"
            return f"{amount / HOUR_S:.3g} {device}-hours" if amount >= HOUR_S else f"{number} {device}-seconds"
        case "wall_clock_s":
            return f"{duration_text(amount)} of wall clock"
        case "euros":
            return f"{amount:.2f} euros"
        case _:
            return f"{amount:g} {name}"


def duration_text(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 2 * HOUR_S else f"{seconds / HOUR_S:.3g} h"


def used_text(budget: Budget, used: Spent) -> str:
    """One sentence: what was used, and of which limits."""
    parts = []
    for name in ("wall_clock_s", "gpu_seconds", "cpu_seconds", "euros"):
        amount = getattr(used, name)
        if amount is None or (name == "gpu_seconds" and amount == 0):
            continue
        limit = getattr(budget, name)
        parts.append(amount_text(name, amount) + (f" (of {amount_text(name, limit)})" if limit is not None else ""))
    if budget.trials is not None:
        parts.append(f"{used.trials} of {budget.trials} trials")
    return "used " + ", ".join(parts)
