"""What a study lacks, determined in one way: `doctor`, `sync` and `status` report the same about it, each in its own
form."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mano_trainers.report import CheckStatus
from sweeper.checkpoints.inventory import CheckpointEntry, CheckpointState, checkpoint_entries
from sweeper.errors import UserError
from sweeper.home import command_line
from sweeper.ledger.ledger import Ledger
from sweeper.tracking import runs_of, tracking_uri
from sweeper.tracking.delivery.runs import KnownRun, delivered, lost, stream_of
from sweeper.tracking.outbox import OUTBOX, PACKED
from sweeper.tracking.standing import standing_of
from sweeper.tracking.store.place import copy_problem
from sweeper.tracking.study_tracker import missing_from_ledger

REFUSED: Final = "refused"
SENT: Final = frozenset({REFUSED, "outbox", "mlflow", "artifacts"})
"""Kinds of gaps that `sweeper sync` closes."""


@dataclass(frozen=True)
class Gap:
    """Something that a study lacks.

    Attributes:
        kind: what it concerns: `ledger`, `unfinished`, `checkpoint`, `checkpoints`, `copy`, or one of SENT.
        status: as of a finding of the doctor; PASS is only reported.
        what: what is lacking.
        help: what to do about it.
        checkpoint: the one that it concerns, where it concerns one.
    """

    kind: str
    status: CheckStatus
    what: str
    help: str = ""
    checkpoint: CheckpointEntry | None = None


def gaps(home: Path, ledger: Ledger, entries: Sequence[CheckpointEntry], *, ask_mlflow: bool) -> Iterator[Gap]:
    """Everything that a study lacks which no driver runs.

    Args:
        home: the study home.
        ledger: of the study.
        entries: its checkpoints.
        ask_mlflow: whether to ask MLflow too, which takes seconds, or the outbox alone.
    """
    waiting = [trial.id for trial in ledger.all_trials() if not trial.state.is_finished]
    if waiting:
        what = f"{len(waiting)} trials have not ended, and no driver is running: {_first(waiting)}"
        help = f"{command_line(home, 'resume', ledger.study)}, or sweeper stop"
        yield Gap("unfinished", CheckStatus.WARN, what, help)
    if copied := copy_problem(home, ledger.study_dir):
        yield Gap("copy", CheckStatus.WARN, *copied)
    yield from _of_checkpoints(ledger.study_dir, entries)
    yield from _of_records(home, ledger, ask_mlflow)


def lacking(home: Path, ledger: Ledger, *, ask_mlflow: bool) -> list[Gap]:
    """What a person must be told without asking the doctor; the checksums of checkpoints are not compared."""
    found = gaps(home, ledger, list(checkpoint_entries(ledger, checked=False)), ask_mlflow=ask_mlflow)
    return [gap for gap in found if gap.status is not CheckStatus.PASS and gap.kind != "unfinished"]


def _of_checkpoints(folder: Path, entries: Sequence[CheckpointEntry]) -> Iterator[Gap]:
    for entry in entries:
        path = entry.folder.relative_to(folder) if entry.folder.is_relative_to(folder) else entry.folder
        if entry.state is CheckpointState.DAMAGED:
            help = "--fix restores it, if MLflow has a copy; a trial that resumes skips it"
            yield Gap("checkpoint", CheckStatus.FAIL, f"{path} is damaged: {entry.problem}", help, entry)
        elif entry.state is CheckpointState.MISSING and entry.is_needed:
            what = f"{path} of {entry.trial.id}, which has not ended, is missing"
            help = "--fix restores it, if MLflow has a copy; the trial resumes from an earlier one, or restarts"
            yield Gap("checkpoint", CheckStatus.WARN, what, help, entry)
    missing = [entry for entry in entries if entry.state is CheckpointState.MISSING and not entry.is_needed]
    collected = sum(entry.state is CheckpointState.COLLECTED for entry in entries)
    if missing or collected:
        what = f"of {len(entries)} checkpoints of ended trials {collected} were collected by `sweeper gc`"
        gone = f"{len(missing)} are missing, {missing[0].folder.relative_to(folder)} first" if missing else ""
        yield Gap("checkpoints", CheckStatus.PASS, "; ".join(filter(None, (what, gone))))


def _of_records(home: Path, ledger: Ledger, ask_mlflow: bool) -> Iterator[Gap]:
    """Whether MLflow has what the ledger has, and the ledger what MLflow has."""
    if missing := next(missing_from_ledger(ledger), None):
        what = f"the ledger does not have {missing}, which was sent to MLflow"
        yield Gap("ledger", CheckStatus.FAIL, what, "was it replaced by an older copy? Restore it")
        return
    help = f"{command_line(home, 'sync', ledger.study)}, or --fix"
    standing = standing_of(ledger.study_dir)
    if standing.refused:
        what = f"MLflow refused {standing.refused} records, see {standing.rejects}"
        yield Gap(REFUSED, CheckStatus.WARN, what, f"{help}; if they do not matter, delete that file")
    if standing.waiting:
        yield Gap("outbox", CheckStatus.WARN, f"{standing.waiting} records wait for MLflow", help)
    was_sent = (ledger.study_dir / OUTBOX).exists() or (ledger.study_dir / PACKED).exists()
    if standing.waiting or not was_sent or not ask_mlflow:
        return
    try:
        stream = ledger.attributes.stream or stream_of(ledger.study_dir)
        runs = runs_of(tracking_uri(home), ledger.study, stream)
    except UserError as error:
        yield Gap("mlflow", CheckStatus.WARN, error.problems[0].what, error.problems[0].help or help)
        return
    yield from _of_runs(ledger, runs, help)


def _of_runs(ledger: Ledger, runs: dict[str, KnownRun], help: str) -> Iterator[Gap]:
    there = {name: run for name, run in runs.items() if not run.is_deleted}
    missing = [trial.id for trial in ledger.all_trials() if trial.reports and trial.id not in there]
    going_on = [name for name, run in there.items() if run.status == "RUNNING"]
    told = {trial or ledger.study: each for trial, each in delivered(ledger.study_dir).items()}
    other = {name: lost(name, runs.get(name), each) for name, each in told.items()}
    differing = [name for name, said in other.items() if said and name not in (*missing, *going_on)]
    for names, what in (
        (missing, "trials have no run in MLflow"),
        (going_on, "runs still appear as running in MLflow"),
        (differing, "runs are not in MLflow as they were delivered"),
    ):
        if names:
            yield Gap("mlflow", CheckStatus.WARN, f"{len(names)} {what}: {_first(names)}", help)
    if gone := [name for name, run in there.items() if name in told and told[name].files and run.files.is_gone]:
        where = there[gone[0]].files.artifact_uri
        yield Gap("artifacts", CheckStatus.WARN, f"{len(gone)} runs have lost their artifacts: {where} is gone", help)
    if unknown := sorted(there.keys() - {trial.id for trial in ledger.all_trials()} - {ledger.study}):
        what = f"{len(unknown)} runs in MLflow belong to no trial in the ledger: {_first(unknown)}"
        yield Gap("unknown", CheckStatus.WARN, what, "of an earlier study of this name? `sweeper ui` shows them")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3])
