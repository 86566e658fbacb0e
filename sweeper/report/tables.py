"""The tables of the page: trials, controls, variants, cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sweeper.budget import duration_text
from sweeper.replicates import VariantRuns, interval_text, runs_of_variants
from sweeper.report.data import Cost, StudyData, costs, device_of, metrics_of, text_of, title_of
from sweeper.trial import TrialRecord
from sweeper.views import VARIANCE

COST_HEADERS: Final = ("where", "trials", "used (s)", "used", "saved by stopping early")
VARIANT_HEADERS: Final = (
    "variant",
    "runs",
    "mean",
    "95 % interval",
    "standard deviation",
    "not in the mean, or collapsed",
)


@dataclass(frozen=True)
class Cell:
    """One cell of a table; `key`: the number it is sorted by, empty where there is none, None to sort by its text."""

    text: str
    kind: str = ""
    key: float | str | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table; `state`: the filter of states applies to it."""

    id: str
    cells: Sequence[Cell]
    state: str = ""
    wins: bool = False


def trial_headers(data: StudyData, *, with_params: bool = True) -> list[str]:
    """The columns of the table of trials, or of the controls, which have no parameters."""
    names = [axis.name for axis in data.axes] if with_params else []
    metrics = [title_of(objective.metric) for objective in data.spec.objectives]
    return ["trial", "state", *metrics, title_of(VARIANCE), "epochs", "time (s)", *names, "reason"]


def trial_row(data: StudyData, trial: TrialRecord, *, with_params: bool = True) -> Row:
    """A trial as a row of that table."""
    metrics = metrics_of(trial)
    values = [metrics.get(one.metric) for one in data.spec.objectives]
    forms = ["{:.2f}" if one.metric.endswith("_mm") else "{:.4g}" for one in data.spec.objectives]
    params = [trial.params.get(axis.path) for axis in data.axes] if with_params else []
    cells = [
        Cell(trial.id),
        Cell(trial.state.value, "state"),
        *(number_cell(value, form) for value, form in zip(values, forms, strict=True)),
        number_cell(metrics.get(VARIANCE), "{:.3f}"),
        number_cell(trial.last.epoch if trial.last else 0.0, "{:g}"),
        number_cell(trial.seconds, "{:.1f}"),
        *(_param_cell(value) for value in params),
        Cell(trial.reason, "reason"),
    ]
    wins = data.winner is not None and trial.id == data.winner.id
    return Row(trial.id, cells, "" if trial.control else trial.state.value, wins)


def number_cell(value: float | None, form: str) -> Cell:
    """A number; a dash where there is none, and what it is where it is not finite, which sorts last."""
    if value is None:
        return Cell("-", "number", "")
    return Cell(form.format(value), "number", repr(float(value)) if math.isfinite(value) else "")


def _param_cell(value: Any) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(text_of(value), "number", repr(float(value)))
    return Cell("-" if value is None else text_of(value), "value")


def cost_rows(data: StudyData) -> list[Row]:
    """Where the device-seconds went, and the total."""
    device, share = device_of(data.spec)
    rows = costs(data)
    used_s, saved_s = sum(row.used_s for row in rows), sum(row.saved_s for row in rows)
    total = Cost("total", None, sum(row.trials for row in rows), used_s, saved_s)
    return [
        Row(
            row.name,
            [
                Cell(row.name, "state" if row.state else ""),
                number_cell(row.trials, "{:.0f}"),
                number_cell(row.used_s * share, "{:.1f}"),
                Cell(f"{duration_text(row.used_s * share)} of {device}"),
                Cell(f"about {duration_text(row.saved_s * share)}" if row.saved_s else "-"),
            ],
        )
        for row in [*rows, *([total] if rows else [])]
    ]


def variant_rows(data: StudyData) -> list[Row]:
    """Each variant over its seeds, in the order of the spec."""
    runs = runs_of_variants(data.spec, data.trials)
    return [_variant_row(data, each) for each in runs if each.runs]


def _variant_row(data: StudyData, runs: VariantRuns) -> Row:
    found, form = runs.estimate, "{:.2f}" if data.spec.objective.metric.endswith("_mm") else "{:.4g}"
    interval = interval_text(found.low, found.high, data.spec.objective) if found.n > 1 else "-"
    cells = [
        Cell(runs.name),
        number_cell(runs.runs, "{:.0f}"),
        number_cell(found.mean if found.n else None, form),
        Cell(interval, "number"),
        number_cell(found.sd if found.n > 1 else None, form),
        Cell(runs.losses_text or "-"),
    ]
    return Row(runs.name, cells)
