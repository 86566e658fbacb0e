"""What to run for a trial, and what its latest evaluation means for it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from sweeper.entrypoint.offers import offers_of
from sweeper.errors import SpecError
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.pruning.asha import RungResult
from sweeper.pruning.guards import check_guards
from sweeper.pruning.rungs import Rungs
from sweeper.redaction import plain
from sweeper.spec.resolve import SweepSpec, control_config, resolve, unchecked_config
from sweeper.study.controls import control_epochs
from sweeper.study.pareto import objective_values

LONGEST_LINE: Final = 200
MOST_NAMES: Final = 12


@dataclass(frozen=True)
class Decision:
    """The state that a trial is to have, and why."""

    state: TrialState
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def config_of(spec: SweepSpec, record: TrialRecord) -> dict[str, Any]:
    """The resolved config of a candidate or control."""
    if record.control is not None:
        return control_config(spec, record.control)
    config = resolve(spec, record.params)
    if spec.replicate_seed == "per_trial":
        config["seed"] = config.get("seed", 0) + record.number
    elif record.repeat:
        config["seed"] = config.get("seed", 0) + record.repeat
    return config


def recorded_config(spec: SweepSpec, record: TrialRecord) -> dict[str, Any]:
    """The config of a trial for the record: for an infeasible one, the config that was refused."""
    try:
        return config_of(spec, record)
    except SpecError:
        return unchecked_config(spec, record.params)


def decide(spec: SweepSpec, rungs: Rungs, record: TrialRecord) -> Decision | None:
    """The end or pause of a trial if a guard trips or its rank at a rung is too low; None: it continues.

    A control that trains ends when the grace period is over; no guard and no rank applies.
    """
    if record.control is not None:
        grace_epochs = control_epochs(spec.scheduler)
        if record.last is None or record.last.epoch < grace_epochs:
            return None
        reason = f"trained for the grace period of {grace_epochs:g} epochs"
        return Decision(TrialState.COMPLETE, reason + _gaps(spec, record))
    if tripped := check_guards(spec.guards, record.reports, offers_of(spec.trainer)):
        return Decision(TrialState.COLLAPSED, tripped.reason, tripped.evidence)
    rung = None if record.repeat else rungs.judge_latest(record)  # a run that measures the seed runs to its end
    if rung is None or rung.keep:
        return None
    if spec.scheduler.mode == "stop":
        return Decision(TrialState.PRUNED, rank_reason(spec, record, rung), rung.evidence)
    waits = f"waits at epoch {rung.rung_epoch:g}: rank {rung.rank} of {rung.of}"
    return Decision(TrialState.PAUSED, waits, rung.evidence)


def rank_reason(spec: SweepSpec, record: TrialRecord, rung: RungResult) -> str:
    """Why a trial that ranks too low is stopped. It ranks by the best it has reached, and tables show what it reported
    last: if these differ, both are given."""
    number, last = spec.objective.number, record.value(spec.objective.metric)
    if rung.front is not None:
        losses = (spec.objective.loss(rung.value), *rung.further)
        best = zip(spec.objectives, losses, strict=True)
        said = ", ".join(f"{one.metric} {one.number(one.loss(loss))}" for one, loss in best)
        rank = f"rank {rung.rank} of {rung.of} at epoch {rung.rung_epoch:g} by all objectives, in front {rung.front}"
        return f"{rank}: at best {said}"
    value, cutoff = apart(rung.value, rung.cutoff, number)
    reason = f"rank {rung.rank} of {rung.of} at epoch {rung.rung_epoch:g}: {value} is worse than the cutoff {cutoff}"
    if last is None or number(last) == number(rung.value):
        return reason
    return f"{reason}; ranked by its best so far, not the last value {number(last)}"


def apart(one: float, other: float, number: Callable[[float], str]) -> tuple[str, str]:
    """Two values as a table shows them, or with as many more digits as distinguish them."""
    if number(one) != number(other) or one == other:
        return number(one), number(other)
    return next(
        (texts for digits in range(5, 17) if len(set(texts := (f"{one:.{digits}g}", f"{other:.{digits}g}"))) == 2),
        (repr(one), repr(other)),
    )


def decide_at_end(spec: SweepSpec, record: TrialRecord) -> Decision:
    """The state of a trial whose trainer has ended."""
    if record.last is None:
        return Decision(TrialState.FAILED, "the trainer ended without a report")
    values = objective_values(record, spec.objectives)
    if None in values:
        return Decision(TrialState.FAILED, _without_value(record, spec.objectives[values.index(None)].metric))
    epochs = record.last.epoch
    reason = f"ran all {epochs:g} epochs" if epochs else "evaluated without training"
    return Decision(TrialState.COMPLETE, reason + _gaps(spec, record))


def _without_value(record: TrialRecord, metric: str) -> str:
    """Why a trial that ran to its end has no value to be judged by."""
    before = [report for report in record.reports if report.value(metric) is not None]
    if before and (latest := record.reported(metric)):
        was, when = before[-1].value(metric), before[-1].epoch
        return f"{metric} was {latest.metrics[metric]} at epoch {latest.epoch:g}; before, at epoch {when:g}, {was:.6g}"
    reason, names = f"the trainer never reported a finite {metric}", sorted(record.metrics)
    if metric in names:
        return reason
    close = get_close_matches(metric, names, n=1)
    reason += f"; it reports {', '.join(names[:MOST_NAMES]) or 'no metrics'}"
    return reason + (f"; did you mean {close[0]}?" if close else "")


def _gaps(spec: SweepSpec, record: TrialRecord) -> str:
    """The objectives that the last evaluation did not report, and which one is used; empty without any."""
    text = ""
    for objective in spec.objectives:
        reported = record.reported(objective.metric)
        if reported and reported is not record.last:
            text += f"; {objective.metric} is from epoch {reported.epoch:g}, where it was last reported"
    return text


def with_last_lines(reason: str, lines: Sequence[str]) -> str:
    """The reason for a failure with what the trial wrote last: the log of a program that failed says why."""
    said = " | ".join(plain(line, LONGEST_LINE) for line in lines)
    return f"{reason}; its last output: {said}" if said else reason
