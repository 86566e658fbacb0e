"""`sweeper gc`: files of studies that are no longer needed.

Never what a study may resume from (checkpoints of trials that have not ended), and never what MLflow does not have: a
rerun reads its record and its checksums there.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sweeper.checkpoints.inventory import CheckpointEntry, CheckpointState, checkpoint_entries
from sweeper.checkpoints.locate import store_of
from sweeper.checkpoints.manifest import MANIFEST, PICTURES
from sweeper.checkpoints.object_store import CheckpointMissing, ObjectStore
from sweeper.checkpoints.retention import kept_steps
from sweeper.files import inside
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_study, study_dirs
from sweeper.ledger.study_lock import running_driver, study_lock
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.model import SpecFile
from sweeper.study.pruning_audit import cut_off
from sweeper.tracking import Inventory, artifact_root, tracking_uri
from sweeper.tracking.outbox import STORE

RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
HERE: Final = (CheckpointState.WHOLE, CheckpointState.DAMAGED)


@dataclass(frozen=True)
class Garbage:
    """Files that can be deleted.

    Attributes:
        study: whose they are.
        folder: where they are.
        files: what to delete, relative to `folder`; if empty, everything including the folder.
        bytes: how much that is.
        why: a reason in words.
        run_id: the MLflow run that contains the same files, compared before they are deleted; None: nothing to compare.
        store: URL of the store they are in, instead of `folder`; None: they are in `folder`.
        key: of the checkpoint in the store.
    """

    study: str
    folder: Path
    files: tuple[str, ...]
    bytes: int
    why: str
    run_id: str | None = None
    store: str | None = None
    key: str = ""

    @property
    def place(self) -> str:
        """Where the files are, for people."""
        return f"{self.store}/{self.key}" if self.store else str(self.folder)


def find_garbage(home: Path, studies: tuple[str, ...] = ()) -> tuple[list[Garbage], list[str]]:
    """What can be deleted from the given studies, by default all, and a line for each study that was left alone.

    Raises:
        UserError: no such study, no MLflow store, or a store of checkpoints that does not answer.
    """
    home = home.resolve()
    names = studies or tuple(path.name for path in study_dirs(home))
    found: list[Garbage] = []
    left: list[str] = []
    if not names:
        return found, left
    inventory = Inventory(tracking_uri(home))
    for name in names:
        ledger, spec = open_study(home, name)
        if driver := running_driver(ledger.study_dir):
            left.append(f"{name}: skipped, a driver is running it ({driver})")
            continue
        entries = list(checkpoint_entries(ledger))
        found += _of_checkpoints(ledger, spec, inventory, entries)
        left += _damaged(ledger, entries, found)
        found += _of_store(ledger, spec, inventory)
        found += _of_killed_workers(ledger)
        found += _of_lost_runs(home, ledger, inventory)
    return found, left


def remove(home: Path, garbage: Garbage) -> bool:
    """Delete it; False if MLflow's copy turns out to be different, and nothing is deleted.

    Raises:
        UserError: a driver runs the study now.
    """
    home = home.resolve()
    with study_lock(home / "studies" / garbage.study):
        if garbage.store:
            return _remove_stored(home, garbage)
        if garbage.run_id is not None:
            inventory = Inventory(tracking_uri(home))
            if not inventory.has_equal_bytes(garbage.run_id, garbage.folder.name, garbage.folder):
                return False
        if not garbage.files:
            shutil.rmtree(garbage.folder)
        for file in garbage.files:
            (garbage.folder / file).unlink()
    return True


def _remove_stored(home: Path, garbage: Garbage) -> bool:
    """Fetch the checkpoint to compare it with MLflow's, then delete it from the store."""
    assert garbage.store is not None
    assert garbage.run_id is not None
    store, inventory = ObjectStore(garbage.store), Inventory(tracking_uri(home))
    with tempfile.TemporaryDirectory(prefix="sweeper-gc-") as scratch:
        folder = Path(scratch) / garbage.folder.name
        try:
            store.fetch(garbage.key, folder)
        except CheckpointMissing:  # damaged there
            return False
        if not inventory.has_equal_bytes(garbage.run_id, folder.name, folder):
            return False
    store.delete(garbage.key)
    return True


def _is_over(trial: TrialRecord, going_on: list[str]) -> bool:
    """A stopped trial whose audit was interrupted resumes from its last checkpoint."""
    return trial.state.is_finished and trial.id not in going_on


