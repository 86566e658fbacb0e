"""The trials of a study as rows of plain values: sorted, cut, and written as a table, CSV, JSON or Parquet."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from sweeper.console import output_console, simple_table, to_json
from sweeper.errors import UserError
from sweeper.ledger.studies import open_study
from sweeper.ledger.trial import TrialRecord
from sweeper.search_space.paths import leaves
from sweeper.spec.objective import Objective, metric_number
from sweeper.views.study import best_first

Form = Literal["table", "csv", "json", "parquet"]
Row = Mapping[str, Any]
DESCENDING: Final = "-"
"""Prefix of a column to sort by: the largest first."""
MOST_NAMED: Final = 30


def trial_row(record: TrialRecord) -> dict[str, Any]:
    """A trial by column: `id`, `state`, `reason`, `epochs`, `seconds`, `params.*`, and `metrics.*` of its last
    evaluation."""
    return {
        "id": record.id,
        "state": record.state.value,
        "reason": record.reason,
        "epochs": record.last.epoch if record.last else 0.0,
        "seconds": record.seconds,
        **{f"params.{path}": value for path, value in leaves(record.params).items()},
        **{f"metrics.{name}": value for name, value in record.metrics.items()},
    }


def export_trials(
    home: Path, study: str, form: Form, sort: str | None = None, top: int | None = None, columns: Sequence[str] = ()
) -> bytes:
    """The trials of a study in one of the forms.

    Args:
        home: the study home.
        study: its name.
        form: of the result.
        sort: a column, whose smallest values come first; of an objective, the best; `-COLUMN`: the largest. Default:
            in the order they ran, or with `top` the best first.
        top: that many trials.
        columns: which ones, in this order; default: all. `lr` stands for `params.optim.lr` where no other ends so.

    Raises:
        UserError: there is no such study or column.
    """
    ledger, spec = open_study(home, study)
    trials = ledger.trials()
    if sort is None and top is not None:
        trials = best_first(trials, spec.objective)
    rows: list[Row] = [trial_row(trial) for trial in trials]
    known = list(dict.fromkeys(name for row in rows for name in row))
    if sort is not None:
        rows = _sorted(rows, sort, known, spec.objectives)
    names = [_column(name, known) for name in columns] or known
    cut = [{name: row.get(name) for name in names} for row in rows[:top]]
    match form:
        case "csv":
            return _as_csv(names, cut)
        case "json":
            return f"{to_json(cut)}\n".encode()
        case "parquet":
            return _as_parquet(names, cut)
        case "table":
            return _as_table(names, cut)


def _column(name: str, known: Sequence[str]) -> str:
    """A column by its name, or by the end of it.

    Raises:
        UserError: there is none, or more than one.
    """
    if name in known:
        return name
    ends = [each for each in known if each.endswith((f".{name}", f"/{name}"))]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UserError(f"more than one column ends with `{name}`", help=f"they are {', '.join(ends)}")
    shortened = {each.removeprefix("params.").removeprefix("metrics."): each for each in known}
    close = get_close_matches(name, [*known, *shortened], n=1)
    listed = ", ".join(known[:MOST_NAMED])
    raise UserError(f"no column `{name}`", help=f"did you mean `{close[0]}`?" if close else f"the columns are {listed}")


def _sorted(rows: Sequence[Row], sort: str, known: Sequence[str], objectives: Sequence[Objective]) -> list[Row]:
    """By one column, numbers before texts; rows without a value, or with NaN, come last."""
    name = _column(sort.removeprefix(DESCENDING), known)
    better_is_more = any(f"metrics.{one.metric}" == name and one.mode == "max" for one in objectives)
    descending = better_is_more != sort.startswith(DESCENDING)
    with_value = [row for row in rows if (value := row.get(name)) is not None and value == value]
    numbers = [row for row in with_value if isinstance(row[name], int | float)]
    texts = [row for row in with_value if not isinstance(row[name], int | float)]
    numbers.sort(key=lambda row: float(row[name]), reverse=descending)
    texts.sort(key=lambda row: _text(row[name]), reverse=descending)
    return [*numbers, *texts, *(row for row in rows if row not in with_value)]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | tuple | dict | bool) else str(value)


def _as_csv(names: Sequence[str], rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(row[name]) for name in names] for row in rows)
    return text.getvalue().encode()


def _as_table(names: Sequence[str], rows: Sequence[Row]) -> bytes:
    console = output_console()
    table = simple_table([name.removeprefix("params.").removeprefix("metrics.") for name in names])
    for row in rows:
        table.add_row(*(_shown(name, row[name]) for name in names))
    with console.capture() as captured:
        console.print(table)
    return captured.get().encode()


def _shown(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return _text(value)
    return metric_number(name, value) if name.startswith("metrics.") else f"{value:.4g}"


def _as_parquet(names: Sequence[str], rows: Sequence[Row]) -> bytes:
    import pandas as pd

    frame = pd.DataFrame({name: _of_one_type([row[name] for row in rows]) for name in names})
    parquet: bytes = frame.to_parquet(index=False)
    return parquet


def _of_one_type(values: Sequence[Any]) -> list[Any]:
    """A column of Parquet has one type: choices of several, and lists, are written as JSON."""
    kinds = {float if type(value) is int else type(value) for value in values if value is not None}
    if len(kinds) <= 1 and kinds <= {float, str, bool}:
        return list(values)
    return [None if value is None else json.dumps(value) for value in values]
