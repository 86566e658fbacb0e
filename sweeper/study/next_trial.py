"""A trial about to be run: its config, the checkpoint that it resumes from, its folder; and which are still to come."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.checkpoints.locate import last_good
from sweeper.checkpoints.object_store import PATIENCE_S
from sweeper.checkpoints.upload import UploadSettings
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.noise.model import noise_of
from sweeper.noise.replication import is_due, next_repeat, settled
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.validation.feasibility import UntriedPoints
from sweeper.study.decisions import config_of
from sweeper.study.transitions import TrialTransitions
from sweeper.study.trial_folder import folder_of


@dataclass(frozen=True)
class NextTrial:
    """A trial to be run.

    Attributes:
        record: as the ledger has it.
        config: resolved.
        workdir: the folder of its own files.
        resume: the checkpoint to continue from; None: from the start.
        resumed_from: the evaluation at which that was written, or 0.
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
    had_worker: bool
    """Whether it may have had a worker before, from this driver or another."""


def prepare(spec: SweepSpec, ledger: Ledger, record: TrialRecord) -> NextTrial:
    """What a worker needs to run the trial.

    Raises:
        SpecError: the trainer's config refuses its parameters.
    """
    url = ledger.attributes.store_url
    resume, step, damaged = last_good(ledger.study_dir, record, stored=url is not None)
    upload = _upload_settings(spec, record, url) if url else None
    workdir = ledger.study_dir / folder_of(record)
    had_worker = bool(record.reports or record.losses or workdir.exists())
    return NextTrial(record, config_of(spec, record), workdir, resume, step, damaged, upload, had_worker)


def _upload_settings(spec: SweepSpec, record: TrialRecord, url: str) -> UploadSettings:
    written = tuple(report.checkpoint for report in reversed(record.reports) if report.checkpoint)
    patience_s = min(PATIENCE_S, spec.resources.heartbeat_s / 2)  # a worker that waits seems to hang
    return UploadSettings(url, str(folder_of(record)), written, patience_s)


class TrialsToCome:
    """Which trials a study does not have yet."""

    def __init__(self, spec: SweepSpec, ledger: Ledger) -> None:
        self._spec, self._ledger, self._untried = spec, ledger, UntriedPoints(spec)

    @property
    def has_all_candidates(self) -> bool:
        """Whether every candidate of the study exists; those that retry a failed one, or that the user has added, are
        not counted."""
        if self._counted >= self._spec.trials:
            return True
        if self._spec.replicate is None:
            return self.is_exhausted
        if not (is_due(self._spec, self._searched) or self.is_exhausted):
            return False
        return self.is_settled or (self.is_exhausted and next_repeat(self._spec, self._ledger.trials()) is None)

    @property
    def _counted(self) -> int:
        return self._ledger.count - self._ledger.retries - self._ledger.enqueued

    @property
    def _searched(self) -> int:
        """As `_counted`, without those that repeat an earlier configuration."""
        trials = self._ledger.trials()
        return self._counted - sum(trial.repeat > 0 and trial.retry_of is None for trial in trials)

    @property
    def is_settled(self) -> bool:
        """Whether new seeds have shown which configuration is the best, or good enough."""
        trials = self._ledger.trials()
        return any(trial.repeat for trial in trials) and settled(noise_of(self._spec, trials)) is not None

    def repeat(self) -> tuple[TrialRecord, int] | None:
        """The configuration to run next with a new seed, and which repetition it is; None: a new configuration is
        next."""
        if self._spec.replicate and (is_due(self._spec, self._searched) or self.is_exhausted):
            return next_repeat(self._spec, self._ledger.trials())
        return None

    @property
    def is_exhausted(self) -> bool:
        """Whether every configuration of the search space has been tried, so another trial would repeat one."""
        if not self._untried.is_listed:
            return False
        return not self._untried.are_left(self._ledger.tried.keys())

    def controls(self) -> list[str]:
        """Names of the controls that the study does not have yet."""
        there = {record.control for record in self._ledger.controls()}
        return [control for control in self._spec.control_names if control not in there]


class TrialQueue:
    """Which trial is handed out next: one that has run before and was left unfinished, otherwise a control, a paused
    one that is promoted, or a new candidate.

    Args:
        spec: of the study.
        ledger: of the study; what an earlier driver left unfinished there comes first.
        trials: wakes those that are promoted, and judges those whose verdict a kill may have prevented.
        to_come: the trials that the study does not have yet.
    """

    def __init__(self, spec: SweepSpec, ledger: Ledger, trials: TrialTransitions, to_come: TrialsToCome) -> None:
        self._spec, self._ledger, self._trials, self._to_come = spec, ledger, trials, to_come
        self._unfinished = [record.id for record in ledger.unfinished(spec)]
        self._unjudged = set(self._unfinished)

    def put_first(self, record: TrialRecord) -> None:
        """This trial is the next."""
        self._unfinished.insert(0, record.id)

    def remove(self, trial_id: str) -> None:
        """This trial is not handed out again."""
        self._unfinished = [each for each in self._unfinished if each != trial_id]

    def clear(self) -> None:
        """No trial is handed out again."""
        self._unfinished.clear()

    def take(self, *, may_add: bool) -> TrialRecord | None:
        """The next trial; None: none now. `may_add`: whether the budget allows trials that have not begun."""
        while self._unfinished:
            trial_id = self._unfinished.pop(0)
            if trial_id in self._unjudged:  # a kill may have come between its last report and the verdict
                self._unjudged.discard(trial_id)
                if self._ledger.trial(trial_id).reports and self._trials.judge(trial_id):
                    continue
            return self._ledger.trial(trial_id)
        if may_add and (controls := self._to_come.controls()):
            return self._ledger.add_control(controls[0])
        if promoted := self._trials.rungs.to_promote(idle=False):
            return self._trials.wake(promoted)
        if may_add and not self._to_come.has_all_candidates:
            if again := self._to_come.repeat():
                return self._ledger.add_repeat(*again, self._spec)
            return self._ledger.ask(self._spec)
        if not self._trials.running:  # ranks can no longer change
            if promoted := self._trials.rungs.to_promote(idle=True):
                return self._trials.wake(promoted)
            self._trials.prune_waiting()
        return None
