"""`sweeper compare`: what trials differ in, their curves side by side, and what they came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from sweeper.analysis.trial_lookup import FoundTrial, configuration_of, look_up
from sweeper.errors import UserError
from sweeper.search_space.dimensions import short_names
from sweeper.views.study import output_console, simple_table

ABSENT: Final = "-"
BARS: Final = "▁▂▃▄▅▆▇█"
MOST_EPOCHS: Final = 16
"""Lines of the table of curves; of longer ones evenly spaced evaluations are shown."""


@dataclass(frozen=True)
class TrialComparison:
    """Trials side by side; every sequence is in the order of `trials`.

    Attributes:
        trials: their IDs.
        states: how each stands.
        reasons: and why.
        varying: dotted path -> value of each trial, where not all agree; None where a trial has no such field.
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
    last = [each.trial.last.metrics if each.trial.last else {} for each in found]
    names = dict.fromkeys(name for metrics in last for name in metrics)
    return {name: tuple(metrics.get(name) for metrics in last) for name in names}


def print_comparison(comparison: TrialComparison) -> None:
    """Print three tables on stdout: what varies, the curves of the objective, the last metrics."""
    console = output_console()
    names = short_names(comparison.varying)
    rows = [("state", comparison.states), *((names[path], values) for path, values in comparison.varying.items())]
    console.print(_table(comparison.trials, [(name, [_text(value) for value in row]) for name, row in rows]))
    console.print(f"\n{comparison.objective} by epoch")
    console.print(_curves_table(comparison))
    console.print("\nlast evaluation")
    metrics = [(name, [_text(value) for value in row]) for name, row in comparison.metrics.items()]
    console.print(_table(comparison.trials, metrics))
    console.print()
    for trial, reason in zip(comparison.trials, comparison.reasons, strict=True):
        console.print(f"{trial}: {reason or 'has not ended'}", markup=False)


def _curves_table(comparison: TrialComparison) -> Table:
    epochs = sorted({epoch for curve in comparison.curves for epoch in curve})
    step = max(1, -(-len(epochs) // MOST_EPOCHS))
    shown = epochs[::-1][::step][::-1]  # with the last one
    rows: list[tuple[str, Sequence[str]]] = [
        (f"{epoch:g}", [_text(curve.get(epoch)) for curve in comparison.curves]) for epoch in shown
    ]
    values = [value for curve in comparison.curves for value in curve.values()]
    if values:
        low, high = min(values), max(values)
        rows.append(("curve", [sparkline(list(curve.values()), low, high) for curve in comparison.curves]))
    return _table(comparison.trials, rows)


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A curve as bars of one line, on a scale from `low` to `high`; a value that is not finite is a gap."""
    height = (high - low) or 1.0
    steps = [(value - low) / height * (len(BARS) - 1) for value in values]
    return "".join(BARS[round(step)] if 0 <= step <= len(BARS) - 1 else " " for step in steps)


def _table(trials: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Table:
    table = simple_table(("", *trials))
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def _text(value: object) -> str:
    match value:
        case None:
            return ABSENT
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)
