"""The tables of the page: trials, controls, variants, cost."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sweeper.analysis.ablation import AblationResult
from sweeper.html_report.data import Axis, CostShare, StudyData, costs, device_of, metrics_of, title_of
from sweeper.ledger.trial import TrialRecord
from sweeper.noise.words import interval_of, percent
from sweeper.search_space.paths import column_names
from sweeper.search_space.value_text import value_text
from sweeper.study.usage.budget import duration_text
from sweeper.views.ablation import tables
from sweeper.views.study import best_first
from sweeper.views.tables.trial_table import CHANCE, INTERVAL, VARIANCE, shown_metrics

COST_HEADERS: Final = ("where", "trials", "used (s)", "used", "saved by stopping early")


@dataclass(frozen=True)
class Cell:
    """One cell of a table; `key`: the number it is sorted by, empty where there is none, None to sort by its text."""

    text: str
    kind: str = ""
    key: float | str | None = None


@dataclass(frozen=True)
class PageRow:
    """One row of a table; `state`: the filter of states applies to it."""

    id: str
    cells: Sequence[Cell]
    state: str = ""
    wins: bool = False


@dataclass(frozen=True)
class PageTable:
    """A table; `id`: of its element, `title`: above it."""

    headers: Sequence[str]
    rows: Sequence[PageRow]
    title: str = ""
    id: str = ""


def trial_table(data: StudyData) -> PageTable:
    """Every candidate, the best first."""
    return PageTable(
        _trial_headers(data, data.axes),
        [_trial_row(data, trial, data.axes) for trial in best_first(data.trials, data.spec.objective)],
        "",
        "trial-table",
    )


def control_table(data: StudyData) -> PageTable:
    """The controls, which have no parameters."""
    return PageTable(_trial_headers(data, []), [_trial_row(data, control, []) for control in data.controls])


def _trial_headers(data: StudyData, axes: Sequence[Axis]) -> list[str]:
    short = column_names(data.spec.search_space)  # as in a terminal and in MLflow, so that the reason is in view
    names = [short[axis.path] for axis in axes]
    objective, *metrics = map(title_of, shown_metrics(data.spec.objectives, data.trials))
    noise = [CHANCE, INTERVAL] if data.noise and axes else []
    return ["trial", "state", objective, *noise, *names, "reason", *metrics, "epochs", "time (s)"]


def _trial_row(data: StudyData, trial: TrialRecord, axes: Sequence[Axis]) -> PageRow:
    metrics = metrics_of(trial)
    shown = shown_metrics(data.spec.objectives, data.trials)
    forms = {metric: "{:.2f}" if metric.endswith("_mm") else "{:.4g}" for metric in shown}
    forms[VARIANCE] = "{:.3f}"
    objective, *others = (number_cell(metrics.get(metric), form) for metric, form in forms.items())
    cells = [
        Cell(trial.id, "id"),
        Cell(trial.state.value, "state"),
        objective,
        *_noise_cells(data, trial, axes),
        *(_param_cell(trial.params[axis.path]) if axis.path in trial.params else Cell("-", "value") for axis in axes),
        Cell(trial.reason, "reason"),
        *others,
        number_cell(trial.last.epoch if trial.last else 0.0, "{:g}"),
        number_cell(trial.seconds, "{:.1f}"),
    ]
    wins = data.winner is not None and trial.id == data.winner.id
    return PageRow(trial.id, cells, "" if trial.control else trial.state.value, wins)


def _noise_cells(data: StudyData, trial: TrialRecord, axes: Sequence[Axis]) -> list[Cell]:
    """The probability that a trial's configuration is the best, and the interval of its mean over seeds."""
    if data.noise is None or not axes:
        return []
    known = data.noise.by_trial.get(trial.id)
    if known is None:
        return [Cell("-", "number", ""), Cell("-", "number", "")]
    return [
        Cell(percent(known.p_best), "number", repr(known.p_best)),
        Cell(interval_of(known, data.spec.objective), "number", repr(known.mean)),
    ]


def number_cell(value: float | None, form: str) -> Cell:
    """A number; a dash where there is none, and what it is where it is not finite, which sorts last."""
    if value is None:
        return Cell("-", "number", "")
    return Cell(form.format(value), "number", repr(float(value)) if math.isfinite(value) else "")


def _param_cell(value: Any) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(value_text(value), "number", repr(float(value)))
    return Cell(value_text(value), "value")


def cost_table(data: StudyData) -> PageTable:
    """Where the device-seconds went, and the total."""
    device, share = device_of(data.spec)
    parts = costs(data)
    used_s, saved_s = sum(part.used_s for part in parts), sum(part.saved_s for part in parts)
    total = CostShare("total", None, sum(part.trials for part in parts), used_s, saved_s)
    rows = [
        PageRow(
            part.name,
            [
                Cell(part.name, "state" if part.state else ""),
                number_cell(part.trials, "{:.0f}"),
                number_cell(part.used_s * share, "{:.1f}"),
                Cell(f"{duration_text(part.used_s * share)} of {device}"),
                Cell(f"about {duration_text(part.saved_s * share)}" if part.saved_s else "-"),
            ],
        )
        for part in [*parts, *([total] if parts else [])]
    ]
    return PageTable(COST_HEADERS, rows)


def variant_tables(result: AblationResult) -> list[PageTable]:
    """The variants against the baseline, and of a factorial its effects."""
    return [
        PageTable(headers, [PageRow(row[0], [_text_cell(text) for text in row]) for row in rows], title.capitalize())
        for title, headers, rows in tables(result)
    ]


def _text_cell(text: str) -> Cell:
    """A cell that is sorted by the number it starts with, if it does."""
    number = re.match(r"(?:< )?([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w-])", text)
    if text == "-":
        return Cell(text, "number", "")
    return Cell(text, "number", repr(float(number[1]))) if number else Cell(text)
