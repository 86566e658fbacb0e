"""A study's rungs: the trials of its ledger as the pure decisions of `scheduling` see them, kept up to date report by
report, so that a study of ten thousand trials need not reread its history for each one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.pruning.asha import Rung, RungResult, Runner, judge, next_promoted, rung_of, standing, values_at_rungs
from sweeper.pruning.domination import Point
from sweeper.spec.objective import Objective
from sweeper.spec.resolve import SweepSpec

TotalEpochs = Mapping[str, float | None]
"""Trial -> length of a full run, None if the trainer does not say."""


class Rungs:
    """The losses of all healthy candidates at the rungs; `update` reports every change to it."""

    def __init__(self, spec: SweepSpec, total_epochs: TotalEpochs) -> None:
        self._config, self._objectives, self._total_epochs = spec.scheduler, spec.objectives, total_epochs
        self._mode = spec.objective.mode  # of the first one
        self._table: dict[Rung, dict[int, Point]] = {}
        self._waiting: dict[Rung, dict[int, Point]] = {}
        self._paused: dict[int, TrialRecord] = {}
        self._reached: dict[int, float | None] = {}  # the last rung whose value is in the table

    def update(self, record: TrialRecord) -> None:
        """The candidate has reported, or its state has changed. A collapsed one holds no place, nor does one that runs
        an earlier configuration again: only the best are run again."""
        if record.repeat:
            return
        number = record.number
        reached = rung_of(self._config, self._runner(record, latest=1, total=math.inf))
        if reached != self._reached.get(number):  # a trial's value at a rung does not change afterwards
            self._reached[number] = reached
            for rung, point in values_at_rungs(self._config, self._mode, self._runner(record)).items():
                self._table.setdefault(rung, {})[number] = point
        if record.state is TrialState.COLLAPSED:
            for places in self._table.values():
                places.pop(number, None)
        if record.state is TrialState.PAUSED:
            self._paused[number] = record
            last = rung_of(self._config, self._runner(record, latest=1))
            for rung, places in self._table.items():
                if rung[1] == last and number in places:
                    self._waiting.setdefault(rung, {})[number] = places[number]
        elif self._paused.pop(number, None):
            for waiting in self._waiting.values():
                waiting.pop(number, None)

    @property
    def paused(self) -> list[TrialRecord]:
        """The trials that wait at a rung."""
        return list(self._paused.values())

    def judge_latest(self, record: TrialRecord) -> RungResult | None:
        """How the trial stands, if its latest report reached a rung."""
        now, before = (
            rung_of(self._config, self._runner(earlier, latest=1))
            for earlier in (record, replace(record, reports=record.reports[-2:-1]))
        )
        if now == before:  # most reports: looking through all earlier ones for each would cost more and more
            return None
        return judge(self._config, self._mode, self._runner(record), self._table)

    def to_promote(self, *, idle: bool) -> TrialRecord | None:
        """The waiting trial that continues; see `next_promoted`."""
        promoted = next_promoted(self._config, self._mode, self._waiting, self._table, idle=idle)
        return None if promoted is None else self._paused[promoted[0]]

    def last_standing(self, record: TrialRecord) -> RungResult:
        """The rank of a trial that waits at a rung."""
        result = standing(self._config, self._mode, self._runner(record), self._table)
        assert result is not None, f"{record.id} is not waiting at a rung"
        return result

    def _runner(self, record: TrialRecord, latest: int = 0, total: float | None = None) -> Runner:
        """`latest`: only this many evaluations, enough to know the rung; 0: all of them."""
        total = self._total_epochs.get(record.id) if total is None else total
        return runner_of(self._objectives, record, total, latest)


def runner_of(
    objectives: Sequence[Objective], record: TrialRecord, total_epochs: float | None, latest: int = 0
) -> Runner:
    """What ranking needs to know of a trial: of its `latest` evaluations, or 0 for all."""
    first, *others = objectives
    further = [[(epoch, one.loss(at)) for epoch, at in record.curve(one.metric, latest)] for one in others]
    total_epochs = math.inf if total_epochs is None else total_epochs
    return Runner(record.number, record.curve(first.metric, latest), total_epochs, further)
