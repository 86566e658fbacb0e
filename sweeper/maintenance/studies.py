"""What `sweeper doctor` looks at in the studies of a home: ledgers, checkpoints, what waits for MLflow, and files left
over. What a driver works on is left alone."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mano_trainers.report import CheckStatus
from sweeper.checkpoints.inventory import CheckpointEntry, CheckpointState, checkpoint_entries
from sweeper.errors import LedgerLost, UserError
from sweeper.home import command_line, refuse_special_files
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage import JOURNAL
from sweeper.ledger.studies import study_dirs
from sweeper.ledger.study_lock import running_driver, study_lock
from sweeper.ledger.trial import TrialRecord
from sweeper.maintenance.finding import Finding
from sweeper.maintenance.sync import sync_study
from sweeper.tracking import runs_of, tracking_uri
from sweeper.tracking.database import DatabaseState, database_file, examine, prepare_database, set_aside
from sweeper.tracking.outbox import OUTBOX
from sweeper.tracking.standing import standing_of
from sweeper.tracking.study_tracker import missing_from_ledger

DATABASE: Final = "mlflow.database"
REFUSED: Final = "refused"
LEFTOVERS: Final = ("*.tmp", "*.partial", "request", "request.*")


def findings(home: Path) -> Iterator[Finding]:
    """Everything about the studies of a home."""
    yield from _database(home)
    folders = study_dirs(home)
    if not folders:
        yield Finding("studies", CheckStatus.PASS, f"no studies in {home}")
    for folder in folders:
        found = list(_study(folder, home))
        yield from found or [Finding(f"studies.{folder.name}", CheckStatus.PASS, "ledger and checkpoints are whole")]


def _database(home: Path) -> Iterator[Finding]:
    """Whether MLflow's database is whole; before the studies, which are recorded anew if it is not."""
    uri = tracking_uri(home)
    path = database_file(uri)
    if path is None:
        return
    found = examine(path, thorough=True)

    def repair() -> str:
        aside = set_aside(path)
        prepare_database(uri)
        return f"set aside as {aside.name}, and a new one made"

    if found.state is DatabaseState.BROKEN:
        help = "--fix sets it aside, and records the studies anew"
        yield Finding(DATABASE, CheckStatus.FAIL, f"the MLflow database is broken: {found.why}", help, repair)
    elif found.state is DatabaseState.NEWER:
        yield Finding(DATABASE, CheckStatus.FAIL, "a newer MLflow wrote its database", "pip install --upgrade mlflow")


def _study(folder: Path, home: Path) -> Iterator[Finding]:
    name = f"studies.{folder.name}"
    try:
        refuse_special_files(folder)
    except UserError as error:
        yield Finding(f"{name}.files", CheckStatus.FAIL, error.problems[0].what, error.problems[0].help or "")
        return
    if driver := running_driver(folder):
        yield Finding(name, CheckStatus.PASS, f"is being run by {driver}, and not looked at")
        return
    yield from _ledger_file(name, folder)
    try:
        ledger = Ledger.open(folder, folder.name)
        trials = ledger.all_trials()
    except LedgerLost as lost:
        yield Finding(f"{name}.ledger", CheckStatus.FAIL, lost.problems[0].what, "is its server up, and the network?")
        return
    except (UserError, OSError, ValueError, KeyError) as error:
        what = error.problems[0].what if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        yield Finding(f"{name}.ledger", CheckStatus.FAIL, f"cannot be read: {what}", "restore it from a copy")
        return
    waiting = [trial.id for trial in trials if not trial.state.is_finished]
    if waiting:
        what = f"{len(waiting)} trials have not ended, and no driver runs: {', '.join(waiting[:3])}"
        yield Finding(
            f"{name}.unfinished",
            CheckStatus.WARN,
            what,
            f"{command_line(home, 'resume', folder.name)}, or sweeper stop",
        )
    entries = list(checkpoint_entries(ledger))
    yield from _checkpoints(name, folder, entries)
    kept = {str(entry.report.checkpoint) for entry in entries}
    text = json.dumps(ledger.attributes.stored)  # an audited trial's reports lie there
    yield from _orphans(name, folder, {*kept, *(path for path in _checkpoint_folders(folder) if path in text)})
    yield from _left_files(name, folder)
    yield from _tracking(name, folder, home, ledger, trials)


def _ledger_file(name: str, folder: Path) -> Iterator[Finding]:
    journal = folder / JOURNAL
    if not journal.exists():  # it is in a database
        return
    content = journal.read_bytes()
    half = len(content) - (content.rfind(b"\n") + 1)
    if not half:
        return

    def cut() -> str:
        with study_lock(folder):
            Ledger.create(folder, folder.name)  # opened to be written, it drops a line that is not whole
        return f"cut {half} bytes"

    what = f"the last line was cut off by a crash ({half} bytes of it are there); what it said was never acted on"
    yield Finding(f"{name}.ledger", CheckStatus.WARN, what, "the next run, or --fix, drops it", cut)


