"""The trials of a study with several objectives that no other trial beats. Pure functions."""

from collections.abc import Sequence
from statistics import fmean

from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.noise.model import configuration_key
from sweeper.pruning.domination import dominates
from sweeper.spec.objective import Objective


def objective_values(trial: TrialRecord, objectives: Sequence[Objective]) -> tuple[float | None, ...]:
    """The value of each objective as a trial last reported it; None if it never did, or it was not finite then."""
    return tuple(trial.value(objective.metric) for objective in objectives)


def pareto_front(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The candidates that ran to their end, and that no other such candidate equals in every objective and beats in
    one, by number."""
    points = []
    for trial in trials:
        values = [value for value in objective_values(trial, objectives) if value is not None]
        if trial.state is TrialState.COMPLETE and trial.role == "candidate" and len(values) == len(objectives):
            losses = [one.loss(value) for value, one in zip(values, objectives, strict=True)]
            points.append((losses, trial))
    return [trial for losses, trial in points if not any(dominates(other, losses) for other, _ in points)]


def winner_of(trials: Sequence[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The best candidate that ran to its end. A pruned or collapsed trial never wins, whatever it once scored.

    If some were run again with new seeds, it is the first run of the one with the best average: the best number among
    single runs is the luckiest.
    """
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.role == "candidate"]
    if not any(trial.repeat for trial in finished):
        return best_of(finished, objective)
    groups: dict[str, list[TrialRecord]] = {}
    for trial in finished:
        if trial.value(objective.metric) is not None:
            groups.setdefault(configuration_key(trial), []).append(trial)
    averages = [(fmean(_losses(group, objective)), group[0]) for group in groups.values() if len(group) > 1]
    return min(averages, key=lambda pair: pair[0])[1] if averages else best_of(finished, objective)


def _losses(trials: Sequence[TrialRecord], objective: Objective) -> list[float]:
    return [objective.loss(value) for trial in trials if (value := trial.value(objective.metric)) is not None]


def best_of(trials: Sequence[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The first of the trials with the best value, whatever their states; None if none has a value."""
    scored = [
        (objective.loss(value), trial) for trial in trials if (value := trial.value(objective.metric)) is not None
    ]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None
