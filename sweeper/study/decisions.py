"""What is to be run of a trial, and what its latest evaluation means for it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from sweeper.entrypoint.offers import offers_of
from sweeper.errors import SpecError
from sweeper.ledger.trial import TrialRecord, TrialState
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
    return config


def recorded_config(spec: SweepSpec, record: TrialRecord) -> dict[str, Any]:
    """The config of a trial for the record: that of an infeasible one as the trainer's config refused it."""
    try:
        return config_of(spec, record)
    except SpecError:
        return unchecked_config(spec, record.params)


def decide(spec: SweepSpec, rungs: Rungs, record: TrialRecord) -> Decision | None:
    """The end or pause of a trial if a guard trips or its rank at a rung is too low; None: it runs on.

    A control that trains ends when the grace period is over; no guard and no rank has a say.
    """
    if record.control is not None:
        grace_epochs = control_epochs(spec.scheduler)
        if record.last is None or record.last.epoch < grace_epochs:
            return None
        return Decision(TrialState.COMPLETE, f"trained for the grace period of {grace_epochs:g} epochs")
    if tripped := check_guards(spec.guards, record.reports, offers_of(spec.trainer)):
        return Decision(TrialState.COLLAPSED, tripped.reason, tripped.evidence)
    rung = rungs.judge_latest(record)
    if rung is None or rung.keep:
        return None
    if spec.scheduler.mode == "stop":
        return Decision(TrialState.PRUNED, rung.reason, vars(rung))
    waits = f"waits at epoch {rung.rung_epoch:g}: rank {rung.rank} of {rung.of}"
    return Decision(TrialState.PAUSED, waits, vars(rung))


def decide_at_end(spec: SweepSpec, record: TrialRecord) -> Decision:
    """What a trial comes to whose trainer came to its end."""
    if record.last is None:
        return Decision(TrialState.FAILED, "the trainer ended without a report")
    values = objective_values(record, spec.objectives)
    if None in values:
        reason = f"the trainer never reported a finite {spec.objectives[values.index(None)].metric}"
        names = sorted({name for report in record.reports[-1:] for name in report.metrics})
        if (metric := spec.objectives[values.index(None)].metric) not in names:
            close = get_close_matches(metric, names, n=1)
            reason += f"; it reports {', '.join(names[:MOST_NAMES]) or 'no metrics'}"
            reason += f"; did you mean {close[0]}?" if close else ""
        return Decision(TrialState.FAILED, reason)
    epochs = record.last.epoch
    return Decision(TrialState.COMPLETE, f"ran all {epochs:g} epochs" if epochs else "evaluated without training")


def with_last_lines(reason: str, lines: Sequence[str]) -> str:
    """The reason of a failure with what the trial wrote last: in the log of a program that failed stands why."""
    said = " | ".join(plain(line, LONGEST_LINE) for line in lines)
    return f"{reason}; its last output: {said}" if said else reason