def _checkpoints(name: str, folder: Path, entries: Sequence[CheckpointEntry]) -> Iterator[Finding]:
    for entry in entries:
        path = entry.folder.relative_to(folder) if entry.folder.is_relative_to(folder) else entry.folder
        if entry.state is CheckpointState.DAMAGED:
            help = "MLflow has a copy; a trial that goes on passes it over"
            yield Finding(f"{name}.checkpoint", CheckStatus.FAIL, f"{path} is damaged: {entry.problem}", help)
        elif entry.state is CheckpointState.MISSING and entry.is_needed:
            what = f"{path} of {entry.trial.id}, which has not ended, is missing"
            yield Finding(
                f"{name}.checkpoint", CheckStatus.WARN, what, "the trial goes on from an earlier one, or anew"
            )
    missing = [entry for entry in entries if entry.state is CheckpointState.MISSING and not entry.is_needed]
    collected = sum(entry.state is CheckpointState.COLLECTED for entry in entries)
    if missing or collected:
        what = f"of {len(entries)} checkpoints of ended trials {collected} were collected by `sweeper gc`"
        gone = f"{len(missing)} are missing, {missing[0].folder.relative_to(folder)} first" if missing else ""
        yield Finding(f"{name}.checkpoints", CheckStatus.PASS, "; ".join(filter(None, (what, gone))))


def _checkpoint_folders(folder: Path) -> list[str]:
    return [str(path.parent.relative_to(folder)) for path in sorted((folder / "trials").glob("*/*/manifest.json"))]


def _orphans(name: str, folder: Path, known: set[str]) -> Iterator[Finding]:
    """Checkpoints that no evaluation of the ledger names: a kill came before the report was stored."""
    orphans = [folder / path for path in _checkpoint_folders(folder) if path not in known]
    if not orphans:
        return

    def remove() -> str:
        with study_lock(folder):
            for orphan in orphans:
                shutil.rmtree(orphan)
        return f"removed {len(orphans)} checkpoints"

    size_mb = sum(file.stat().st_size for orphan in orphans for file in orphan.rglob("*")) / 1e6
    what = f"{len(orphans)} checkpoints ({size_mb:.0f} MB) that the ledger does not know: {orphans[0].parent.name} ..."
    yield Finding(f"{name}.orphans", CheckStatus.WARN, what, "--fix removes them", remove)


def _left_files(name: str, folder: Path) -> Iterator[Finding]:
    files = [path for pattern in LEFTOVERS for path in sorted(folder.glob(pattern))]
    files += sorted((folder / "trials").glob("*/.*")) + sorted((folder / "trials").glob("*/*.tmp"))
    if not files:
        return

    def remove() -> str:
        with study_lock(folder):
            for path in files:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return f"removed {len(files)} files"

    what = f"{len(files)} files that a killed process left half written: {files[0].relative_to(folder)} ..."
    yield Finding(f"{name}.left_over", CheckStatus.WARN, what, "--fix removes them", remove)


def _tracking(name: str, folder: Path, home: Path, ledger: Ledger, trials: Sequence[TrialRecord]) -> Iterator[Finding]:
    """Whether MLflow has what the ledger has."""

    def send() -> str:
        synced = sync_study(home, folder.name)
        if synced.left or synced.refused:
            raise UserError(synced.sentence())
        return synced.sentence()

    if missing := next(missing_from_ledger(ledger), None):
        what = f"the ledger does not have {missing}, which was sent to MLflow"
        yield Finding(f"{name}.ledger", CheckStatus.FAIL, what, "was it replaced by an older copy? Restore it")
        return
    help = f"{command_line(home, 'sync', folder.name)}, or --fix"
    standing = standing_of(folder)
    if standing.refused:
        what = f"MLflow refused {standing.refused} records, see {standing.rejects}"
        help_refused = f"{help}; if they do not matter, delete that file"
        yield Finding(f"{name}.{REFUSED}", CheckStatus.WARN, what, help_refused, send)
    if standing.waiting:
        yield Finding(f"{name}.outbox", CheckStatus.WARN, f"{standing.waiting} records wait for MLflow", help, send)
    if standing.waiting or not (folder / OUTBOX).exists():  # nothing was ever sent
        return
    try:
        runs = runs_of(tracking_uri(home), folder.name)
    except UserError as error:
        yield Finding(f"{name}.mlflow", CheckStatus.WARN, error.problems[0].what, error.problems[0].help or help, send)
        return
    missing_runs = [trial.id for trial in trials if trial.reports and trial.id not in runs]
    open_runs = [trial_id for trial_id, status in runs.items() if status == "RUNNING"]
    unknown = sorted(set(runs) - {folder.name} - {trial.id for trial in trials})
    for ids, what in ((missing_runs, "trials have no run in MLflow"), (open_runs, "runs seem to go on in MLflow")):
        if ids:
            text = f"{len(ids)} {what}: {', '.join(ids[:3])}"
            yield Finding(f"{name}.mlflow", CheckStatus.WARN, text, help, send)
    if unknown:
        text = f"{len(unknown)} runs in MLflow are of no trial of the ledger: {', '.join(unknown[:3])}"
        yield Finding(
            f"{name}.mlflow", CheckStatus.WARN, text, "of an earlier study of this name? `sweeper ui` shows them"
        )
