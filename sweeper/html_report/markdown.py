"""The report of a study as Markdown."""

import csv
import io
from collections.abc import Mapping, Sequence

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.search_space.paths import column_names
from sweeper.spec.model import SpecFile
from sweeper.study.controls import final_word
from sweeper.study.pareto import winner_of
from sweeper.views.spec import dimension_text
from sweeper.views.study import front_lines, outcome
from sweeper.views.tables.trial_table import shown_metrics, trial_columns


def study_markdown(
    study: str, spec: SpecFile, trials: Sequence[TrialRecord], controls: Sequence[TrialRecord], preflight: str = ""
) -> str:
    """The outcome in sentences, the tables of trials and controls, the search space, how to reproduce the winner."""
    said = [*outcome(trials, spec.objective), *final_word(trials, controls, spec.objective).lines]
    said += [preflight] if preflight else []
    lines = [f"# {study}", "", *(f"- {line}" for line in said), "", "## Trials", ""]
    metrics = shown_metrics(spec.objectives, trials)
    lines += _table(trials, column_names(spec.search_space), metrics)
    if front := front_lines(trials, spec.objectives):
        lines += ["", "## Pareto front", "", front[0], "", *(f"- {line.strip()}" for line in front[1:])]
    if controls:
        lines += ["", "## Controls", "", *_table(controls, {}, metrics)]
    lines += ["", "## Search space", ""]
    lines += [f"- `{path}`: {dimension_text(dimension)}" for path, dimension in spec.search_space.items()]
    if winner := winner_of(trials, spec.objective):
        lines += ["", "## Reproduce the winner", "", f"    sweeper reproduce {winner.id}"]
    return "\n".join(lines) + "\n"


def study_csv(spec: SpecFile, trials: Sequence[TrialRecord], controls: Sequence[TrialRecord]) -> str:
    """The table of trials and controls as CSV, numbers in full; MLflow's UI shows it as a table."""
    metrics = shown_metrics(spec.objectives, trials)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", *spec.search_space, "epoch", *metrics, "state", "reason", "seconds"])
    for trial in (*trials, *controls):
        last = trial.metrics
        params = [trial.params.get(path, "") for path in spec.search_space]
        values = [last.get(metric, "") for metric in metrics]
        epoch = trial.last.epoch if trial.last else 0
        rows.writerow([trial.id, *params, epoch, *values, trial.state, trial.reason, f"{trial.seconds:.1f}"])
    return text.getvalue()


def preflight_line(ledger: Ledger) -> str:
    """How the preflight before the last run ended, or why there was none; empty for a study older than the
    preflight."""
    recorded = ledger.attributes.preflight
    return f"preflight: {recorded['summary']}" if recorded else ""


def _table(trials: Sequence[TrialRecord], names: Mapping[str, str], metrics: Sequence[str]) -> list[str]:
    columns = trial_columns(trials, names, metrics)
    heads = [column.head for column in columns]
    rows = zip(*([_escape(cell) for cell in column.cells] for column in columns), strict=True)
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")
