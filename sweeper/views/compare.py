"""Trials side by side, as tables."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table

from sweeper.analysis.compare import TrialComparison
from sweeper.console import output_console, simple_table
from sweeper.search_space.paths import short_names

ABSENT: Final = "-"
BARS: Final = "▁▂▃▄▅▆▇█"
MOST_EPOCHS: Final = 16
"""Lines of the table of curves; of longer ones evenly spaced evaluations are shown."""


def print_comparison(comparison: TrialComparison) -> None:
    """Print three tables on stdout: what varies, the curves of the objective, the last metrics."""
    console = output_console()
    names = short_names(comparison.varying)
    rows = [("state", comparison.states), *((names[path], values) for path, values in comparison.varying.items())]
    console.print(_table(comparison.trials, [(name, [_text(value) for value in row]) for name, row in rows]))
    console.print(f"\n{comparison.objective} by epoch")
    console.print(_curves_table(comparison))
    console.print("\nas last reported")
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
