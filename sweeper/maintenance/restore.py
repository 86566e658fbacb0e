"""Restores a damaged checkpoint from the files that MLflow has of its run, compared with the checksums of both."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweeper.checkpoints.inventory import CheckpointEntry
from sweeper.checkpoints.manifest import MANIFEST, damage, is_picture
from sweeper.errors import UserError
from sweeper.files import inside, sha256_of
from sweeper.ledger.study_lock import study_lock
from sweeper.tracking import Inventory, tracking_uri


def restore_checkpoint(home: Path, study_dir: Path, entry: CheckpointEntry) -> str:
    """Put what MLflow holds in the place of each file that is not what the trainer wrote; returns what was done.

    The manifest must have the sum that was recorded when it was stored, and each file the one in the manifest. The
    files are replaced one by one, the manifest last: after a kill the checkpoint is as damaged as before.

    Raises:
        UserError: MLflow does not hold what is needed, or it is damaged there too; nothing has changed.
    """
    folder, run_id = entry.folder, entry.trial.mlflow_run_id
    if run_id is None or not inside(study_dir / "trials", folder):
        raise UserError("no run in MLflow is known to have a copy")
    inventory = Inventory(tracking_uri(home))
    scratch = folder.with_name(f".{folder.name}.restored.partial")
    with study_lock(study_dir):
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir(parents=True)
            brought = _fetch(inventory, run_id, folder, scratch)
            for name in brought:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).replace(folder / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    if problem := damage(folder):
        raise UserError(f"{', '.join(brought)} were restored from MLflow, but {problem}")
    return f"restored {', '.join(brought)} from MLflow"


def _fetch(inventory: Inventory, run_id: str, folder: Path, scratch: Path) -> list[str]:
    """Copy to `scratch` what differs in `folder`, and say what that is, the manifest last."""
    stored = inventory.checkpoint(run_id, folder.name)
    if MANIFEST not in stored:
        raise UserError("MLflow has no copy with checksums")
    with inventory.file(run_id, folder.name, MANIFEST) as file:
        shutil.copyfile(file, scratch / MANIFEST)
    told = inventory.sum_of(run_id, folder.name)
    if told is not None and sha256_of(scratch / MANIFEST) != told:
        raise UserError(f"MLflow's copy is damaged too: {MANIFEST} is not what was stored")
    brought = []
    for name, entry in _listed(scratch / MANIFEST).items():
        if not inside(folder, folder / name):
            raise UserError(f"the manifest names {name}, which is elsewhere")
        if _has(folder / name, entry["sha256"]):
            continue
        if name not in stored:
            if is_picture(name):
                continue
            raise UserError(f"{name} is damaged, and MLflow has no copy: the spec's `retention` does not keep it")
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        with inventory.file(run_id, folder.name, name) as file:
            shutil.copyfile(file, scratch / name)
        if not _has(scratch / name, entry["sha256"]):
            raise UserError(f"MLflow's copy is damaged too: {name} does not match the manifest")
        brought.append(name)
    return brought if _has(folder / MANIFEST, sha256_of(scratch / MANIFEST)) else [*brought, MANIFEST]


def _listed(manifest: Path) -> dict[str, Any]:
    try:
        listed: dict[str, Any] = json.loads(manifest.read_bytes())["files"]
        if all(isinstance(entry["sha256"], str) for entry in listed.values()):
            return listed
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError("MLflow's copy is damaged too: its manifest cannot be read")


def _has(file: Path, sha256: str) -> bool:
    with suppress(OSError):
        return sha256_of(file) == sha256
    return False
