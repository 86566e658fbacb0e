"""`sweeper compare`: how trials differ, their curves side by side, and their results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.analysis.trial_lookup import FoundTrial, configuration_of, look_up
from sweeper.errors import UserError


@dataclass(frozen=True)
class TrialComparison:
    """Trials side by side; every sequence is in the order of `trials`.

    Attributes:
        trials: their IDs.
        states: of each.
        reasons: of each state.
        varying: dotted path -> value in each trial, where not all agree; None if a trial has no such field.
        objective: name of the metric of the curves: that of the first trial's study.
        curves: epoch -> objective, of each trial.
        metrics: name -> value at each trial's last evaluation; None where it was not reported.
    """

    trials: tuple[str, ...]
    states: tuple[str, ...]
    reasons: tuple[str, ...]
    varying: Mapping[str, tuple[Any, ...]]
    objective: str
    curves: tuple[Mapping[float, float], ...]
    metrics: Mapping[str, tuple[float | None, ...]]


def compare_trials(home: Path, selectors: Sequence[str]) -> TrialComparison:
    """Look up trials, of one study or of several, and compare them.

    Raises:
        UserError: one is not there, or fewer than two were named.
    """
    if len(selectors) < 2:
        raise UserError("at least two trials are needed to compare", help="sweeper compare STUDY:best STUDY-0007")
    found = look_up(home, *selectors)
    objective = found[0].spec.objective.metric
    return TrialComparison(
        trials=tuple(each.trial.id for each in found),
        states=tuple(each.trial.state.value for each in found),
        reasons=tuple(each.trial.reason for each in found),
        varying=varying_keys([configuration_of(each.spec, each.trial) for each in found]),
        objective=objective,
        curves=tuple(_curve(each, objective) for each in found),
        metrics=_last_metrics(found),
    )


def varying_keys(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Key -> value in each config, of the keys in which they differ."""
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = {key: tuple(config.get(key) for config in configs) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _curve(found: FoundTrial, objective: str) -> dict[float, float]:
    reports = found.trial.reports
    return {report.epoch: report.metrics[objective] for report in reports if objective in report.metrics}


def _last_metrics(found: Sequence[FoundTrial]) -> dict[str, tuple[float | None, ...]]:
    last = [each.trial.metrics for each in found]
    names = dict.fromkeys(name for metrics in last for name in metrics)
    return {name: tuple(metrics.get(name) for metrics in last) for name in names}
