"""Which of the checkpoints named by its ledger a study has: the same answer for doctor, gc and status."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sweeper.checkpoints.manifest import MANIFEST, damage, is_picture
from sweeper.files import inside
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord


class CheckpointState(StrEnum):
    """COLLECTED: `sweeper gc` has deleted what is large, and the manifest with its checksums is there. STORED: it is in
    an object store, and its manifest here."""

    WHOLE = "whole"
    COLLECTED = "collected"
    STORED = "stored"
    DAMAGED = "damaged"
    MISSING = "missing"


@dataclass(frozen=True)
class CheckpointEntry:
    """A checkpoint that the ledger names.

    Attributes:
        trial: whose it is.
        report: the evaluation that wrote it.
        folder: where it is, or should be.
        state: what is there.
        problem: what is wrong with a damaged one, else empty.
    """

    trial: TrialRecord
    report: Report
    folder: Path
    state: CheckpointState
    problem: str = ""

    @property
    def is_needed(self) -> bool:
        """Whether the study may resume from it: its trial has not ended."""
        return not self.trial.state.is_finished


def checkpoint_entries(ledger: Ledger, *, checked: bool = True) -> Iterator[CheckpointEntry]:
    """Every checkpoint that the ledger names, in the order of trials and evaluations.

    Args:
        ledger: of the study.
        checked: compare each file with its checksum, which reads them all; otherwise only see whether they are there.
    """
    stored = ledger.attributes.store_url is not None
    for trial in ledger.all_trials():
        for report in trial.reports:
            if report.checkpoint is not None:
                folder = ledger.study_dir / report.checkpoint
                yield CheckpointEntry(trial, report, folder, *_state(ledger.study_dir, folder, trial, stored, checked))


def _state(
    study_dir: Path, folder: Path, trial: TrialRecord, stored: bool, checked: bool
) -> tuple[CheckpointState, str]:
    if stored:
        return CheckpointState.STORED, ""
    if not inside(study_dir, folder):
        return CheckpointState.DAMAGED, "it is outside the study's folder"
    if not folder.is_dir():
        return CheckpointState.MISSING, ""
    if trial.state.is_finished and is_collected(folder):
        return CheckpointState.COLLECTED, ""
    problem = damage(folder) if checked else None
    return (CheckpointState.DAMAGED, problem) if problem else (CheckpointState.WHOLE, "")


def is_collected(folder: Path) -> bool:
    """Whether only the manifest and pictures of a checkpoint are left, as `sweeper gc` leaves it."""
    try:
        named = json.loads((folder / MANIFEST).read_bytes())["files"]
        large = [name for name in named if not is_picture(name)]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(large) and not any((folder / name).exists() for name in large)
