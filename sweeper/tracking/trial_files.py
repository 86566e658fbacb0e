"""Which files of a trial MLflow gets: checkpoints by the spec's `retention`, pictures, its log, what is left over."""

from pathlib import Path
from typing import Final

from sweeper.checkpoints.leftovers import leftovers
from sweeper.checkpoints.manifest import is_picture
from sweeper.checkpoints.retention import kept_steps
from sweeper.entrypoint.trial.log import LOG
from sweeper.entrypoint.trial.mlflow_run import RUN_FILE
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord
from sweeper.spec.resolve import SweepSpec
from sweeper.study.trial_folder import ERROR_FILE, folder_of
from sweeper.tracking.tracker import Tracker

FILES: Final = "files"
"""Folder of a run for what the trainer has left in the trial's."""


class TrialFiles:
    """Hands files of trials to the tracker, which copies them later.

    Args:
        tracker: of the study.
        spec: of the study.
        ledger: of the study.
    """

    def __init__(self, tracker: Tracker, spec: SweepSpec, ledger: Ledger) -> None:
        self._tracker, self._spec, self._ledger = tracker, spec, ledger

    def of_report(self, record: TrialRecord, report: Report, *, at_rung: bool) -> None:
        """The checkpoint that came with an evaluation, or its manifest alone; at a rung its pictures too."""
        if report.checkpoint is None:
            return
        folder = self._ledger.study_dir / report.checkpoint
        if self._spec.retention == "all":
            self._checkpoint(record.id, folder)
        elif (folder / "manifest.json").exists():
            self._tracker.file(record.id, folder / "manifest.json", f"checkpoints/{folder.name}/manifest.json")
        if at_rung:
            self._pictures(record.id, folder)

    def of_ended(self, record: TrialRecord) -> int:
        """The last pictures of a trial that has ended, the checkpoints that are kept of it, its log, and what its
        trainer has left in its folder; returns how many of those stay there alone."""
        if record.last and record.last.checkpoint:
            self._pictures(record.id, self._ledger.study_dir / record.last.checkpoint)
        kept = kept_steps(self._spec, record)
        for report in record.reports:
            if report.step in kept and report.checkpoint:
                self._checkpoint(record.id, self._ledger.study_dir / report.checkpoint)
        return self._leftovers(record)

    def _leftovers(self, record: TrialRecord) -> int:
        folder = self._ledger.study_dir / folder_of(record)
        log = folder / LOG
        if log.is_file() and log.stat().st_size:
            self._tracker.file(record.id, log, LOG)
        sent, left_out = leftovers(folder, (LOG, RUN_FILE, ERROR_FILE), self._spec.retention)
        for path in sent:
            self._tracker.file(record.id, path, f"{FILES}/{path.relative_to(folder)}")
        return left_out

    def _checkpoint(self, trial_id: str, folder: Path) -> None:
        self._tracker.checkpoint(trial_id, folder, f"checkpoints/{folder.name}")

    def _pictures(self, trial_id: str, folder: Path) -> None:
        if self._ledger.attributes.store_url:
            self._tracker.pictures(trial_id, folder, f"pictures/{folder.name}")
            return
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if is_picture(path.name):
                self._tracker.file(trial_id, path, f"pictures/{folder.name}/{path.name}")
