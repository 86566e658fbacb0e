"""Which checkpoints of a trial are kept whole, by the spec's `retention`; pure.

Of every other checkpoint MLflow keeps the manifest: a rerun is compared with the sums in it.
"""

import math

from sweeper.ledger.trial import TrialRecord
from sweeper.pruning.asha import Runner, rung_of
from sweeper.spec.model import SpecFile


def kept_steps(spec: SpecFile, record: TrialRecord) -> set[int]:
    """The evaluations of a trial whose checkpoints are kept, as it stands now; empty if it has written none.

    `all`: every one. `last`: the newest. `best`: the one with the best objective, the first of equals; the newest
    where the objective was never finite. `rungs`: those at which the trial was ranked, and the newest.
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
    metric, sign = spec.objective.metric, 1 if spec.objective.mode == "min" else -1
    values = [
        (sign * value, report.step)
        for report in record.reports
        if report.checkpoint and math.isfinite(value := report.metrics.get(metric, math.nan))
    ]
    return min(values)[1] if values else None


def rung_steps(spec: SpecFile, record: TrialRecord) -> list[int]:
    """The evaluations at which the trial reached a rung. A control reaches none."""
    if record.control is not None:
        return []
    reached = [rung_at(spec, record, count) for count in range(len(record.reports) + 1)]
    return [record.reports[index].step for index in range(len(record.reports)) if reached[index + 1] != reached[index]]


def rung_at(spec: SpecFile, record: TrialRecord, count: int | None = None) -> float | None:
    """The last rung (epochs) that a candidate had reached after `count` evaluations, by default after all of them."""
    reports = record.reports[:count]
    if record.control is not None or not reports:
        return None
    total = next((report.total_epochs for report in reversed(reports) if report.total_epochs), None)
    curve = [(report.epoch, report.metrics.get(spec.objective.metric, math.nan)) for report in reports]
    return rung_of(spec.scheduler, Runner(record.number, curve, math.inf if total is None else total))
