"""A study while it runs: what comes next, and what each report means. Knows the ledger, the tracker and the pure
decisions, and nothing of Ray, so that a test can drive it with a list of reports."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeper.checkpoints.locate import keep_manifest, last_good
from sweeper.checkpoints.object_store import PATIENCE_S
from sweeper.checkpoints.upload import UploadSettings
from sweeper.errors import SpecError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.pruning.asha import is_audited
from sweeper.pruning.rungs import Rungs
from sweeper.redaction import redact
from sweeper.spec.feasibility import UntriedPoints, keys_of, refusal_text
from sweeper.spec.resolve import SweepSpec
from sweeper.study import pruning_audit as audit
from sweeper.study import requests
from sweeper.study.accounting import UsageMeter
from sweeper.study.budget import may_start, used_up
from sweeper.study.callback import StudyCallback
from sweeper.study.decisions import Decision, NextTrial, config_of, decide, decide_at_end, recorded_config
from sweeper.study.pareto import objective_values

STOPPED_BY_USER = "stopped by the user"
"""The reason of trials that ended with it."""


class StudyController:
    """Decides for each report whether the trial goes on. The ledger is written before anybody is told."""

    def __init__(
        self,
        spec: SweepSpec,
        ledger: Ledger,
        callbacks: Sequence[StudyCallback],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.ledger = ledger
        self.callbacks = callbacks
        self.meter = UsageMeter(ledger, spec.budget, spec.resources, clock)
        self.over: str | None = None  # why no further trial may run: the budget
        self.failure: Exception | None = None  # why this run cannot go on: a full disk, Ray itself is lost
        self.interrupted = 0  # the number of the signal that asked for the end
        self._stored = ledger.attributes.store_url is not None  # checkpoints lie in a store, not in the study's folder
        self._handed_out: set[str] = set()
        self._audited: set[str] = set()  # stopped, and running on
        self._left_over = ledger.unfinished(spec)
        self._audits_left = audit.cut_off(ledger)
        self._unjudged = {record.id for record in self._left_over}
        self._total_epochs: dict[str, float | None] = {
            trial.id: trial.last.total_epochs for trial in ledger.all_trials() if trial.last
        }
        self._rungs = Rungs(spec, self._total_epochs)
        self._untried = UntriedPoints(spec)
        for record in ledger.trials():
            self._rungs.update(record)

    def next_trial(self) -> NextTrial | None:
        """The next trial to run: one a former driver left unfinished, else a control, else a paused one that is
        promoted, else a newly sampled candidate. None when there is none now (see `may_come_again`), the budget allows
        no more, or the study is being interrupted."""
        while not (self.interrupted or self.over) and (record := self._next_record()) is not None:
            config = self._config_of(record)
            if config is not None:
                return self._start(record, config)
        return self._next_audit()

    def _start(self, record: TrialRecord, config: dict[str, Any]) -> NextTrial:
        self._handed_out.add(record.id)
        self.meter.start(record.id)
        workdir = self.workdir_of(record.id)
        resume, step, damaged = last_good(self.ledger.study_dir, record, stored=self._stored)
        for problem in damaged:
            self.notice(f"{record.id}: {problem}; the one before it is used")
        for callback in self.callbacks:
            callback.trial_started(record, config, step)
        return NextTrial(record, config, workdir, resume)

    def _config_of(self, record: TrialRecord) -> dict[str, Any] | None:
        """The trial's config; None where the trainer's config refuses its parameters, and the trial ends with that."""
        try:
            return config_of(self.spec, record)
        except SpecError as refused:
            for callback in self.callbacks:
                callback.trial_started(record, recorded_config(self.spec, record), 0)
            reason = f"the trainer's config refuses it: {refusal_text(refused)}"
            problems = [asdict(problem) for problem in refused.problems]
            self._finish(record.id, TrialState.INFEASIBLE, reason, {"problems": problems})
            return None

    def _next_audit(self) -> NextTrial | None:
        """A stopped trial whose audit was cut off with a former driver, from where it had come to."""
        if (
            self.interrupted
            or self.over
            or not self._audits_left
            or not may_start(self.spec.budget, self.meter.spent())
        ):
            return None
        record = self.ledger.trial(self._audits_left.pop(0))
        self._begin_audit(record)
        record = audit.with_audit(self.ledger, record)
        resume, _, _ = last_good(self.ledger.study_dir, record, stored=self._stored)
        return NextTrial(record, config_of(self.spec, record), self.workdir_of(record.id), resume)

    def parcel(self, upcoming: NextTrial) -> dict[str, Any] | None:
        """What the trial's worker is told of the store of checkpoints; None: there is none."""
        url = self.ledger.attributes.store_url
        if not url:
            return None
        trial = str(upcoming.workdir.relative_to(self.ledger.study_dir))
        written = tuple(report.checkpoint for report in reversed(upcoming.record.reports) if report.checkpoint)
        patience_s = min(PATIENCE_S, self.spec.resources.heartbeat_s / 2)  # a worker that waits seems to hang
        return vars(UploadSettings(url, trial, written, patience_s))

    @property
    def running(self) -> int:
        """Trials handed out and not ended."""
        return len(self._handed_out)

    @property
    def may_come_again(self) -> bool:
        """Whether a trial may have to be handed out again, because a running one may yet lose its worker, or wait at a
        rung and be promoted."""
        again = self.spec.resources.retries > 0 or self.spec.scheduler.mode == "promote"
        return again and self.running > 0 and not (self.interrupted or self.over)

    @property
    def is_done(self) -> bool:
        """Whether every trial of the study exists and has ended, or all have that the budget allows."""
        trials = self.ledger.all_trials()
        if not all(trial.state.is_finished for trial in trials):
            return False
        return (self.has_all_trials and not self._audits_left) or not may_start(self.spec.budget, self.meter.spent())

    @property
    def has_all_candidates(self) -> bool:
        """Whether every candidate of the study exists; those that try a failed one again are beside the count."""
        return self.ledger.count - self.ledger.retries >= self.spec.trials or self.is_exhausted

    @property
    def is_exhausted(self) -> bool:
        """Whether every configuration of the search space was tried, so that another trial would repeat one."""
        if not self._untried.is_listed:
            return False
        return not self._untried.are_left(keys_of(trial.params for trial in self.ledger.trials()))

    @property
    def has_all_trials(self) -> bool:
        """Whether every trial of the study exists."""
        return self.has_all_candidates and not self._controls_to_come()

    def on_report(self, trial_id: str, message: Mapping[str, Any]) -> bool:
        """Store a report and judge the trial; False: it must stop here."""
        audited = trial_id in self._audited
        self._unpack(message)
        if self.ledger.trial(trial_id).state.is_finished and not audited:  # stopped while this was on its way
            return False
        seconds = self.meter.lap(trial_id)
        report = Report(
            step=message["step"],
            epoch=message["epoch"],
            metrics=message["metrics"],
            checkpoint=self._relative(message["checkpoint"]),
            timestamp_ms=int(time.time() * 1000),
            seconds=seconds,
            total_epochs=message["total_epochs"],
        )
        if audited:
            audit.add_report(self.ledger, trial_id, report)
            if self.interrupted:
                self._end_audit(trial_id, complete=False, again=True)
            return not self.interrupted
        self._total_epochs[trial_id] = message["total_epochs"]
        if self.ledger.report(trial_id, report, report.metrics.get(self.spec.objective.metric)):
            self._changed(trial_id)
            for callback in self.callbacks:
                callback.trial_reported(self.ledger.trial(trial_id))
        else:
            self.meter.redone(trial_id, seconds)
        if self._judge(trial_id):
            return False
        if self.interrupted:  # its checkpoint is written and in the ledger: a later `run` continues there
            self._release(trial_id)
            return False
        return True

    def on_end(self, trial_id: str) -> None:
        """The trainer came to its end."""
        self._end_audit(trial_id, complete=True)
        record = self.ledger.trial(trial_id)
        if not record.state.is_finished:
            found = decide_at_end(self.spec, record)
            self._finish(trial_id, found.state, found.reason, found.evidence)

    def on_error(self, trial_id: str, error: str, traceback: str = "") -> None:
        """The trainer raised. It would raise again, so this is the trial's end."""
        self._end_audit(trial_id, complete=False)
        if self.ledger.trial(trial_id).state.is_finished:
            return
        workdir = self.workdir_of(trial_id)
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "error.txt").write_text(redact(traceback or error))
        self._finish(
            trial_id, TrialState.FAILED, redact(error), {"traceback": str(self._relative(str(workdir / "error.txt")))}
        )

    def on_lost(self, trial_id: str, reason: str) -> None:
        """The trial's process is gone. The trial goes on from its last good checkpoint, a few times."""
        self._end_audit(trial_id, complete=False)
        record = self.ledger.trial(trial_id)
        if record.state.is_finished:
            return
        if self.interrupted:
            self._release(trial_id)
        elif len(record.losses) >= self.spec.resources.retries:
            times = f", {len(record.losses) + 1} times" if record.losses else ""
            self._finish(trial_id, TrialState.FAILED, f"{reason}{times}", {"earlier": list(record.losses)})
        else:
            self._release(trial_id)
            record = self.ledger.note_loss(trial_id, reason)
            self._left_over.insert(0, record)
            self.notice(f"{trial_id}: {reason}; retry {len(record.losses)} of {self.spec.resources.retries}")

    def tick(self) -> list[str]:
        """Called several times a second. Returns the trials whose workers must be ended now: those that are stopped
        because the budget is used up, or the user says so from another terminal."""
        self.meter.tick()
        match requests.take(self.ledger.study_dir):
            case "pause":
                self.interrupted = self.interrupted or signal.SIGINT
            case "stop":
                self.ledger.attributes.stopped = True
                return self.end(STOPPED_BY_USER)
        reason = None if self.over else used_up(self.spec.budget, self.meter.spent())
        return self.end(reason) if reason else []

    def is_waited_enough(self) -> bool:
        """Called several times a second while the ledger does not answer: whether the user wants the run to end. Only
        the ledger could record a `stop`, which therefore waits."""
        if requests.take(self.ledger.study_dir, "pause"):
            self.interrupted = self.interrupted or signal.SIGINT
        return bool(self.interrupted)

    def end(self, reason: str) -> list[str]:
        """Stop every trial that has not ended, for good; returns those whose workers must be ended now."""
        self.over = reason
        running = sorted(self._handed_out)
        for trial_id in sorted(self._audited):
            self._end_audit(trial_id, complete=False)
        self._left_over.clear()
        for record in self.ledger.all_trials():
            if not record.state.is_finished:
                self._finish(record.id, TrialState.STOPPED, reason, {})
        return running

    def close(self) -> None:
        """The driver's run ends, whatever the reason: book what its trials have used."""
        for trial_id in sorted(self._audited):
            self._end_audit(trial_id, complete=False, again=True)
        for trial_id in sorted(self._handed_out):
            self._release(trial_id)
        self.meter.close()

    def workdir_of(self, trial_id: str) -> Path:
        """The folder of a trial's own files."""
        return self.ledger.study_dir / "trials" / self.ledger.trial(trial_id).folder

    def notice(self, text: str) -> None:
        """Tell the user."""
        for callback in self.callbacks:
            callback.notice(text)

    # -- inside

    def _next_record(self) -> TrialRecord | None:
        while self._left_over:
            trial_id = self._left_over.pop(0).id
            if trial_id in self._unjudged:  # a kill may have come between its last report and the verdict
                self._unjudged.discard(trial_id)
                if self.ledger.trial(trial_id).reports and self._judge(trial_id):
                    continue
            return self.ledger.trial(trial_id)
        may_add = may_start(self.spec.budget, self.meter.spent())
        if may_add and (controls := self._controls_to_come()):
            return self.ledger.add_control(controls[0])
        if promoted := self._rungs.to_promote(idle=False):
            return self._wake(promoted)
        if may_add and not self.has_all_candidates:
            return self.ledger.ask(self.spec)
        if self.running:
            return None
        if promoted := self._rungs.to_promote(idle=True):
            return self._wake(promoted)
        for record in self._rungs.paused:  # no trial can change the ranks any more
            rung = self._rungs.last_standing(record)
            self._finish(record.id, TrialState.PRUNED, rung.reason, vars(rung))
        return None

    def _controls_to_come(self) -> list[str]:
        there = {record.control for record in self.ledger.controls()}
        return [control for control in self.spec.control_names if control not in there]

    def _judge(self, trial_id: str) -> bool:
        """Do what the trial's latest evaluation means for it; True: it must not run on."""
        record = self.ledger.trial(trial_id)
        found = decide(self.spec, self._rungs, record)
        if found is None:
            return False
        if found.state in (TrialState.PRUNED, TrialState.COLLAPSED):
            return self._stop(record, found)
        if found.state is TrialState.PAUSED:
            self.ledger.pause(trial_id, found.reason, found.evidence)
            self._changed(trial_id)
            self._release(trial_id)
        else:  # a control
            self._finish(trial_id, found.state, found.reason, found.evidence)
        return True

    def _wake(self, record: TrialRecord) -> TrialRecord:
        self.ledger.wake(record.id)
        return self._changed(record.id)

    def _changed(self, trial_id: str) -> TrialRecord:
        """What the ledger holds of the trial has changed."""
        record = self.ledger.trial(trial_id)
        if record.control is None:
            self._rungs.update(record)
        return record

    def _stop(self, record: TrialRecord, found: Decision) -> bool:
        """End a trial early; False: it is one of those that run on to be audited."""
        audited = is_audited(self.spec.audit, self.spec.seed, record.number)
        if audited:
            audit.begin(self.ledger, record.id)  # before its end: a kill in between makes it judged, and begun, again
        self._finish(record.id, found.state, found.reason, found.evidence)
        if audited:
            self._begin_audit(record)
        return not audited

    def _begin_audit(self, record: TrialRecord) -> None:
        self._handed_out.add(record.id)
        self._audited.add(record.id)
        self.meter.start(record.id)

    def _end_audit(self, trial_id: str, *, complete: bool, again: bool = False) -> None:
        """The worker is done with the trial; if it was stopped and ran on, so is its audit, or this part of it."""
        if trial_id in self._audited:
            audit.end(self.ledger, trial_id, complete, sum(self.meter.end(trial_id).values()), again=again)
            self._audited.discard(trial_id)
            self._handed_out.discard(trial_id)

    def _finish(self, trial_id: str, state: TrialState, reason: str, evidence: Mapping[str, Any]) -> None:
        values = objective_values(self.ledger.trial(trial_id), self.spec.objectives)
        self.ledger.finish(trial_id, state, reason, evidence, values, self.meter.end(trial_id))
        record = self._changed(trial_id)
        self._handed_out.discard(trial_id)
        for callback in self.callbacks:
            callback.trial_finished(record)

    def _release(self, trial_id: str) -> None:
        """The trial's worker is gone, and the trial goes on another time."""
        self._handed_out.discard(trial_id)
        for attempt, seconds in self.meter.end(trial_id).items():
            self.ledger.charge(trial_id, attempt, seconds)

    def _unpack(self, message: Mapping[str, Any]) -> None:
        """What a worker says that keeps its checkpoints in a store."""
        if manifest := message.get("manifest"):
            keep_manifest(Path(message["checkpoint"]), manifest)
        for problem in message.get("passed_over", ()):
            self.notice(f"{problem}; an earlier checkpoint is used")

    def _relative(self, path: str | None) -> str | None:
        if path is None:
            return None
        absolute = Path(path).resolve()
        root = self.ledger.study_dir.resolve()
        return str(absolute.relative_to(root)) if absolute.is_relative_to(root) else str(absolute)
