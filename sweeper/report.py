"""`sweeper report`: what a study found, as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from sweeper.search_space import short_names
from sweeper.spec_model import SpecFile
from sweeper.spec_text import dimension_text
from sweeper.study import winner_of
from sweeper.trial import TrialRecord
from sweeper.views import front_lines, open_study, outcome, table_columns, table_row


def write_report(home: Path, study: str, out: Path | None = None) -> Path:
    """Write the report of a study, by default as `report.md` in its folder; returns the file.

    Raises:
        UserError: there is no such study.
    """
    ledger, spec = open_study(home, study)
    path = out or ledger.study_dir / "report.md"
    path.write_text(study_markdown(study, spec, ledger.trials()))
    return path


def study_markdown(study: str, spec: SpecFile, trials: Sequence[TrialRecord]) -> str:
    """The outcome in sentences, the table of trials, the search space, and how to reproduce the winner."""
    names = short_names(spec.search_space)
    headers = [header for header, _ in table_columns(names, spec.objectives)]
    lines = [f"# {study}", "", *(f"- {line}" for line in outcome(trials, spec.objective)), "", "## Trials", ""]
    lines += ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    for trial in trials:
        cells = [_escape(cell) for cell in table_row(trial, names, spec.objectives)]
        lines.append("| " + " | ".join(cells) + " |")
    if front := front_lines(trials, spec.objectives):
        lines += ["", "## Pareto front", "", front[0], "", *(f"- {line.strip()}" for line in front[1:])]
    lines += ["", "## Search space", ""]
    lines += [f"- `{path}`: {dimension_text(dimension)}" for path, dimension in spec.search_space.items()]
    if winner := winner_of(trials, spec.objective):
        lines += ["", "## Reproduce the winner", "", f"    sweeper reproduce {winner.id}"]
    return "\n".join(lines) + "\n"


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")
