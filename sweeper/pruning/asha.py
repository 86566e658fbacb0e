"""Rank-based stopping: asynchronous successive halving (ASHA) and Hyperband as pure functions over the history.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020: `stop` is its stopping variant, which
never waits, `promote` the original, which pauses a trial at a rung until it is among the best there. Hyperband (Li et
al., JMLR 2018) deals the trials to brackets with a longer and longer grace period, in case the early ranks mislead.

A trial's value at a rung is the best it has reached until then, not the one it happens to have there; with several
objectives, the best of each. Trials are ranked by these as `domination` orders them: with one objective by its value.

The history holds healthy trials only: a collapsed trial can have a good early error, and must not hold a place.
"""

import itertools
import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.pruning.domination import Point, order
from sweeper.spec.objective import Mode, loss_of
from sweeper.spec.sections import SchedulerConfig

Curve = Sequence[tuple[float, float]]
"""(epoch, objective) of each evaluation of a trial, in their order."""
Rung = tuple[int, float]
"""A bracket, and the epoch at which its trials are compared."""
RungTable = Mapping[Rung, Mapping[int, Point]]
"""The history as ranking needs it: for each rung, the healthy trials that have reached it, number -> losses there."""


@dataclass(frozen=True)
class Runner:
    """What ranking needs to know of a trial.

    Attributes:
        number: its number among the candidates, which decides its bracket.
        curve: its evaluations.
        total_epochs: length of a full run, infinite where the trainer does not tell.
        further: of each objective after the first, its evaluations as losses: less is better.
    """

    number: int
    curve: Curve
    total_epochs: float = math.inf
    further: Sequence[Curve] = ()


@dataclass(frozen=True)
class RungResult:
    """How a trial stands at a rung.

    `cutoff` is the worst value that is kept; `rank` counts from 1 among the `of` healthy trials seen at this rung. Of
    several objectives `value` and `cutoff` are those of the first, `further` the losses of the others, and `front`
    counts from 1; of one objective it is None.
    """

    rung_epoch: float
    value: float
    cutoff: float
    rank: int
    of: int
    keep: bool
    front: int | None = None
    further: Point = ()

    @property
    def evidence(self) -> dict[str, Any]:
        """What is recorded about it."""
        several = () if self.front else ("front", "further")
        return {key: value for key, value in vars(self).items() if key not in several}


def bracket_of(config: SchedulerConfig, number: int) -> int:
    """Which bracket a trial runs in: 0 ranks first after `grace_epochs`, bracket k after `eta` ** k times that.

    Hyperband gives every bracket about the same number of epochs, so the early-stopping ones get more trials. The
    trials of one round are dealt in turn, so that the brackets fill evenly.
    """
    if config.name != "hyperband":
        return 0
    count = config.brackets
    shares = [math.ceil(count / (count - k) * config.eta ** (count - 1 - k)) for k in range(count)]
    dealt = [k for turn in range(max(shares)) for k in range(count) if turn < shares[k]]
    return dealt[number % len(dealt)]


def rung_epochs(grace_epochs: float, eta: float, max_epochs: float) -> list[float]:
    """Epochs at which trials are compared: grace, grace * eta, ... below the length of a full run."""
    rungs = []
    epoch = grace_epochs
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= eta
    return rungs


def rung_of(config: SchedulerConfig, runner: Runner) -> float | None:
    """The last rung that the trial has reached, None before its first."""
    if config.name == "none" or not runner.curve:
        return None
    grace = config.grace_epochs * config.eta ** bracket_of(config, runner.number)
    reached = runner.curve[-1][0]
    below = min(runner.total_epochs, math.nextafter(reached, math.inf))
    return max(rung_epochs(grace, config.eta, below), default=None)


def judge_at_rung(
    rung_epoch: float, own: Point, points: Collection[Point], eta: float, mode: Mode, at_least: int = 1
) -> RungResult:
    """Keep the trial if it is among the best 1/eta of the healthy trials that reached this rung so far, itself
    included.

    Args:
        rung_epoch: the rung.
        own: the trial's losses at the rung.
        points: those of all healthy trials that reached the rung, its own among them.
        eta: reduction factor, > 1.
        mode: whether small or large is good in the first objective.
        at_least: how many are kept if there are fewer than eta of them.
    """
    places = max(at_least, int(len(points) / eta))
    cutoff, front = -math.inf, None
    if len(own) > 1:
        keys = order(points)
        ranked = sorted(points, key=keys.__getitem__)
        rank, front = ranked.index(own) + 1, int(keys[own][0])
        cutoff = ranked[places - 1][0] if places else cutoff
    else:  # not sorted: every report at a rung comes here, and thousands may have been there before
        firsts = np.fromiter(itertools.chain.from_iterable(points), float, len(points))
        rank = 1 + int((firsts < own[0]).sum())  # the first of equals, which all continue if one of them does
        cutoff = float(np.partition(firsts, places - 1)[places - 1]) if places else cutoff
    return RungResult(
        rung_epoch,
        loss_of(own[0], mode),
        loss_of(cutoff, mode),
        rank=rank,
        of=len(points),
        keep=rank <= places,
        front=front,
        further=own[1:],
    )


