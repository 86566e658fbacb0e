"""The pruning audit: what became of stopped trials that were allowed to keep running, off the books.

What they report is kept apart from the trials, where neither ranks nor the sampler look. An audit that is interrupted
with its driver is continued by the next one; one whose worker fails is not, and does not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeper.entrypoint.offers import offers_of
from sweeper.ledger.attributes import AUDIT
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState, encode_report, last_with, report_key, stored_reports
from sweeper.pruning.asha import is_audited
from sweeper.pruning.guards import check_guards
from sweeper.spec.model import SpecFile
from sweeper.study.usage.accounting import UsageMeter


@dataclass(frozen=True)
class Audit:
    """IDs of the stopped trials that ran on to their end, by how they were stopped, and of those stopped wrongly.

    A collapsed trial was stopped wrongly if at its end no guard would have stopped it; a pruned one if it would have
    won.
    """

    collapsed: tuple[str, ...]
    pruned: tuple[str, ...]
    false_kills: tuple[str, ...]

    def sentence(self) -> str:
        """The audit in a line."""
        total = len(self.collapsed) + len(self.pruned)
        recovered = len(set(self.collapsed) & set(self.false_kills))
        won = len(self.false_kills) - recovered
        return (
            f"audit: of {total} stopped trials that ran on, {len(self.false_kills)} were stopped wrongly "
            f"({len(self.false_kills) / total:.0%}): {recovered} of {len(self.collapsed)} collapsed recovered, "
            f"{won} of {len(self.pruned)} pruned would have won"
        )


class PruningAudit:
    """The stopped trials that one driver lets keep running.

    Args:
        spec: of the study.
        ledger: of the study.
        meter: records what they use, as for any trial.
    """

    def __init__(self, spec: SpecFile, ledger: Ledger, meter: UsageMeter) -> None:
        self._spec, self._ledger, self._meter = spec, ledger, meter
        self._left = cut_off(ledger)
        self.running: set[str] = set()

    @property
    def has_left(self) -> bool:
        """Whether an audit was interrupted with an earlier driver, and is not continued yet."""
        return bool(self._left)

    def is_due(self, record: TrialRecord) -> bool:
        """Whether the trial, about to be stopped, should keep running."""
        return is_audited(self._spec.audit, self._spec.seed, record.number)

    def announce(self, record: TrialRecord) -> None:
        """The trial should be stopped, and keeps running."""
        self._ledger.attributes.store(f"{AUDIT}{record.id}:begin", {"seconds": 0.0})

    def start(self, trial_id: str) -> None:
        """The trial is stopped, and its worker continues."""
        self.running.add(trial_id)
        self._meter.start(trial_id)

    def take_up(self) -> TrialRecord:
        """The next of those that were interrupted, with what it has reported since its stop; it runs from now on."""
        record = self._ledger.trial(self._left.pop(0))
        self.start(record.id)
        return with_audit(self._ledger, record)

    def report(self, trial_id: str, report: Report) -> None:
        """Keep what a stopped trial reports."""
        self._ledger.attributes.store(f"{AUDIT}{trial_id}:{report_key(report.step)}", encode_report(report))

    def end(self, trial_id: str, *, complete: bool, again: bool = False) -> None:
        """The worker is done with the trial; if it kept running after its stop, so is its audit, or this part of it.

        Args:
            trial_id: the trial, audited or not.
            complete: whether it ran to its end.
            again: whether the next driver continues it.
        """
        if trial_id not in self.running:
            return
        before = _audits(self._ledger).get(f"{trial_id}:end", {}).get("seconds", 0.0)
        seconds = before + sum(self._meter.end(trial_id).values())
        ended = {"complete": complete, "seconds": seconds, "again": again}
        self._ledger.attributes.store(f"{AUDIT}{trial_id}:end", ended)
        self.running.discard(trial_id)

    def end_all(self, *, again: bool) -> None:
        """No worker continues; `again`: the next driver continues them."""
        for trial_id in sorted(self.running):
            self.end(trial_id, complete=False, again=again)


def cut_off(ledger: Ledger) -> list[str]:
    """The stopped trials whose audit has begun, and was interrupted with its driver."""
    audits = _audits(ledger)
    begun = [trial for trial in ledger.trials() if f"{trial.id}:begin" in audits and trial.state.is_finished]
    return [trial.id for trial in begun if audits.get(f"{trial.id}:end", {"again": True}).get("again")]


def with_audit(ledger: Ledger, trial: TrialRecord) -> TrialRecord:
    """The trial with what it has reported after it was stopped."""
    return replace(trial, reports=tuple(_reports(_audits(ledger), trial)))


def audit_of(ledger: Ledger, spec: SpecFile, winner: TrialRecord | None) -> Audit | None:
    """What the audit of a study found; None if no stopped trial kept running to its end."""
    audits = _audits(ledger)
    ended = [trial for trial in ledger.trials() if audits.get(f"{trial.id}:end", {}).get("complete")]
    false_kills = tuple(trial.id for trial in ended if _was_wrong(trial, _reports(audits, trial), spec, winner))
    if not ended:
        return None
    by_state = {
        state: tuple(trial.id for trial in ended if trial.state is state)
        for state in (TrialState.COLLAPSED, TrialState.PRUNED)
    }
    return Audit(by_state[TrialState.COLLAPSED], by_state[TrialState.PRUNED], false_kills)


def _audits(ledger: Ledger) -> dict[str, Any]:
    return ledger.attributes.starting_with(AUDIT)


def _reports(audits: Mapping[str, Any], trial: TrialRecord) -> list[Report]:
    """All reports of an audited trial, those before its stop first."""
    return [*trial.reports, *stored_reports(audits, f"{trial.id}:")]


def _was_wrong(trial: TrialRecord, reports: list[Report], spec: SpecFile, winner: TrialRecord | None) -> bool:
    if trial.state is TrialState.COLLAPSED:
        return check_guards(spec.guards, reports, offers_of(spec.trainer)) is None
    reported = last_with(reports, spec.objective.metric)
    value = reported.value(spec.objective.metric) if reported else None
    best = winner.value(spec.objective.metric) if winner is not None else None
    if value is None or best is None:
        return False
    return spec.objective.is_better(value, best)
