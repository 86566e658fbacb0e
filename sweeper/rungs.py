"""A study's rungs: the trials of its ledger as the pure decisions of `scheduling` see them."""

import math
from collections.abc import Mapping

from sweeper.ledger import Ledger
from sweeper.scheduling import RungResult, Runner, judge, next_promoted, standing
from sweeper.spec import SweepSpec
from sweeper.trial import TrialRecord, TrialState

TotalEpochs = Mapping[str, float | None]
"""Trial -> length of a full run, None where the trainer does not tell."""


def judge_latest(spec: SweepSpec, ledger: Ledger, record: TrialRecord, total_epochs: TotalEpochs) -> RungResult | None:
    """How the trial stands, if its latest report reached a rung."""
    runner = _runner(spec, record, total_epochs)
    return judge(spec.scheduler, spec.objective.mode, runner, _rivals(spec, ledger, record, total_epochs))


def paused(ledger: Ledger) -> list[TrialRecord]:
    """The trials that wait at a rung."""
    return [record for record in ledger.trials() if record.state is TrialState.PAUSED]


def to_promote(spec: SweepSpec, ledger: Ledger, total_epochs: TotalEpochs, *, idle: bool) -> TrialRecord | None:
    """The waiting trial that goes on; see `next_promoted`."""
    waiting = {record.number: record for record in paused(ledger)}
    everyone = {record.number: _runner(spec, record, total_epochs) for record in _healthy(ledger)}
    runners = [everyone[number] for number in waiting]
    others = [runner for number, runner in everyone.items() if number not in waiting]
    promoted = next_promoted(spec.scheduler, spec.objective.mode, runners, others, idle=idle)
    return None if promoted is None else waiting[promoted[0]]


def last_standing(spec: SweepSpec, ledger: Ledger, record: TrialRecord, total_epochs: TotalEpochs) -> RungResult:
    """How a trial that waits at a rung stands there."""
    rivals = _rivals(spec, ledger, record, total_epochs)
    result = standing(spec.scheduler, spec.objective.mode, _runner(spec, record, total_epochs), rivals)
    assert result is not None, f"{record.id} waits at no rung"
    return result


def _rivals(spec: SweepSpec, ledger: Ledger, record: TrialRecord, total_epochs: TotalEpochs) -> list[Runner]:
    return [_runner(spec, other, total_epochs) for other in _healthy(ledger) if other.id != record.id]


def _healthy(ledger: Ledger) -> list[TrialRecord]:
    return [record for record in ledger.trials() if record.state is not TrialState.COLLAPSED]


def _runner(spec: SweepSpec, record: TrialRecord, total_epochs: TotalEpochs) -> Runner:
    metric, total = spec.objective.metric, total_epochs.get(record.id)
    curve = [(report.epoch, report.metrics.get(metric, math.nan)) for report in record.reports]
    return Runner(record.number, curve, math.inf if total is None else total)