def values_at_rungs(config: SchedulerConfig, mode: Mode, runner: Runner) -> dict[Rung, Point]:
    """The losses of a trial at each rung it has reached, if each objective has had a finite value by then."""
    if config.name == "none" or not runner.curve:
        return {}
    bracket = bracket_of(config, runner.number)
    below = math.nextafter(runner.curve[-1][0], math.inf)
    found = {}
    for epoch in rung_epochs(config.grace_epochs * config.eta**bracket, config.eta, below):
        if (point := _point_at(runner, epoch, mode)) is not None:
            found[(bracket, epoch)] = point
    return found


def table_of(config: SchedulerConfig, mode: Mode, runners: Iterable[Runner]) -> RungTable:
    """The history of these trials."""
    table: dict[Rung, dict[int, Point]] = {}
    for runner in runners:
        for rung, point in values_at_rungs(config, mode, runner).items():
            table.setdefault(rung, {})[runner.number] = point
    return table


def standing(
    config: SchedulerConfig, mode: Mode, runner: Runner, table: RungTable, at_least: int = 1
) -> RungResult | None:
    """How a trial stands at the last rung it has reached, among the others of its bracket.

    None if it has reached none, or an objective has had no finite value by then. The trial itself may be in the
    table.
    """
    epoch = rung_of(config, runner)
    own = None if epoch is None else _point_at(runner, epoch, mode)
    if epoch is None or own is None:
        return None
    seen = table.get((bracket_of(config, runner.number), epoch), {})
    points = seen if seen.get(runner.number) == own else {**seen, runner.number: own}
    return judge_at_rung(epoch, own, points.values(), config.eta, mode, at_least)


def judge(config: SchedulerConfig, mode: Mode, runner: Runner, table: RungTable) -> RungResult | None:
    """How the trial stands, if its latest evaluation reached a rung; None: nothing to decide at this evaluation."""
    before = Runner(runner.number, runner.curve[:-1], runner.total_epochs)
    at_its_end = runner.curve[-1][0] >= runner.total_epochs
    if at_its_end or rung_of(config, runner) == rung_of(config, before):
        return None
    return standing(config, mode, runner, table, _at_least(config))


def next_promoted(
    config: SchedulerConfig, mode: Mode, waiting: RungTable, table: RungTable, *, idle: bool
) -> tuple[int, RungResult] | None:
    """The paused trial that continues, and its rank: of those that are in the best 1/eta of their rung by now, one at
    the highest rung, and of these the best.

    Args:
        config: the scheduler's.
        mode: whether small or large is good in the first objective.
        waiting: the paused trials, each at the rung where it waits.
        table: all healthy trials, including these.
        idle: nothing else is left to run: then the best of a rung continues, however few have reached it, unless one
            has continued from there.
    """
    found = []
    for (bracket, epoch), points in waiting.items():
        if not points:
            continue
        several = len(next(iter(points.values()))) > 1
        keys = order(table[bracket, epoch].values()) if several else {point: point for point in points.values()}
        _, number = min((keys[point], number) for number, point in points.items())  # the others rank lower
        at_least = 1 if idle else _at_least(config)
        result = judge_at_rung(epoch, points[number], table[bracket, epoch].values(), config.eta, mode, at_least)
        if result.keep:
            found.append((number, result))
    return min(found, key=lambda pair: (-pair[1].rung_epoch, loss_of(pair[1].value, mode), pair[0]), default=None)


def is_audited(share: float, seed: int, number: int) -> bool:
    """Whether a stopped trial is one of the random share that keep running, to find out what stopping does wrong."""
    return random.Random(f"audit/{seed}/{number}").random() < share


def _at_least(config: SchedulerConfig) -> int:
    """`stop` cannot be undone, so the first at a rung continues; `promote` lets it wait for rivals."""
    return 1 if config.mode == "stop" else 0


def value_at(curve: Curve, epoch: float, mode: Mode) -> float | None:
    """The best finite objective up to the first evaluation at or after a rung; None before it.

    Early in training one evaluation says little: a large learning rate makes the error jump by half from one to the
    next. See `tests/benchmarks/epochs_to_best.py` for what ranking by the latest value does.
    """
    values = []
    for at, value in curve:
        values += [value] if math.isfinite(value) else []
        if at >= epoch:
            return min(values, key=lambda value: loss_of(value, mode), default=None)
    return None


def _point_at(runner: Runner, epoch: float, mode: Mode) -> Point | None:
    """The losses of a trial at a rung, each the best until then; None before it or if an objective has none."""
    first = value_at(runner.curve, epoch, mode)
    found = [value_at(curve, epoch, "min") for curve in runner.further]
    losses = [None if first is None else loss_of(first, mode), *found]
    finite = tuple(loss for loss in losses if loss is not None)
    return finite if len(finite) == len(losses) else None
