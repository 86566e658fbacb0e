"""The trials of a study with several objectives that no other trial beats. Pure functions."""

import math
from collections.abc import Sequence

from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.spec.sections import Objective


def objective_values(report: Report | None, objectives: Sequence[Objective]) -> list[float | None]:
    """The value of each objective at an evaluation; None where it was not reported or is not finite."""
    values = [report.metrics.get(objective.metric) if report else None for objective in objectives]
    return [value if value is not None and math.isfinite(value) else None for value in values]


def pareto_front(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The candidates that ran to their end, and that no other such candidate equals in every objective and beats in
    one, by number."""
    points = []
    for trial in trials:
        values = [value for value in objective_values(trial.last, objectives) if value is not None]
        if trial.state is TrialState.COMPLETE and trial.role == "candidate" and len(values) == len(objectives):
            losses = [value if one.mode == "min" else -value for value, one in zip(values, objectives, strict=True)]
            points.append((losses, trial))
    return [trial for losses, trial in points if not any(_dominates(other, losses) for other, _ in points)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


def winner_of(trials: Sequence[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The best candidate that ran to its end. A pruned or collapsed trial never wins, whatever it once scored."""
    finished = [
        (trial.last.metrics[objective.metric], trial)
        for trial in trials
        if trial.state is TrialState.COMPLETE and trial.role == "candidate" and trial.last
        if objective.metric in trial.last.metrics
    ]
    if not finished:
        return None
    pick = min if objective.mode == "min" else max
    return pick(finished, key=lambda pair: pair[0])[1]