def _of_store(ledger: Ledger, spec: SpecFile, inventory: Inventory) -> Iterator[Garbage]:
    """Checkpoints in a store, as `_of_checkpoints`; a manifest and pictures are in the study's folder."""
    store = store_of(ledger)
    sizes, going_on = store.sizes() if store else {}, cut_off(ledger)
    for trial in ledger.all_trials():
        if store is None or not _is_over(trial, going_on) or trial.mlflow_run_id is None:
            continue
        kept = kept_steps(spec, trial)
        for report in trial.reports:
            if (key := report.checkpoint) and (there := sizes.get(key)):
                stored = inventory.checkpoint(trial.mlflow_run_id, Path(key).name)
                if why := _why(trial, there, stored, report.step in kept, spec.retention):
                    total, run_id = sum(there.values()), trial.mlflow_run_id
                    folder = ledger.study_dir / key
                    yield Garbage(ledger.study, folder, tuple(there), total, why, run_id, store.url, key)


def _of_checkpoints(
    ledger: Ledger, spec: SpecFile, inventory: Inventory, entries: Sequence[CheckpointEntry]
) -> Iterator[Garbage]:
    """What is large in checkpoints of ended trials is deleted; their manifests and pictures stay."""
    going_on = cut_off(ledger)
    kept = {trial.id: kept_steps(spec, trial) for trial in ledger.all_trials() if _is_over(trial, going_on)}
    for entry in entries:
        trial, folder = entry.trial, entry.folder
        is_here = entry.state in HERE and inside(ledger.study_dir / "trials", folder)
        if not is_here or trial.id not in kept or trial.mlflow_run_id is None:
            continue
        local = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        large = {name: size for name, size in local.items() if name != MANIFEST and Path(name).suffix not in PICTURES}
        stored = inventory.checkpoint(trial.mlflow_run_id, folder.name)
        if entry.state is CheckpointState.DAMAGED and large.keys() & stored.keys():
            continue  # it can be restored from there
        if large and (why := _why(trial, local, stored, entry.report.step in kept[trial.id], spec.retention)):
            yield Garbage(ledger.study, folder, tuple(large), sum(large.values()), why, trial.mlflow_run_id)


def _why(
    trial: TrialRecord, files: Mapping[str, int], stored: Mapping[str, int], is_kept: bool, retention: str
) -> str | None:
    """Why a checkpoint of an ended trial is no longer needed; None: it is. `stored`: what MLflow has of its files."""
    if stored.get(MANIFEST) != files.get(MANIFEST):
        return None
    if all(stored.get(file) == size for file, size in files.items() if Path(file).suffix not in PICTURES):
        return f"{trial.id} has ended, and MLflow holds this checkpoint"
    if not is_kept and MANIFEST in files:
        return f"{trial.id} has ended, and retention is `{retention}`"
    return None


def _damaged(ledger: Ledger, entries: Sequence[CheckpointEntry], found: Sequence[Garbage]) -> Iterator[str]:
    """A line for each damaged checkpoint that stays."""
    going = {garbage.folder for garbage in found}
    for entry in entries:
        if entry.state is CheckpointState.DAMAGED and entry.folder not in going:
            what = f"{ledger.study}: kept {entry.report.checkpoint}, which is damaged: {entry.problem}"
            yield f"{what}; `sweeper doctor --fix` restores it, if MLflow has a copy"


def _of_killed_workers(ledger: Ledger) -> Iterator[Garbage]:
    for folder in sorted((ledger.study_dir / "trials").glob("*/.*.partial")):
        yield Garbage(ledger.study, folder, (), _size(folder), "an incomplete checkpoint, left by a killed worker")


def _of_lost_runs(home: Path, ledger: Ledger, inventory: Inventory) -> Iterator[Garbage]:
    """Artifacts of runs that are no longer in MLflow, if they are in this home and were delivered to its own store."""
    note, root = ledger.study_dir / STORE, artifact_root(home)
    if root is None or not note.exists() or not note.read_text(errors="replace").endswith("/mlflow.db"):
        return
    for folder in sorted(Path(root).glob(f"{ledger.study}*")):
        if folder.name != ledger.study and not folder.name.startswith(f"{ledger.study}@"):
            continue
        runs = inventory.runs_of(folder)
        if runs is None:
            continue
        for run in sorted(folder.iterdir()):
            if RUN_ID.fullmatch(run.name) and run.name not in runs:
                yield Garbage(ledger.study, run, (), _size(run), "artifacts of a run that is not in MLflow")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
