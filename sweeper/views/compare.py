"""Trials side by side, as tables."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console

from sweeper.analysis.compare import TrialComparison
from sweeper.console import output_console
from sweeper.search_space.paths import short_names
from sweeper.search_space.value_text import value_text
from sweeper.spec.objective import metric_number
from sweeper.views.tables.columns import GAP, Column, lines_of
from sweeper.views.tables.digits import ABSENT

BARS: Final = "▁▂▃▄▅▆▇█"
MOST_EPOCHS: Final = 16
"""Lines of the table of curves; for longer ones evenly spaced evaluations are shown."""


def print_comparison(comparison: TrialComparison) -> None:
    """Print three tables on stdout: what varies, the curves of the objective, the last metrics."""
    console = output_console()
    names = short_names(comparison.varying)
    rows = [("state", comparison.states), *((names[path], values) for path, values in comparison.varying.items())]
    _print(console, comparison.trials, [(name, [_text(value) for value in row]) for name, row in rows])
    console.print(f"\n{comparison.objective} by epoch")
    _print(console, comparison.trials, _curve_rows(comparison))
    console.print("\nas last reported")
    metrics = [(name, [_number(name, value) for value in row]) for name, row in comparison.metrics.items()]
    _print(console, comparison.trials, metrics)
    console.print()
    for trial, reason in zip(comparison.trials, comparison.reasons, strict=True):
        console.print(f"{trial}: {reason or 'has not ended'}", markup=False)


def _curve_rows(comparison: TrialComparison) -> list[tuple[str, Sequence[str]]]:
    epochs = sorted({epoch for curve in comparison.curves for epoch in curve})
    step = max(1, -(-len(epochs) // MOST_EPOCHS))
    shown = epochs[::-1][::step][::-1]  # with the last one
    rows: list[tuple[str, Sequence[str]]] = [
        (f"{epoch:g}", [_number(comparison.objective, curve.get(epoch)) for curve in comparison.curves])
        for epoch in shown
    ]
    values = [value for curve in comparison.curves for value in curve.values()]
    if values:
        low, high = min(values), max(values)
        rows.append(("curve", [sparkline(list(curve.values()), low, high) for curve in comparison.curves]))
    return rows


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A curve as bars of one line, on a scale from `low` to `high`; a value that is not finite is a gap."""
    height = (high - low) or 1.0
    steps = [(value - low) / height * (len(BARS) - 1) for value in values]
    return "".join(BARS[round(step)] if 0 <= step <= len(BARS) - 1 else " " for step in steps)


def _print(console: Console, trials: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Print a column a trial; where the terminal is too narrow for all of them, the others below."""
    names = Column("", tuple(name for name, _ in rows), "left")
    columns = [Column(trial, tuple(cells[place] for _, cells in rows)) for place, trial in enumerate(trials)]
    for number, block in enumerate(blocks(names, columns, console.width if console.is_terminal else None)):
        if number:
            console.print()
        for line in lines_of([names, *block]):
            console.print(line, soft_wrap=True)


def blocks(names: Column, columns: Sequence[Column], width: int | None) -> list[list[Column]]:
    """The columns in as many groups as it takes for each to stand beside `names` in the width; none is empty."""
    found: list[list[Column]] = [[]]
    for column in columns:
        taken = names.width + sum(GAP + each.width for each in found[-1])
        if width is not None and found[-1] and taken + GAP + column.width > width:
            found.append([])
        found[-1].append(column)
    return found


def _text(value: object) -> str:
    return ABSENT if value is None else value_text(value, 4)


def _number(metric: str, value: float | None) -> str:
    return ABSENT if value is None else metric_number(metric, value)
