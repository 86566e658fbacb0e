"""What people and scripts read of a study: tables and JSON, from the ledger alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sweeper.errors import UserError
from sweeper.ledger import Ledger, TrialRecord, TrialState
from sweeper.search_space import ParamValue, short_names
from sweeper.spec import Objective, SweepSpec
from sweeper.spec_model import SpecFile
from sweeper.study import winner_of

VARIANCE = "val/theta_var_ratio"
STATE_STYLES = {
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "dim",
    TrialState.COLLAPSED: "yellow",
    TrialState.FAILED: "red",
    TrialState.RUNNING: "cyan",
    TrialState.STOPPED: "dim",
}


def open_study(home: Path, study: str) -> tuple[Ledger, SpecFile]:
    """The ledger of a study, for reading, and the spec it was started with.

    Raises:
        UserError: there is no such study; names close ones.
    """
    names = [path.name for path in _study_dirs(home)]
    if study not in names:
        known = f"the studies in {home} are: {', '.join(names)}" if names else f"there are no studies in {home} yet"
        raise UserError(f"no study `{study}`", help=known)
    ledger = Ledger(home / "studies" / study, study)
    spec = ledger.attributes.get("spec")
    if spec is None:
        raise UserError(f"the study `{study}` was never started", help="`sweeper run` starts it")
    return ledger, SpecFile.model_validate(spec)


def list_studies(home: Path) -> list[dict[str, Any]]:
    """One mapping a study: name, counts by state, winner, best objective."""
    rows = []
    for path in _study_dirs(home):
        ledger, spec = open_study(home, path.name)
        trials = ledger.trials()
        winner = winner_of(trials, spec.objective)
        states = {state.value: sum(trial.state is state for trial in trials) for state in TrialState}
        rows.append(
            {
                "study": path.name,
                "trials": len(trials),
                "states": {state: count for state, count in states.items() if count},
                "winner": winner.id if winner else None,
                "objective": spec.objective.metric,
                "best": _objective(winner, spec.objective) if winner else None,
            }
        )
    return rows


def show_study(home: Path, study: str) -> dict[str, Any]:
    """The study as a script reads it: `{"study", "winner", "trials": [{"id", "state", "reason", "params", "epochs",
    "metrics", "mlflow_run_id", "role"}]}`; metrics are those of the last evaluation."""
    ledger, spec = open_study(home, study)
    trials = ledger.trials()
    winner = winner_of(trials, spec.objective)
    return {
        "study": study,
        "winner": winner.id if winner else None,
        "trials": [
            {
                "id": trial.id,
                "state": trial.state.value,
                "reason": trial.reason,
                "params": dict(trial.params),
                "epochs": trial.last.epoch if trial.last else 0,
                "metrics": dict(trial.last.metrics) if trial.last else {},
                "mlflow_run_id": trial.mlflow_run_id,
                "role": trial.role,
            }
            for trial in trials
        ],
    }


def print_list(home: Path) -> None:
    """Print the studies as a table on stdout."""
    rows = list_studies(home)
    if not rows:
        Console(stderr=True).print(f"no studies in {home} yet; `sweeper run SPEC` starts one")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("STUDY", "TRIALS", "STATES", "WINNER", "BEST"):
        table.add_column(column)
    for row in rows:
        states = ", ".join(f"{count} {state}" for state, count in row["states"].items())
        best = f"{row['best']:.4g} {row['objective']}" if row["best"] is not None else "-"
        table.add_row(row["study"], str(row["trials"]), states, row["winner"] or "-", best)
    _console().print(table)


def print_study(home: Path, study: str) -> None:
    """Print the table of trials, the winner, and what to do next, on stdout."""
    ledger, spec = open_study(home, study)
    trials = ledger.trials()
    console = _console()
    names = short_names(spec.search_space)
    table = Table(box=None, pad_edge=False, title=f"study {study}", title_justify="left")
    for header, justify in _columns(names, spec.objective):
        table.add_column(header, justify=justify, overflow="fold")
    winner = winner_of(trials, spec.objective)
    for trial in trials:
        style = "bold green" if winner and trial.id == winner.id else STATE_STYLES[trial.state]
        table.add_row(*_row(trial, names, spec.objective), style=style)
    console.print(table)
    _print_next_steps(console, home, study, winner, spec.objective)


def summary_markdown(spec: SweepSpec, trials: Sequence[TrialRecord]) -> str:
    """The table of trials in Markdown, for the study's MLflow run."""
    names = short_names(spec.search_space)
    headers = [header for header, _ in _columns(names, spec.objective)]
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    for trial in trials:
        cells = [cell.replace("|", "\\|") for cell in _row(trial, names, spec.objective)]
        lines.append("| " + " | ".join(cells) + " |")
    winner = winner_of(trials, spec.objective)
    lines += ["", f"winner: {winner.id}" if winner else "no trial ran to its end"]
    return "\n".join(lines) + "\n"


def to_json(value: Any) -> str:
    """JSON for scripts, which know no NaN: a number that is not finite is null."""

    def clean(item: Any) -> Any:
        match item:
            case dict():
                return {key: clean(inner) for key, inner in item.items()}
            case list():
                return [clean(inner) for inner in item]
            case float() if item != item or item in (float("inf"), float("-inf")):
                return None
            case _:
                return item

    return json.dumps(clean(value), indent=2)


def _columns(names: Mapping[str, str], objective: Objective) -> list[tuple[str, Any]]:
    metric = objective.metric.removeprefix("val/")
    return [
        ("ID", "left"),
        *((name.removeprefix("lambda_") if name.startswith("lambda_") else name, "right") for name in names.values()),
        ("epochs", "right"),
        (metric, "right"),
        (VARIANCE.removeprefix("val/"), "right"),
        ("state", "left"),
        ("reason", "left"),
    ]


def _row(trial: TrialRecord, names: Mapping[str, str], objective: Objective) -> list[str]:
    metrics = trial.last.metrics if trial.last else {}
    value, ratio = metrics.get(objective.metric), metrics.get(VARIANCE)
    return [
        trial.id,
        *(_short(trial.params.get(path, "-")) for path in names),
        f"{trial.last.epoch:g}" if trial.last else "0",
        f"{value:.2f}" if value is not None else "-",
        f"{ratio:.3f}" if ratio is not None else "-",
        trial.state.value,
        trial.reason,
    ]


def _short(value: ParamValue) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _print_next_steps(
    console: Console, home: Path, study: str, winner: TrialRecord | None, objective: Objective
) -> None:
    console.print()
    if winner is None:
        console.print("no trial has run to its end, so there is no winner")
    else:
        value = _objective(winner, objective)
        console.print(f"winner: [bold]{winner.id}[/bold]  {objective.metric} {value:.2f}", highlight=False)
    home_option = "" if home.resolve() == Path(".sweeper").resolve() else f" --home {home}"
    console.print("\nnext:", highlight=False)
    console.print(f"  sweeper ui{home_option}", highlight=False)
    if winner is not None:
        console.print(f"  sweeper reproduce {study}:best{home_option}", highlight=False)
    console.print(f"  sweeper show {study} --json{home_option}", highlight=False)


def _objective(trial: TrialRecord, objective: Objective) -> float:
    assert trial.last is not None
    return trial.last.metrics[objective.metric]


def _study_dirs(home: Path) -> list[Path]:
    return sorted(path.parent for path in (home / "studies").glob("*/ledger.journal"))


def _console() -> Console:
    console = Console(highlight=False)
    # A pipe has no width; rich would fold the table at 80 columns.
    return console if console.is_terminal else Console(highlight=False, width=200)
