"""Where a study's checkpoints are: in its folder, or in a store; and which one a trial resumes from."""

import os
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from sweeper.checkpoints.manifest import MANIFEST, damage
from sweeper.checkpoints.object_store import CHECK_PATIENCE_S, CheckpointMissing, ObjectStore
from sweeper.errors import UserError
from sweeper.files import inside, write_atomic
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.model import STORE_PATTERN, SpecFile

CHECKPOINTS_VARIABLE: Final = "SWEEPER_CHECKPOINTS"


def store_of(ledger: Ledger) -> ObjectStore | None:
    """The store that contains the study's checkpoints; None: its folder does."""
    url = ledger.attributes.store_url
    return ObjectStore(url) if url else None


def named_store(spec: SpecFile) -> str | None:
    """The store that a new study's checkpoints go to; None: its folder."""
    return os.environ.get(CHECKPOINTS_VARIABLE) or spec.checkpoints


def open_store(ledger: Ledger, spec: SpecFile) -> None:
    """Write to the study's store and read from it, if it has one. A study that has not begun gets a folder of its own
    in the store that SWEEPER_CHECKPOINTS or the spec names; one that has keeps its checkpoints where they are.

    Raises:
        UserError: the variable holds no such URL; or the store does not answer, or refuses.
    """
    url = ledger.attributes.store_url
    has_begun = bool(ledger.controls() or ledger.trials())
    if not url and not has_begun and (given := named_store(spec)):
        if not re.fullmatch(STORE_PATTERN, given):
            raise UserError(
                "this is not the URL of a store", CHECKPOINTS_VARIABLE, "it is s3://BUCKET/PREFIX, without credentials"
            )
        url = f"{given.rstrip('/')}/{ledger.study}-{uuid.uuid4().hex[:8]}"
    if not url:
        return
    ObjectStore(url, CHECK_PATIENCE_S).check()
    if ledger.attributes.store_url != url:
        ledger.attributes.store_url = url


def last_good(study_dir: Path, record: TrialRecord, *, stored: bool = False) -> tuple[Path | None, int, Sequence[str]]:
    """The newest complete checkpoint of a trial.

    Args:
        study_dir: the study's folder.
        record: the trial.
        stored: checkpoints are in a store: the newest one is taken, and the worker that fetches it checks whether it is
            complete.

    Returns:
        The folder, or None to start over; the evaluation it was written at, or 0; and what is wrong with each newer
        one, a line each.
    """
    passed_over: list[str] = []
    for report in reversed(record.reports):
        if report.checkpoint is None:
            continue
        folder = study_dir / report.checkpoint
        is_here = stored or inside(study_dir, folder)
        problem = (None if stored else damage(folder)) if is_here else "it is outside the study's folder"
        if problem is None:
            return folder, report.step, passed_over
        passed_over.append(f"the checkpoint {report.checkpoint} is damaged: {problem}")
    return None, 0, passed_over


def restore_manifests(ledger: Ledger) -> None:
    """Fetch the manifests of checkpoints in a store that this home does not have, as in a study taken over from a lost
    home: MLflow gets each. One that the store does not have, since `sweeper gc` deleted it, is skipped.

    Raises:
        StoreUnavailable: the store does not answer, or refuses.
    """
    store = store_of(ledger)
    if store is None:
        return
    for trial in ledger.all_trials():
        for report in trial.reports:
            folder = ledger.study_dir / (report.checkpoint or "")
            if report.checkpoint and inside(ledger.study_dir, folder) and not (folder / MANIFEST).exists():
                with suppress(CheckpointMissing):
                    store.fetch(report.checkpoint, folder, MANIFEST.__eq__)


def keep_manifest(folder: Path, text: str) -> None:
    """Keep the manifest of a checkpoint that is in a store; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / MANIFEST, text)
