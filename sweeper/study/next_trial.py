"""A trial about to be run: its config, the checkpoint that it goes on from, its folder; and which are yet to come."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.checkpoints.locate import last_good
from sweeper.checkpoints.object_store import PATIENCE_S
from sweeper.checkpoints.upload import UploadSettings
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.validation.feasibility import UntriedPoints, keys_of
from sweeper.study.decisions import config_of


@dataclass(frozen=True)
class NextTrial:
    """A trial to be run.

    Attributes:
        record: as the ledger has it.
        config: resolved.
        workdir: the folder of its own files.
        resume: the checkpoint to continue from; None: from the start.
        resumed_from: the evaluation at which that was written, else 0.
        damaged: what is wrong with each newer checkpoint, a line each.
        upload: for its worker; None if checkpoints stay in the study's folder.
    """

    record: TrialRecord
    config: dict[str, Any]
    workdir: Path
    resume: Path | None
    resumed_from: int
    damaged: Sequence[str]
    upload: UploadSettings | None


def prepare(spec: SweepSpec, ledger: Ledger, record: TrialRecord) -> NextTrial:
    """What a worker needs to run the trial.

    Raises:
        SpecError: the trainer's config refuses its parameters.
    """
    url = ledger.attributes.store_url
    resume, step, damaged = last_good(ledger.study_dir, record, stored=url is not None)
    upload = _upload_settings(spec, record, url) if url else None
    workdir = ledger.study_dir / _workdir(record)
    return NextTrial(record, config_of(spec, record), workdir, resume, step, damaged, upload)


def _upload_settings(spec: SweepSpec, record: TrialRecord, url: str) -> UploadSettings:
    written = tuple(report.checkpoint for report in reversed(record.reports) if report.checkpoint)
    patience_s = min(PATIENCE_S, spec.resources.heartbeat_s / 2)  # a worker that waits seems to hang
    return UploadSettings(url, str(_workdir(record)), written, patience_s)


def _workdir(record: TrialRecord) -> Path:
    return Path("trials") / record.folder


def workdir_of(ledger: Ledger, trial_id: str) -> Path:
    """The folder of a trial's own files."""
    return ledger.study_dir / _workdir(ledger.trial(trial_id))


class TrialsToCome:
    """Which trials a study does not have yet."""

    def __init__(self, spec: SweepSpec, ledger: Ledger) -> None:
        self._spec, self._ledger, self._untried = spec, ledger, UntriedPoints(spec)

    @property
    def has_all_candidates(self) -> bool:
        """Whether every candidate of the study exists; those that try a failed one again, or that the user has added,
        are beside the count."""
        ledger = self._ledger
        return ledger.count - ledger.retries - ledger.enqueued >= self._spec.trials or self.is_exhausted

    @property
    def is_exhausted(self) -> bool:
        """Whether every configuration of the search space was tried, so that another trial would repeat one."""
        if not self._untried.is_listed:
            return False
        return not self._untried.are_left(keys_of(trial.params for trial in self._ledger.trials()))

    def controls(self) -> list[str]:
        """Names of the controls that the study does not have yet."""
        there = {record.control for record in self._ledger.controls()}
        return [control for control in self._spec.control_names if control not in there]
