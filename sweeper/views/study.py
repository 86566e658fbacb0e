"""A study for people and scripts: tables and JSON, from the ledger alone."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.console import output_console
from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.errors import UserError
from sweeper.home import command_line
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_if_started, open_study, study_dirs
from sweeper.ledger.study_lock import is_driven
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.noise.model import StudyNoise, noise_of
from sweeper.noise.replication import conclusion
from sweeper.noise.words import floor_sentence
from sweeper.search_space.paths import column_names
from sweeper.spec.model import SpecFile
from sweeper.spec.objective import Objective, metric_number
from sweeper.study.controls import final_word
from sweeper.study.pareto import objective_values, pareto_front, winner_of
from sweeper.study.pruning_audit import audit_of
from sweeper.study.snapshot import EARLY, saved_by_stopping_s
from sweeper.study.usage.accounting import used_now
from sweeper.study.usage.budget import amount_text, used_text
from sweeper.views.caveats import caveats
from sweeper.views.states import counts_text, shown_state, state_counts
from sweeper.views.tables.columns import Column, fitted, lines_of
from sweeper.views.tables.trial_table import noise_columns, shown_metrics, trial_columns

if TYPE_CHECKING:
    from rich.console import Console  # slow to import, and no JSON needs it

MOST_ROWS, BEST_ROWS = 30, 20
"""A longer table of trials is cut to its best rows: nobody reads thousands, and what matters would scroll away."""
SHORTEST_BEST = 14
"""Characters that the list keeps of a best value with its metric, and of the states."""
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


def list_studies(home: Path, unread: list[UserError]) -> list[dict[str, Any]]:
    """One mapping a study: name, counts by state, winner, best objective. `unread` gets the error of each study that
    cannot be read: its database does not answer, its ledger is damaged, or another version wrote it."""
    rows = []
    for path in study_dirs(home):
        try:
            opened = open_if_started(home, path.name)
        except UserError as error:
            unread.append(error)
            continue
        if opened is None:  # its first run ended before its data were ready
            continue
        ledger, spec = opened
        trials = ledger.trials()
        winner = winner_of(trials, spec.objective)
        rows.append(
            {
                "study": path.name,
                "trials": len(trials),
                "states": state_counts(trials, is_driven(path)),
                "winner": winner.id if winner else None,
                "objective": spec.objective.metric,
                "best": winner.value(spec.objective.metric) if winner else None,
            }
        )
    return rows


def show_study(home: Path, study: str) -> dict[str, Any]:
    """The study as a script reads it: `{"study", "winner", "used", "pareto_front", "audit", "final_word", "no_skill",
    "noise", "controls", "trials": [{"id", "state", "reason", "params", "epochs", "seconds", "metrics",
    "mlflow_run_id", "role", "control"}]}`; metrics are as they were last reported, controls are as trials."""
    ledger, spec = open_study(home, study)
    trials, controls = ledger.trials(), ledger.controls()
    winner = winner_of(trials, spec.objective)
    found = audit_of(ledger, spec, winner)
    word, driven = final_word(trials, controls, spec.objective), is_driven(ledger.study_dir)
    return {
        "study": study,
        "winner": winner.id if winner else None,
        "used": asdict(used_now(ledger, spec.budget, spec.resources)),
        "pareto_front": [trial.id for trial in pareto_front(trials, spec.objectives)],
        "audit": vars(found) if found else None,
        "final_word": list(word.lines),
        "no_skill": word.no_skill,
        "noise": noise_json(noise_of(spec, trials)),
        "controls": [_as_json(control, driven) for control in controls],
        "trials": [_as_json(trial, driven) for trial in trials],
    }


def noise_json(noise: StudyNoise | None) -> dict[str, Any] | None:
    """The noise model as a script reads it: `{"sd", "repeats", "configurations": [{"trial", "runs", "average", "mean",
    "low", "high", "p_best", "p_good_enough"}]}`, the most probable best first; None where there is none."""
    if noise is None:
        return None
    configurations = [
        vars(each) | {"trial": each.trial.id, "runs": [run.id for run in each.runs]} for each in noise.candidates
    ]
    return {"sd": noise.sd, "repeats": noise.repeats, "configurations": configurations}


def _as_json(trial: TrialRecord, driven: bool) -> dict[str, Any]:
    return {
        "id": trial.id,
        "state": shown_state(trial, driven),
        "reason": trial.reason,
        "params": dict(trial.params),
        "epochs": trial.last.epoch if trial.last else 0,
        "seconds": trial.seconds,
        "metrics": trial.metrics,
        "mlflow_run_id": trial.mlflow_run_id,
        "role": trial.role,
        "control": trial.control,
    }


def print_list(home: Path, unread: list[UserError]) -> None:
    """Print the studies as a table on stdout. `unread`: as of `list_studies`."""
    rows = list_studies(home, unread)
    if not rows:
        if not unread:
            print(f"no studies in {home} yet; `sweeper run SPEC` starts one", file=sys.stderr)
        return
    console = output_console()
    cells = [
        (
            row["study"],
            str(row["trials"]),
            row["winner"] or "-",
            f"{metric_number(row['objective'], row['best'])} {row['objective']}" if row["best"] is not None else "-",
            ", ".join(f"{count} {state}" for state, count in row["states"].items()),
        )
        for row in rows
    ]
    study, trials, winner, best, states = zip(*cells, strict=True)
    columns = [
        Column("STUDY", study, "left"),
        Column("TRIALS", trials),
        Column("WINNER", winner, "left", dropped=1),
        Column("BEST", best, "left", shrinks_to=SHORTEST_BEST),
        Column("STATES", states, "left", shrinks_to=SHORTEST_BEST, dropped=2),
    ]
    for line in lines_of(fitted(columns, console.width if console.is_terminal else None)[0]):
        console.print(line, soft_wrap=True)


def print_study(home: Path, study: str, *, wide: bool = False) -> None:
    """Print the tables of trials and controls, the winner, the final word, and what to do next, on stdout.

    `wide`: with every column in full, whatever the width of the terminal.
    """
    ledger, spec = open_study(home, study)
    trials, controls = ledger.trials(), ledger.controls()
    console = output_console()
    width = console.width if console.is_terminal and not wide else None
    winner, driven = winner_of(trials, spec.objective), is_driven(ledger.study_dir)
    shown = trials if len(trials) <= MOST_ROWS else best_first(trials, spec.objective)[:BEST_ROWS]
    show = command_line(home, "show", study)
    metrics, noise = shown_metrics(spec.objectives, trials), noise_of(spec, trials)
    for title, rows, names in (
        (f"study {study}", shown, column_names(spec.search_space)),
        ("\ncontrols (reference points, never winners)", controls, {}),
    ):
        if rows:
            states = [shown_state(trial, driven) for trial in rows]
            of_noise = noise_columns(rows, noise if rows is shown else None, spec.objective)
            columns = trial_columns(rows, names, metrics, states, of_noise)
            _print_trials(console, title, columns, rows, winner, width, show)
        if rows is shown and len(shown) < len(trials):
            more = f"the best {len(shown)} trials; {len(trials) - len(shown)} more: `{show} --json`"
            console.print(more, style="dim", soft_wrap=True)
    console.print()
    front = front_lines(trials, spec.objectives)
    for line in (*outcome(trials, spec.objective, is_driven=driven), *front, usage(ledger, spec)):
        console.print(line)
    if found := audit_of(ledger, spec, winner):
        console.print(found.sentence())
    if noise is not None:
        console.print(floor_sentence(noise, spec.objective), soft_wrap=True)
    if concluded := conclusion(spec, trials):
        console.print(concluded, style="bold", soft_wrap=True)
    word = final_word(trials, controls, spec.objective)
    for line in word.lines:
        console.print(line, style="bold red" if word.no_skill else "bold")
    for line in caveats(home, ledger, spec, no_skill=word.no_skill):
        console.print(line, style="yellow")
    _print_next_steps(console, home, study, spec, winner)


def _print_trials(
    console: "Console",
    title: str,
    columns: Sequence[Column],
    rows: Sequence[TrialRecord],
    winner: TrialRecord | None,
    width: int | None,
    show: str,
) -> None:
    """Print a table of trials as wide as the terminal, and what did not fit into it."""
    kept, gone = fitted(columns, width)
    ids, whole = kept[0].cells[0], columns[0].cells[0]
    console.print(title if ids == whole else f"{title}; IDs without `{whole.removesuffix(ids)}`", soft_wrap=True)
    head, *lines = lines_of(kept)
    console.print(head, style="bold", soft_wrap=True)
    for line, trial in zip(lines, rows, strict=True):
        wins = winner is not None and trial.id == winner.id
        console.print(line, style="bold green" if wins else STATE_STYLES[trial.state], soft_wrap=True)
    if gone:
        console.print(f"not shown: {', '.join(gone)}; `{show} --wide`", style="dim", soft_wrap=True)


def best_first(trials: Sequence[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """Complete trials before others, then by the objective; those without a value last, each in the order they ran."""

    def rank(trial: TrialRecord) -> tuple[bool, bool, float]:
        value = trial.value(objective.metric)
        return trial.state is not TrialState.COMPLETE, value is None, 0.0 if value is None else objective.loss(value)

    return sorted(trials, key=rank)


def outcome(trials: Sequence[TrialRecord], objective: Objective, *, is_driven: bool = False) -> list[str]:
    """The study in sentences: its best trial, how the others ended, and what stopping them saved.

    `is_driven`: whether a driver runs it now.
    """
    winner = winner_of(trials, objective)
    if winner is None:
        lines = ["no trial has run to its end, so there is no best one"]
    else:
        value = objective.number(winner.value(objective.metric) or 0.0)
        lines = [f"best trial: {winner.id}  {objective.metric} {value}"]
        if (skill := winner.metrics.get(DEFAULT_OFFERS.skill)) is not None:
            better = "better" if skill > 0 else "worse"
            lines.append(f"{abs(skill):.0%} {better} than the best constant pose on the same data")
    lines.append(counts_text(trials, is_driven))
    counted = [trial for trial in trials if trial.last and trial.state in (TrialState.COMPLETE, *EARLY)]
    full = max((trial.last.epoch for trial in counted if trial.last and trial.state is TrialState.COMPLETE), default=0)
    run, whole = sum(trial.last.epoch for trial in counted if trial.last), full * len(counted)
    if full and run < whole and all(trial.state.is_finished for trial in trials):
        lines.append(f"{run:g} epochs run instead of {whole:g}: stopping early saved {1 - run / whole:.0%}")
    return lines


def usage(ledger: Ledger, spec: SpecFile) -> str:
    """What the study has used of its budget, and what stopping trials early has saved, in one sentence."""
    trials = ledger.trials()
    text = used_text(spec.budget, used_now(ledger, spec.budget, spec.resources))
    saved = saved_by_stopping_s(trials)
    if saved > 0 and all(trial.state.is_finished for trial in trials):
        device = "gpu_seconds" if spec.resources.gpus else "cpu_seconds"
        share = spec.resources.trial_gpus or spec.resources.trial_cpus
        text += f"; early stops saved about {amount_text(device, saved * share)}"
    return text


def front_lines(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[str]:
    """Of several objectives, the trials that no other beats in all of them, each with its values."""
    if len(objectives) == 1:
        return []
    names = ", ".join(objective.metric for objective in objectives)
    lines = [f"Pareto front of {names}: no other trial is as good in all and better in one"]
    for trial in pareto_front(trials, objectives):
        pairs = zip(objectives, objective_values(trial, objectives), strict=True)
        values = (objective.number(value) for objective, value in pairs if value is not None)
        lines.append(f"  {trial.id}  {', '.join(values)}")
    return lines


def _print_next_steps(console: "Console", home: Path, study: str, spec: SpecFile, winner: TrialRecord | None) -> None:
    verbs = [("ui", study)]
    if winner is not None:
        verbs += [("reproduce", f"{study}:best"), ("ablate" if spec.variants else "winners", study)]
    console.print("\nnext:")
    for verb in (*verbs, ("report", study)):
        console.print(f"  {command_line(home, *verb)}", soft_wrap=True)
