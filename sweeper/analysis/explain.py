"""`sweeper explain`: who proposed a trial, its rank at each rung, why it ended, how its neighbours did."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sweeper.analysis.trial_lookup import look_up
from sweeper.entrypoint.offers import DEFAULT_OFFERS
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.noise.model import configuration_key
from sweeper.pruning.asha import RungResult, Runner, judge, rung_of, table_of
from sweeper.pruning.rungs import runner_of
from sweeper.search_space.conditions import fits, next_enqueued
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, ParamValue
from sweeper.spec.model import SpecFile
from sweeper.spec.objective import Objective

NEIGHBOURS: Final = 5
SHARE: Final = DEFAULT_OFFERS.gradient_share


@dataclass(frozen=True)
class Neighbour:
    """A trial of a similar configuration.

    Attributes:
        trial: its ID.
        distance: root mean square over the parameters, each on a scale from 0 to 1 over its range.
        state: how it stands.
        value: its objective at the last evaluation; None if it is not finite.
        differs: what is different: parameter -> its value there.
    """

    trial: str
    distance: float
    state: str
    value: float | None
    differs: Mapping[str, ParamValue | None]


@dataclass(frozen=True)
class Explanation:
    """One trial explained.

    Attributes:
        trial: its ID.
        objective: what it is judged by.
        state: its state.
        reason: why.
        evidence: the numbers behind the reason.
        value: its objective at the last evaluation; None where it is not finite.
        epoch: of that evaluation.
        proposed_by: who proposed it, as the end of a sentence.
        rungs: its rank at each rung when it got there.
        neighbours: the nearest other trials, the nearest first.
        gradient_shares: loss term -> its share of the gradient, at the first and at the last evaluation.
        sentence: all of it in plain words.
    """

    trial: str
    objective: Objective
    state: str
    reason: str
    evidence: Mapping[str, Any]
    value: float | None
    epoch: float
    proposed_by: str
    rungs: tuple[RungResult, ...]
    neighbours: tuple[Neighbour, ...]
    gradient_shares: Mapping[str, tuple[float, float]]
    sentence: str


def explain(home: Path, selector: str) -> Explanation:
    """Explain the trial of an ID, or the best one of a study.

    Raises:
        UserError: there is none.
    """
    [found] = look_up(home, selector)
    trial, spec = found.trial, found.spec
    others = [other for other in found.ledger.trials() if other.id != trial.id]
    is_candidate = trial.control is None
    rungs = rungs_of(spec, trial, others) if is_candidate else []
    neighbours = nearest(spec, trial, others) if is_candidate else []
    proposer = proposer_of(spec, trial, others, len(found.ledger.attributes.warm_start or []))
    shares = gradient_shares(trial)
    sentence = _sentence(trial, spec.objective, proposer, neighbours, shares)
    return Explanation(
        trial=trial.id,
        objective=spec.objective,
        state=trial.state.value,
        reason=trial.reason,
        evidence=dict(trial.evidence),
        value=trial.value(spec.objective.metric),
        epoch=trial.last.epoch if trial.last else 0.0,
        proposed_by=proposer,
        rungs=tuple(rungs),
        neighbours=tuple(neighbours),
        gradient_shares=shares,
        sentence=sentence,
    )


def describe(ledger: Ledger, spec: SpecFile, trial: TrialRecord) -> str:
    """The sentence of a trial without its nearest neighbour, which changes as the study grows: what MLflow keeps."""
    others = [other for other in ledger.trials() if other.id != trial.id]
    proposer = proposer_of(spec, trial, others, len(ledger.attributes.warm_start or []))
    return _sentence(trial, spec.objective, proposer, [], gradient_shares(trial))


def proposer_of(spec: SpecFile, trial: TrialRecord, others: Sequence[TrialRecord], warm: int) -> str:
    """Who proposed a trial, as the end of a sentence: the spec, the user, or the sampler with what it knew: how many
    `others` of the study and trials of the `warm` start."""
    if trial.control is not None:
        return "a control of the spec, a reference point that never wins"
    if trial.retry_of is not None:
        return f"tried again by `sweeper retry`, with the parameters of {trial.retry_of}, which had failed"
    if trial.repeat:
        first = next(other.id for other in others if configuration_key(other) == configuration_key(trial))
        return f"the configuration of {first} with a new seed, which could still be the best (`replicate: auto`)"
    if trial.enqueued:
        return "chosen by the user, with `sweeper enqueue`"
    if spec.variants:
        return "written in the spec as a variant"
    if spec.sampler.name == "grid":
        place = sum(other.retry_of is None and other.number < trial.number for other in others) + 1
        return f"point {place} of the spec's grid"
    earlier = [
        other.params
        for other in others
        if not (other.retry_of or other.enqueued or other.repeat) and other.number < trial.number
    ]
    entry = next_enqueued(spec.enqueue, earlier)
    if entry and fits(entry, trial.params):
        rest = [path for path in trial.params if path not in entry]
        return f"enqueued by the spec{', which left ' + ', '.join(rest) + ' to the sampler' if rest else ''}"
    after = f" and {warm} of {spec.warm_start.study}" if spec.warm_start and warm else ""
    known = _ended_before(trial, others)
    match spec.sampler.name:
        case "random" | "qmc" as name:
            return f"drawn by the sampler {name}, which does not learn from trials"
        case "tpe" | "gp" as name if known + warm < spec.sampler.startup_trials:
            return f"drawn at random: {name} learns from {spec.sampler.startup_trials} trials on, and {known} were done"
        case "nsga2" if trial.number < spec.sampler.population:
            return "drawn at random, in the first generation of nsga2"
        case name:
            return f"proposed by {name}, from {known} trials done by then{after}"


def _ended_before(trial: TrialRecord, others: Sequence[TrialRecord]) -> int:
    """How many trials had ended when this one was started."""
    if not trial.reports:
        return sum(other.number < trial.number and other.state.is_finished for other in others)
    started_ms = trial.reports[0].timestamp_ms - 1000 * trial.reports[0].seconds
    return sum(
        other.number < trial.number
        and other.state.is_finished
        and (not other.last or other.last.timestamp_ms <= started_ms)
        for other in others
    )


def rungs_of(spec: SpecFile, trial: TrialRecord, others: Sequence[TrialRecord]) -> list[RungResult]:
    """The rank of a trial at each rung at the moment it got there, among the healthy trials that were there before."""
    found: list[RungResult] = []
    for index, report in enumerate(trial.reports, start=1):
        runner, before = (_runner(spec, trial, trial.reports[:end]) for end in (index, index - 1))
        if rung_of(spec.scheduler, runner) == rung_of(spec.scheduler, before):
            continue
        rivals = [_runner(spec, other, _until(other, report.timestamp_ms)) for other in others]
        table = table_of(spec.scheduler, spec.objective.mode, rivals)
        result = judge(spec.scheduler, spec.objective.mode, runner, table)
        found += [result] if result else []
    return found


def _until(trial: TrialRecord, timestamp_ms: int) -> Sequence[Report]:
    """What was known of another trial at that moment; nothing of one that had collapsed by then, since it is not
    ranked."""
    known = [report for report in trial.reports if report.timestamp_ms <= timestamp_ms]
    return [] if trial.state is TrialState.COLLAPSED and len(known) == len(trial.reports) else known


def _runner(spec: SpecFile, trial: TrialRecord, reports: Sequence[Report]) -> Runner:
    total = trial.last.total_epochs if trial.last else None
    return runner_of(spec.objectives, replace(trial, reports=tuple(reports)), total)


def nearest(spec: SpecFile, trial: TrialRecord, others: Sequence[TrialRecord]) -> list[Neighbour]:
    """The trials of the most similar configurations, the nearest first."""
    space = spec.search_space
    found = []
    for other in others:
        gaps = [_gap(space[path], trial.params.get(path), other.params.get(path)) for path in space]
        distance = math.sqrt(sum(gap * gap for gap in gaps) / len(gaps))
        found.append((distance, other.number, other))
    return [
        Neighbour(
            other.id,
            distance,
            other.state.value,
            other.value(spec.objective.metric),
            {path: other.params.get(path) for path in space if other.params.get(path) != trial.params.get(path)},
        )
        for distance, _, other in sorted(found, key=lambda entry: entry[:2])[:NEIGHBOURS]
    ]


def _gap(dimension: AnyDimension, one: ParamValue | None, other: ParamValue | None) -> float:
    """How far apart two values are, on a scale from 0 to 1 over the dimension; 1 where they have no order."""
    if one == other:
        return 0.0
    values = one, other
    if isinstance(dimension, CategoricalDimension) or not all(type(value) in (int, float) for value in values):
        return 1.0
    scale = math.log if dimension.log else float
    places = [scale(float(value or 0)) for value in (*values, dimension.low, dimension.high)]
    return abs(places[0] - places[1]) / (places[3] - places[2])


def gradient_shares(trial: TrialRecord) -> dict[str, tuple[float, float]]:
    """Loss term -> its share of the gradient, at the first and the last evaluation that report it; the largest
    first."""
    curves: dict[str, list[float]] = {}
    for report in trial.reports:
        for name, value in report.metrics.items():
            if name.startswith(SHARE) and math.isfinite(value):
                curves.setdefault(name.removeprefix(SHARE), []).append(value)
    shares = {term: (values[0], values[-1]) for term, values in curves.items()}
    return dict(sorted(shares.items(), key=lambda entry: -entry[1][1]))


def _sentence(
    trial: TrialRecord,
    objective: Objective,
    proposer: str,
    neighbours: Sequence[Neighbour],
    shares: Mapping[str, tuple[float, float]],
) -> str:
    value = trial.value(objective.metric)
    reached = f" with {objective.format(value)}" if value is not None else ""
    match trial.state:
        case TrialState.COMPLETE:
            ended = f"ran to its end{reached}"
        case TrialState.PRUNED:
            ended = f"was stopped because others ranked higher ({trial.reason})"
        case TrialState.COLLAPSED:
            ended = f"was stopped by a guard ({trial.reason})"
        case TrialState.FAILED:
            ended = f"failed ({trial.reason})"
        case TrialState.INFEASIBLE:
            ended = f"was never trained: {trial.reason}"
        case TrialState.STOPPED:
            ended = f"was stopped{reached} ({trial.reason})"
        case TrialState.PAUSED:
            ended = f"waits{reached} ({trial.reason})"
        case _:
            ended = f"is running{reached}"
    parts = [f"{trial.id} was {proposer}; it {ended}"]
    best = next((each for each in neighbours if each.value is not None), None)
    if best is not None and best.value is not None:
        parts.append(f"its nearest neighbour {best.trial} reached {objective.format(best.value)} ({best.state})")
    if shares:
        term, (_, share) = next(iter(shares.items()))
        parts.append(f"the {term} term made up {share:.0%} of its gradient at the end")
    return "; ".join(parts) + "."
