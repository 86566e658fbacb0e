"""What people and scripts read of a study: tables and JSON, from the ledger alone."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.console import output_console
from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.errors import LedgerLost, UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_study, study_dirs
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.search_space.paths import short_names
from sweeper.spec.model import SpecFile
from sweeper.spec.sections import Objective
from sweeper.study.accounting import recorded
from sweeper.study.budget import amount_text, saved_s, used_text
from sweeper.study.controls import final_word
from sweeper.study.pareto import objective_values, pareto_front, winner_of
from sweeper.study.pruning_audit import audit_of
from sweeper.views.trial_table import table_columns, table_row

if TYPE_CHECKING:
    from rich.console import Console  # slow to import, and no JSON needs it

MOST_ROWS, BEST_ROWS = 30, 20
"""A longer table of trials is cut to its best rows: nobody reads thousands, and what matters would scroll away."""
STATE_STYLES = {
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "dim",
    TrialState.COLLAPSED: "yellow",
    TrialState.FAILED: "red",
    TrialState.INFEASIBLE: "dim",
    TrialState.RUNNING: "cyan",
    TrialState.PAUSED: "cyan",
    TrialState.STOPPED: "dim",
}


def list_studies(home: Path, lost: list[LedgerLost]) -> list[dict[str, Any]]:
    """One mapping a study: name, counts by state, winner, best objective. `lost` gets the error of each study whose
    database does not answer."""
    rows = []
    for path in study_dirs(home):
        try:
            ledger, spec = open_study(home, path.name)
        except LedgerLost as error:
            lost.append(error)
            continue
        except UserError:  # its first run ended before its data were there
            continue
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
                "best": winner.value(spec.objective.metric) if winner else None,
            }
        )
    return rows


def show_study(home: Path, study: str) -> dict[str, Any]:
    """The study as a script reads it: `{"study", "winner", "used", "pareto_front", "audit", "final_word", "no_skill",
    "controls", "trials": [{"id", "state", "reason", "params", "epochs", "seconds", "metrics", "mlflow_run_id", "role",
    "control"}]}`; metrics are as they were last reported, controls are as trials."""
    ledger, spec = open_study(home, study)
    trials, controls = ledger.trials(), ledger.controls()
    winner = winner_of(trials, spec.objective)
    found = audit_of(ledger, spec, winner)
    word = final_word(trials, controls, spec.objective)
    return {
        "study": study,
        "winner": winner.id if winner else None,
        "used": asdict(recorded(ledger, spec.budget, spec.resources)),
        "pareto_front": [trial.id for trial in pareto_front(trials, spec.objectives)],
        "audit": vars(found) if found else None,
        "final_word": list(word.lines),
        "no_skill": word.no_skill,
        "controls": [_as_json(control) for control in controls],
        "trials": [_as_json(trial) for trial in trials],
    }


def _as_json(trial: TrialRecord) -> dict[str, Any]:
    return {
        "id": trial.id,
        "state": trial.state.value,
        "reason": trial.reason,
        "params": dict(trial.params),
        "epochs": trial.last.epoch if trial.last else 0,
        "seconds": trial.seconds,
        "metrics": trial.metrics,
        "mlflow_run_id": trial.mlflow_run_id,
        "role": trial.role,
        "control": trial.control,
    }


def print_list(home: Path, lost: list[LedgerLost]) -> None:
    """Print the studies as a table on stdout. `lost`: as of `list_studies`."""
    from rich.table import Table

    rows = list_studies(home, lost)
    if lost and not rows:
        return
    if not rows:
        print(f"no studies in {home} yet; `sweeper run SPEC` starts one", file=sys.stderr)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("STUDY", "TRIALS", "STATES", "WINNER", "BEST"):
        table.add_column(column)
    for row in rows:
        states = ", ".join(f"{count} {state}" for state, count in row["states"].items())
        best = f"{row['best']:.4g} {row['objective']}" if row["best"] is not None else "-"
        table.add_row(row["study"], str(row["trials"]), states, row["winner"] or "-", best)
    output_console().print(table)


def print_study(home: Path, study: str) -> None:
    """Print the tables of trials and controls, the winner, the final word, and what to do next, on stdout."""
    from rich.table import Table

    ledger, spec = open_study(home, study)
    trials, controls = ledger.trials(), ledger.controls()
    console = output_console()
    names = short_names(spec.search_space)
    table = Table(box=None, pad_edge=False, title=f"study {study}", title_justify="left")
    for header, justify in table_columns(names, spec.objectives):
        table.add_column(header, justify=justify, overflow="fold")
    winner = winner_of(trials, spec.objective)
    shown = trials if len(trials) <= MOST_ROWS else best_first(trials, spec.objective)[:BEST_ROWS]
    for trial in shown:
        style = "bold green" if winner and trial.id == winner.id else STATE_STYLES[trial.state]
        table.add_row(*table_row(trial, names, spec.objectives), style=style)
    console.print(table)
    if len(shown) < len(trials):
        more = f"the best {len(shown)} trials; {len(trials) - len(shown)} more: `sweeper show {study} --json`"
        console.print(more, style="dim")
    if controls:
        rulers = Table(box=None, pad_edge=False, title="\ncontrols, which never win", title_justify="left")
        for header, justify in table_columns({}, spec.objectives):
            rulers.add_column(header, justify=justify, overflow="fold")
        for control in controls:
            rulers.add_row(*table_row(control, {}, spec.objectives), style=STATE_STYLES[control.state])
        console.print(rulers)
    console.print()
    front = front_lines(trials, spec.objectives)
    for line in (*outcome(trials, spec.objective), *front, usage(ledger, spec)):
        console.print(line)
    if found := audit_of(ledger, spec, winner):
        console.print(found.sentence())
    word = final_word(trials, controls, spec.objective)
    for line in word.lines:
        console.print(line, style="bold red" if word.no_skill else "bold")
    _print_next_steps(console, home, study, spec, winner)


def best_first(trials: Sequence[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """Complete trials before others, then by the objective; those without a value last, each in the order they ran."""

    def rank(trial: TrialRecord) -> tuple[bool, bool, float]:
        value = trial.value(objective.metric)
        return trial.state is not TrialState.COMPLETE, value is None, 0.0 if value is None else objective.loss(value)

    return sorted(trials, key=rank)


def outcome(trials: Sequence[TrialRecord], objective: Objective) -> list[str]:
    """The study in sentences: its best trial, how the others ended, and what stopping them saved."""
    winner = winner_of(trials, objective)
    if winner is None:
        lines = ["no trial has run to its end, so there is no best one"]
    else:
        lines = [f"best trial: {winner.id}  {objective.metric} {winner.value(objective.metric):.2f}"]
        if (skill := winner.metrics.get(DEFAULT_OFFERS.skill)) is not None:
            better = "better" if skill > 0 else "worse"
            lines.append(f"{abs(skill):.0%} {better} than the best constant pose on the same data")
    counts = [(state, sum(trial.state is state for trial in trials)) for state in TrialState]
    lines.append(", ".join(f"{count} {state}" for state, count in counts if count))
    full = max((trial.last.epoch for trial in trials if trial.last and trial.state is TrialState.COMPLETE), default=0)
    run = sum(trial.last.epoch for trial in trials if trial.last)
    whole = full * sum(trial.state is not TrialState.INFEASIBLE for trial in trials)  # such a one cannot be trained
    if full and run < whole and all(trial.state.is_finished for trial in trials):
        lines.append(f"{run:g} epochs run instead of {whole:g}: stopping early saved {1 - run / whole:.0%}")
    return lines


def usage(ledger: Ledger, spec: SpecFile) -> str:
    """What the study has used of its budget, and what stopping trials early has saved, in one sentence."""
    trials = ledger.trials()
    ends = [trial.last.epoch for trial in trials if trial.last and trial.state is TrialState.COMPLETE]
    early = (TrialState.PRUNED, TrialState.COLLAPSED)
    stopped = [(trial.seconds, trial.last.epoch) for trial in trials if trial.last and trial.state in early]
    text = used_text(spec.budget, recorded(ledger, spec.budget, spec.resources))
    saved = saved_s(stopped, max(ends, default=0.0))
    if saved > 0 and all(trial.state.is_finished for trial in trials):
        device = "gpu_seconds" if spec.resources.gpus else "cpu_seconds"
        share = spec.resources.gpus or spec.resources.cpus
        text += f"; early stops saved about {amount_text(device, saved * share)}"
    return text


def front_lines(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[str]:
    """Of several objectives, the trials that no other beats in all of them, each with its values."""
    if len(objectives) == 1:
        return []
    names = ", ".join(objective.metric for objective in objectives)
    lines = [f"Pareto front of {names}: no other trial is as good in all and better in one"]
    for trial in pareto_front(trials, objectives):
        values = (f"{value:.4g}" for value in objective_values(trial, objectives) if value is not None)
        lines.append(f"  {trial.id}  {', '.join(values)}")
    return lines


def _print_next_steps(console: "Console", home: Path, study: str, spec: SpecFile, winner: TrialRecord | None) -> None:
    home_option = "" if home.resolve() == Path(".sweeper").resolve() else f" --home {home}"
    console.print("\nnext:")
    console.print(f"  sweeper ui{home_option}")
    if winner is not None:
        console.print(f"  sweeper reproduce {study}:best{home_option}")
        comparing = "ablate" if spec.variants else "winners"
        console.print(f"  sweeper {comparing} {study}{home_option}")
    console.print(f"  sweeper report {study}{home_option}")
