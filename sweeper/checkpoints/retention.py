"""Which checkpoints of a trial are kept whole, by the spec's `retention`; pure.

Of every other checkpoint MLflow keeps the manifest: a rerun is compared with the checksums in it.
"""

import math

from sweeper.ledger.trial import Report, TrialRecord
from sweeper.pruning.asha import Runner, rung_of
from sweeper.spec.model import SpecFile


def kept_steps(spec: SpecFile, record: TrialRecord) -> set[int]:
    """The evaluations of a trial whose checkpoints are kept, as it stands now; empty if it has written none.

    `all`: every one. `last`: the newest. `best`: the one with the best objective, the first of equals; the newest
    if the objective was never finite. `rungs`: those at which the trial was ranked, and the newest.
    """
    written = [report for report in record.reports if report.checkpoint]
    if not written:
        return set()
    newest = written[-1].step
    match spec.retention:
        case "all":
            return {report.step for report in written}
        case "last":
            return {newest}
        case "rungs":
            return {newest} | ({report.step for report in written} & set(rung_steps(spec, record)))
        case "best":
            return {best_step(spec, record) or newest}


def best_step(spec: SpecFile, record: TrialRecord) -> int | None:
    """The evaluation with a checkpoint and the best finite objective, the first of equals; None without one."""
    values = [
        (spec.objective.loss(value), report.step)
        for report in record.reports
        if report.checkpoint and (value := report.value(spec.objective.metric)) is not None
    ]
    return min(values)[1] if values else None


def rung_steps(spec: SpecFile, record: TrialRecord) -> list[int]:
    """The evaluations at which the trial reached a rung. A control reaches none."""
    if record.control is not None:
        return []
    steps, before = [], None
    for report in record.reports:
        rung = _rung(spec, record.number, report)
        if rung != before:
            steps.append(report.step)
        before = rung
    return steps


def is_at_rung(spec: SpecFile, record: TrialRecord) -> bool:
    """Whether the trial reached a rung with its latest evaluation."""
    return bool(record.reports) and rung_at(spec, record) != rung_at(spec, record, len(record.reports) - 1)


def rung_at(spec: SpecFile, record: TrialRecord, count: int | None = None) -> float | None:
    """The last rung (epochs) that a candidate had reached after `count` evaluations, by default after all of them."""
    count = len(record.reports) if count is None else count
    return None if record.control is not None or not count else _rung(spec, record.number, record.reports[count - 1])


def _rung(spec: SpecFile, number: int, latest: Report) -> float | None:
    """The last rung that a candidate has reached with this evaluation."""
    total = math.inf if latest.total_epochs is None else latest.total_epochs
    return rung_of(spec.scheduler, Runner(number, [(latest.epoch, math.nan)], total))
