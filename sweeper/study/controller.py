"""A study while it runs: what comes next, and what each report means. Knows the ledger, the tracker and the pure
decisions, and nothing about Ray, so that a test can drive it with a list of reports."""

import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from mano_trainers.report import EpochReport
from sweeper.checkpoints.locate import keep_manifest
from sweeper.errors import SpecError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.redaction import redact
from sweeper.spec.resolve import SweepSpec
from sweeper.study import requests
from sweeper.study.callback import StudyCallback
from sweeper.study.decisions import decide_at_end, with_last_lines
from sweeper.study.next_trial import NextTrial, TrialQueue, TrialsToCome, prepare
from sweeper.study.transitions import TrialTransitions
from sweeper.study.trial_folder import keep_traceback, relative_to_study
from sweeper.study.usage.accounting import UsageMeter
from sweeper.study.usage.budget import may_start
from sweeper.study.usage.limits import FaultLimits, ReachedLimits, reached

STOPPED_BY_USER: Final = "stopped by the user"
"""The reason of trials that ended with it."""


class StudyController:
    """Decides for each report whether the trial continues. The ledger is written before anybody is told."""

    def __init__(
        self,
        spec: SweepSpec,
        ledger: Ledger,
        callbacks: Sequence[StudyCallback],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.ledger = ledger
        self.meter = UsageMeter(ledger, spec.budget, spec.resources, clock)
        self._limits = ReachedLimits(spec, ledger, self.meter)
        self._faults = FaultLimits(spec, self.notice)
        self._trials = TrialTransitions(spec, ledger, self.meter, [*callbacks, self._faults])
        self._audit = self._trials.audit
        self.to_come = TrialsToCome(spec, ledger)
        self._queue = TrialQueue(spec, ledger, self._trials, self.to_come)
        self._over: str | None = None
        self._failure: Exception | None = None
        self._interrupted = 0

    def next_trial(self) -> NextTrial | None:
        """The next trial to run (see `TrialQueue`). None when there is none now (see `may_come_again`), the budget
        allows no more, or the study is being interrupted."""
        while not self._is_ending and (record := self._next_record()) is not None:
            if upcoming := self._start(record):
                return upcoming
        return self._next_audit()

    def _next_record(self) -> TrialRecord | None:
        return self._queue.take(may_add=may_start(self.spec.budget, self.meter.spent()))

    def _start(self, record: TrialRecord) -> NextTrial | None:
        """Hand out the trial; None if the trainer's config refuses its parameters, which ends it."""
        try:
            upcoming = prepare(self.spec, self.ledger, record)
        except SpecError as refused:
            self._trials.refuse(record, refused)
            return None
        self._trials.hand_out(record)
        for problem in upcoming.damaged:
            self.notice(f"{record.id}: {problem}; the one before it is used")
        self._trials.tell(lambda callback: callback.trial_started(record, upcoming.config, upcoming.resumed_from))
        return upcoming

    def _next_audit(self) -> NextTrial | None:
        """A stopped trial whose audit was interrupted with an earlier driver, from where it had got to."""
        if self._is_ending or not self._audit.has_left or not may_start(self.spec.budget, self.meter.spent()):
            return None
        return prepare(self.spec, self.ledger, self._audit.take_up())

    # -- state of the run

    @property
    def interrupted(self) -> int:
        """The number of the signal that asked for the end of the run; 0: none."""
        return self._interrupted

    @property
    def failure(self) -> Exception | None:
        """Why this run cannot continue: a full disk, for example, or the loss of Ray itself."""
        return self._failure

    @property
    def over(self) -> str | None:
        """Why no further trial may run: the budget is used up, or the user has stopped the study."""
        return self._over

    @property
    def _is_ending(self) -> bool:
        return bool(self._interrupted or self._over)

    @property
    def running(self) -> int:
        """Trials handed out and not ended."""
        return self._trials.running

    @property
    def may_come_again(self) -> bool:
        """Whether a trial may still have to be handed out, because a running one may lose its worker, wait at a rung
        and be promoted, or show that the best is not known after all."""
        again = self.spec.resources.retries > 0 or self.spec.scheduler.mode == "promote" or self.spec.replicate
        return bool(again) and self.running > 0 and not self._is_ending

    @property
    def is_done(self) -> bool:
        """Whether every trial of the study, or every one that the budget allows, exists and has ended."""
        if not all(trial.state.is_finished for trial in self.ledger.all_trials()):
            return False
        if reached(self.spec, self.ledger.trials()):
            return True
        return (self.has_all_trials and not self._audit.has_left) or not may_start(self.spec.budget, self.meter.spent())

    @property
    def has_all_trials(self) -> bool:
        """Whether every trial of the study exists."""
        return self.to_come.has_all_candidates and not self.to_come.controls()

    # -- what the executor passes on

    def on_report(self, trial_id: str, report: EpochReport, manifest: str | None = None) -> bool:
        """Store a report and judge the trial.

        Args:
            trial_id: the trial.
            report: one evaluation; its checkpoint by its place in the study's folder.
            manifest: of its checkpoint, if that lies in a store.

        Returns:
            Whether the trial continues; otherwise its worker must stop here.
        """
        if manifest and report.checkpoint:
            keep_manifest(report.checkpoint, manifest)
        audited = trial_id in self._audit.running
        if self.ledger.trial(trial_id).state.is_finished and not audited:  # stopped while this was on its way
            return False
        stored = self._stored_report(trial_id, report)
        if audited:
            self._audit.report(trial_id, stored)
            if self._interrupted:
                self._audit.end(trial_id, complete=False, again=True)
            return not self._interrupted
        self._trials.report(trial_id, stored)
        if self._trials.judge(trial_id):
            return False
        if self._interrupted:  # its checkpoint is written and in the ledger: a later `run` continues there
            self._trials.release(trial_id)
            return False
        return True

    def _stored_report(self, trial_id: str, report: EpochReport) -> Report:
        return Report(
            step=report.step,
            epoch=report.epoch,
            metrics=dict(report.metrics),
            checkpoint=relative_to_study(self.ledger, report.checkpoint),
            timestamp_ms=int(time.time() * 1000),
            seconds=self.meter.lap(trial_id),
            total_epochs=report.total_epochs,
        )

    def on_end(self, trial_id: str) -> None:
        """The trainer has ended."""
        self._audit.end(trial_id, complete=True)
        record = self.ledger.trial(trial_id)
        if not record.state.is_finished:
            found = decide_at_end(self.spec, record)
            self._trials.finish(trial_id, found.state, found.reason, found.evidence)

    def on_error(self, trial_id: str, error: str, traceback: str = "", last_lines: Sequence[str] = ()) -> None:
        """The trainer raised. It would raise again, so the trial ends here. `last_lines`: of its log."""
        self._audit.end(trial_id, complete=False)
        record = self.ledger.trial(trial_id)
        if record.state.is_finished:
            return
        place = keep_traceback(self.ledger, record, traceback or error)
        reason = with_last_lines(redact(error), last_lines)
        self._trials.finish(trial_id, TrialState.FAILED, reason, {"traceback": place})

    def on_lost(self, trial_id: str, reason: str, last_lines: Sequence[str] = ()) -> None:
        """The trial's process is gone. The trial resumes from its last good checkpoint, a few times."""
        self._audit.end(trial_id, complete=False)
        record = self.ledger.trial(trial_id)
        if record.state.is_finished:
            return
        if self._interrupted:
            self._trials.release(trial_id)
        elif len(record.losses) >= self.spec.resources.retries:
            times = f", {len(record.losses) + 1} times" if record.losses else ""
            reason = with_last_lines(f"{reason}{times}", last_lines)
            self._trials.finish(trial_id, TrialState.FAILED, reason, {"earlier": list(record.losses)})
        else:
            self._trials.release(trial_id)
            record = self.ledger.note_loss(trial_id, reason)
            self._queue.put_first(record)
            self.notice(f"{trial_id}: {reason}; retry {len(record.losses)} of {self.spec.resources.retries}")

    def tick(self) -> list[str]:
        """Called several times a second. Returns the trials whose workers must be ended now: those that are stopped
        because the budget is used up, or the user says so from another terminal."""
        self.meter.tick()
        match requests.take(self.ledger.study_dir):
            case requests.Asked(request="pause"):
                self.request_stop(signal.SIGINT)
            case requests.Asked(request="stop", trial=str(trial_id)) if trial_id:
                return self.stop_trial(trial_id)
            case requests.Asked(request="stop"):
                self.ledger.attributes.stopped = True
                return self.end(STOPPED_BY_USER)
            case requests.Asked(request="enqueue", params=params):
                self._queue.put_first(self.ledger.add_enqueued(self.spec, params))
        if self._over:
            return []
        if self._faults.reason:
            return self._fail_all(self._faults.reason)
        if reason := self._limits.of_study():
            return self.end(reason)
        return self._stop_overlong()

    def _fail_all(self, reason: str) -> list[str]:
        """The running trials are pointless; returns them."""
        running = sorted(self._trials.handed_out)
        for trial_id in running:
            self._trials.finish(trial_id, TrialState.FAILED, reason, {})
        self.notice(f"the study is stopped: {reason}")
        return [*running, *self.end(reason)]

    def _stop_overlong(self) -> list[str]:
        """Stop the trials that have held their workers for too long; returns them."""
        limit_s = self.spec.resources.trial_wall_clock_s
        overlong = self._limits.overlong(self._trials.handed_out)
        for trial_id in overlong:
            reason = f"held its worker for over {limit_s:g} s (resources.trial_wall_clock_s)"
            self._trials.finish(trial_id, TrialState.STOPPED, reason, {"limit_s": limit_s})
        return overlong

    def should_stop_waiting(self) -> bool:
        """Called several times a second while the ledger does not answer: whether the user wants the run to end. Only
        the ledger could record a `stop`, which therefore waits."""
        if requests.take(self.ledger.study_dir, "pause"):
            self.request_stop(signal.SIGINT)
        return bool(self._interrupted)

    def request_stop(self, number: int) -> None:
        """Let running trials reach their next evaluation, and start none; `number`: of the first signal that asked for
        it."""
        self._interrupted = self._interrupted or number

    def fail(self, error: Exception) -> None:
        """The run cannot continue, and this is why."""
        self._failure = error

    def end(self, reason: str) -> list[str]:
        """Stop every trial that has not ended, for good; returns those whose workers must be ended now."""
        self._over = reason
        running = sorted({*self._trials.handed_out, *self._audit.running})
        self._audit.end_all(again=False)
        self._queue.clear()
        for record in self.ledger.all_trials():
            if not record.state.is_finished:
                self._trials.finish(record.id, TrialState.STOPPED, reason, {})
        return running

    def stop_trial(self, trial_id: str) -> list[str]:
        """Stop one trial, which may have just ended; returns it if its worker must be ended."""
        if self.ledger.trial(trial_id).state.is_finished:
            return []
        is_running = trial_id in self._trials.handed_out
        self._queue.remove(trial_id)
        self._trials.finish(trial_id, TrialState.STOPPED, STOPPED_BY_USER, {})
        return [trial_id] if is_running else []

    def close(self) -> None:
        """The driver's run ends, for whatever reason: record what its trials have used."""
        self._audit.end_all(again=True)
        for trial_id in sorted(self._trials.handed_out):
            self._trials.release(trial_id)
        self.meter.close()

    def add_callback(self, callback: StudyCallback) -> None:
        """Notify this one too, from now on."""
        self._trials.callbacks.append(callback)

    def notice(self, text: str) -> None:
        """Tell the user."""
        self._trials.tell(lambda callback: callback.notice(text))
