"""What happens to trials while a study runs: first the ledger is written, then the ranks are updated, then callbacks
are called."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sweeper.errors import SpecError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.pruning.rungs import Rungs
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.validation.feasibility import refusal_text
from sweeper.study.callback import StudyCallback
from sweeper.study.decisions import Decision, decide, rank_reason, recorded_config
from sweeper.study.pareto import objective_values
from sweeper.study.pruning_audit import PruningAudit
from sweeper.study.usage.accounting import UsageMeter


class TrialTransitions:
    """The steps in a trial's life, of all trials that one driver runs.

    Attributes:
        handed_out: IDs of the trials that a worker has, without those that are audited.
        audit: the stopped trials that run on.
        rungs: how the candidates rank.
        callbacks: notified of each step.
    """

    def __init__(self, spec: SweepSpec, ledger: Ledger, meter: UsageMeter, callbacks: Sequence[StudyCallback]) -> None:
        self._spec, self._ledger, self._meter = spec, ledger, meter
        self.callbacks = list(callbacks)
        self.handed_out: set[str] = set()
        self.audit = PruningAudit(spec, ledger, meter)
        self._total_epochs: dict[str, float | None] = {
            trial.id: trial.last.total_epochs for trial in ledger.all_trials() if trial.last
        }
        self.rungs = Rungs(spec, self._total_epochs)
        for record in ledger.trials():
            self.rungs.update(record)

    @property
    def running(self) -> int:
        """How many trials have a worker, including audited ones."""
        return len(self.handed_out) + len(self.audit.running)

    def tell(self, say: Callable[[StudyCallback], None]) -> None:
        """Say something to every callback."""
        for callback in self.callbacks:
            say(callback)

    def hand_out(self, record: TrialRecord) -> None:
        """A worker gets the trial."""
        self.handed_out.add(record.id)
        self._meter.start(record.id)

    def refuse(self, record: TrialRecord, refused: SpecError) -> None:
        """The trainer's config refuses the trial's parameters, which ends the trial."""
        self.tell(lambda callback: callback.trial_started(record, recorded_config(self._spec, record), 0))
        reason = f"the trainer's config rejects it: {refusal_text(refused)}"
        problems = [asdict(problem) for problem in refused.problems]
        self.finish(record.id, TrialState.INFEASIBLE, reason, {"problems": problems})

    def report(self, trial_id: str, report: Report) -> None:
        """Store an evaluation; one that was stored before a restart costs its time, and is not reported again."""
        self._total_epochs[trial_id] = report.total_epochs
        if self._ledger.report(trial_id, report, report.metrics.get(self._spec.objective.metric)):
            record = self._changed(trial_id)
            self.tell(lambda callback: callback.trial_reported(record))
        else:
            self._meter.redone(trial_id, report.seconds)

    def judge(self, trial_id: str) -> bool:
        """Act on the trial's latest evaluation; True: it must not continue."""
        record = self._ledger.trial(trial_id)
        found = decide(self._spec, self.rungs, record)
        if found is None:
            return False
        if found.state in (TrialState.PRUNED, TrialState.COLLAPSED):
            return self._stop(record, found)
        if found.state is TrialState.PAUSED:
            self._ledger.pause(trial_id, found.reason, found.evidence)
            self._changed(trial_id)
            self.release(trial_id)
        else:  # a control
            self.finish(trial_id, found.state, found.reason, found.evidence)
        return True

    def wake(self, record: TrialRecord) -> TrialRecord:
        """A paused trial continues."""
        self._ledger.wake(record.id)
        return self._changed(record.id)

    def prune_waiting(self) -> None:
        """End the trials that wait at a rung: no trial can change the ranks any longer."""
        for record in self.rungs.paused:
            rung = self.rungs.last_standing(record)
            self.finish(record.id, TrialState.PRUNED, rank_reason(self._spec, record, rung), rung.evidence)

    def finish(self, trial_id: str, state: TrialState, reason: str, evidence: Mapping[str, Any]) -> None:
        """Give the trial its terminal state."""
        values = objective_values(self._ledger.trial(trial_id), self._spec.objectives)
        self._ledger.finish(trial_id, state, reason, evidence, values, self._meter.end(trial_id))
        record = self._changed(trial_id)
        self.handed_out.discard(trial_id)
        self.tell(lambda callback: callback.trial_finished(record))

    def release(self, trial_id: str) -> None:
        """The trial's worker is gone, and the trial will be continued later."""
        self.handed_out.discard(trial_id)
        for attempt, seconds in self._meter.end(trial_id).items():
            self._ledger.charge(trial_id, attempt, seconds)

    def _changed(self, trial_id: str) -> TrialRecord:
        """What the ledger holds of the trial has changed."""
        record = self._ledger.trial(trial_id)
        if record.control is None:
            self.rungs.update(record)
        return record

    def _stop(self, record: TrialRecord, found: Decision) -> bool:
        """End a trial early; False: it is one of those that keep running to be audited."""
        audited = self.audit.is_due(record)
        if audited:
            self.audit.announce(record)  # before its end: a kill in between makes it judged, and begun, again
        self.finish(record.id, found.state, found.reason, found.evidence)
        if audited:
            self.audit.start(record.id)
        return not audited
