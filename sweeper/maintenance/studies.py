"""What `sweeper doctor` examines in the studies of a home: ledgers, checkpoints, what waits for MLflow, and left-over
files. What a driver is working on is left alone."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from mano_trainers.report import CheckStatus
from sweeper.checkpoints.inventory import checkpoint_entries
from sweeper.errors import LedgerLost, UserError
from sweeper.home import refuse_special_files
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import JOURNAL
from sweeper.ledger.studies import study_dirs
from sweeper.ledger.study_lock import running_driver, study_lock
from sweeper.maintenance.finding import Finding
from sweeper.maintenance.inventory import SENT, gaps
from sweeper.maintenance.restore import restore_checkpoint
from sweeper.maintenance.sync import sync_study
from sweeper.tracking import tracking_uri
from sweeper.tracking.store.database import DatabaseState, database_file, examine, prepare_database, set_aside

DATABASE: Final = "mlflow.database"
LEFTOVERS: Final = ("*.tmp", "*.partial", "request", "request.*")


def findings(home: Path) -> Iterator[Finding]:
    """Everything about the studies of a home."""
    yield from _database(home)
    folders = study_dirs(home)
    if not folders:
        yield Finding("studies", CheckStatus.PASS, f"no studies in {home}")
    for folder in folders:
        found = list(_study(folder, home))
        yield from found or [Finding(f"studies.{folder.name}", CheckStatus.PASS, "ledger and checkpoints are intact")]


def _database(home: Path) -> Iterator[Finding]:
    """Whether MLflow's database is undamaged; before the studies, which are recorded again if it is not."""
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
        help = "--fix sets it aside, and records the studies again"
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
        yield Finding(name, CheckStatus.PASS, f"is being run by {driver}, so it was not checked")
        return
    yield from _ledger_file(name, folder)
    try:
        ledger = Ledger.open(folder, folder.name)
    except LedgerLost as lost:
        yield Finding(f"{name}.ledger", CheckStatus.FAIL, lost.problems[0].what, "is its server up, and the network?")
        return
    except (UserError, OSError, ValueError, KeyError) as error:
        what = error.problems[0].what if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        yield Finding(f"{name}.ledger", CheckStatus.FAIL, f"cannot be read: {what}", "restore it from a copy")
        return
    entries = list(checkpoint_entries(ledger))
    kept = {str(entry.report.checkpoint) for entry in entries}
    text = json.dumps(dict(ledger.attributes.stored))  # an audited trial's reports are there
    yield from _orphans(name, folder, {*kept, *(path for path in _checkpoint_folders(folder) if path in text)})
    yield from _left_files(name, folder)
    for gap in gaps(home, ledger, entries, ask_mlflow=True):
        fix = partial(_send, home, folder.name) if gap.kind in SENT else None
        if gap.checkpoint is not None:
            fix = partial(restore_checkpoint, home, folder, gap.checkpoint)
        yield Finding(f"{name}.{gap.kind}", gap.status, gap.what, gap.help, fix)


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
            Ledger.create(folder, folder.name)  # opened for writing, it drops an incomplete line
        return f"cut {half} bytes"

    what = f"the last line was cut off by a crash ({half} bytes remain); nothing had acted on it"
    yield Finding(f"{name}.ledger", CheckStatus.WARN, what, "the next run, or --fix, drops it", cut)


def _checkpoint_folders(folder: Path) -> list[str]:
    return [str(path.parent.relative_to(folder)) for path in sorted((folder / "trials").glob("*/*/manifest.json"))]


def _orphans(name: str, folder: Path, known: set[str]) -> Iterator[Finding]:
    """Checkpoints that no evaluation in the ledger names: a kill came before the report was stored."""
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


def _send(home: Path, study: str) -> str:
    """Deliver to MLflow what the ledger has.

    Raises:
        UserError: it still lacks something.
    """
    synced = sync_study(home, study)
    if synced.left or synced.refused or synced.lacking:
        raise UserError(synced.sentence())
    return synced.sentence()
