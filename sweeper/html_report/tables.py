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
from sweeper.study.usage.budget import duration_text
from sweeper.views.ablation import tables
from sweeper.views.study import best_first
from sweeper.views.tables.digits import ABSENT, metric_texts, param_texts
from sweeper.views.tables.trial_table import CHANCE, INTERVAL, shown_metrics, unit_decimals

COST_HEADERS: Final = ("where", "trials", "used (s)", "used", "saved by stopping early")


@dataclass(frozen=True)
class Cell:
    """One cell of a table; `key`: the number it is sorted by, empty if there is none, None to sort by its text."""

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
        _trial_rows(data, best_first(data.trials, data.spec.objective), data.axes),
        "",
        "trial-table",
    )


def control_table(data: StudyData) -> PageTable:
    """The controls, which have no parameters."""
    return PageTable(_trial_headers(data, []), _trial_rows(data, data.controls, []))


def _trial_headers(data: StudyData, axes: Sequence[Axis]) -> list[str]:
    short = column_names(data.spec.search_space)  # as in a terminal and in MLflow, so that the reason is visible
    names = [short[axis.path] for axis in axes]
    objective, *metrics = map(title_of, shown_metrics(data.spec.objectives, data.trials))
    noise = [CHANCE, INTERVAL] if data.noise and axes else []
    return ["trial", "state", objective, *noise, *names, "reason", *metrics, "epochs", "time (s)"]


def _trial_rows(data: StudyData, trials: Sequence[TrialRecord], axes: Sequence[Axis]) -> list[PageRow]:
    """A row per trial, its numbers as the same table has them in a terminal."""
    shown = shown_metrics(data.spec.objectives, data.trials)
    metrics = [_metric_cells([metrics_of(trial).get(metric) for trial in trials], metric) for metric in shown]
    params = [_param_cells([trial.params.get(axis.path, ABSENT) for trial in trials]) for axis in axes]
    return [
        _trial_row(data, trial, [column[place] for column in metrics], [column[place] for column in params])
        for place, trial in enumerate(trials)
    ]


def _trial_row(data: StudyData, trial: TrialRecord, metrics: Sequence[Cell], params: Sequence[Cell]) -> PageRow:
    objective, *others = metrics
    cells = [
        Cell(trial.id, "id"),
        Cell(trial.state.value, "state"),
        objective,
        *(_noise_cells(data, trial) if params else []),
        *params,
        Cell(trial.reason, "reason"),
        *others,
        number_cell(epoch := trial.last.epoch if trial.last else 0.0, f"{epoch:g}"),
        number_cell(trial.seconds, f"{trial.seconds:.1f}"),
    ]
    wins = data.winner is not None and trial.id == data.winner.id
    return PageRow(trial.id, cells, "" if trial.control else trial.state.value, wins)


def _noise_cells(data: StudyData, trial: TrialRecord) -> list[Cell]:
    """The probability that a trial's configuration is the best, and the interval of its mean over seeds."""
    if data.noise is None:
        return []
    known = data.noise.by_trial.get(trial.id)
    if known is None:
        return [Cell("-", "number", ""), Cell("-", "number", "")]
    return [
        Cell(percent(known.p_best), "number", repr(known.p_best)),
        Cell(interval_of(known, data.spec.objective), "number", repr(known.mean)),
    ]


def number_cell(value: float | None, text: str) -> Cell:
    """A number; what is not finite sorts last."""
    return Cell(text, "number", repr(float(value)) if value is not None and math.isfinite(value) else "")


def _metric_cells(values: Sequence[float | None], metric: str) -> list[Cell]:
    return list(map(number_cell, values, metric_texts(values, unit_decimals(metric))))


def _param_cells(values: Sequence[Any]) -> list[Cell]:
    return list(map(_param_cell, values, param_texts(values)))


def _param_cell(value: Any, text: str) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_cell(value, text)
    return Cell(text, "value")


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
                number_cell(part.trials, str(part.trials)),
                number_cell(part.used_s * share, f"{part.used_s * share:.1f}"),
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
