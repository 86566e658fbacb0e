"""When a study ends early: its budget is used up, its target is reached, nothing improves any longer, or its first
trials all fail in the same way."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.sections import StopWhen
from sweeper.study.callback import StudyCallback
from sweeper.study.pareto import objective_values
from sweeper.study.usage.accounting import UsageMeter
from sweeper.study.usage.budget import used_up

AGREEING: Final = 3
"""Trials that must lack the objective, each over two evaluations, before the study is stopped for it; fewer where one
of the reported names is close to it."""
MOST_NAMES: Final = 12
ADDRESS: Final = re.compile(r"0x[0-9a-f]+")


class ReachedLimits:
    """Says what must end because the spec allows no more: the study, or trials that hold their workers for too long.

    Args:
        spec: of the study.
        ledger: of the study.
        meter: what its trials have used.
    """

    def __init__(self, spec: SweepSpec, ledger: Ledger, meter: UsageMeter) -> None:
        self._spec, self._ledger, self._meter = spec, ledger, meter
        self._looked_at = -1  # trials that had ended when `_enough` was found
        self._enough: str | None = None

    def of_study(self) -> str | None:
        """Why no further trial may run: the budget is used up, or `stop_when` holds; None: continue."""
        return used_up(self._spec.budget, self._meter.spent()) or self._reached()

    def overlong(self, trial_ids: Iterable[str]) -> list[str]:
        """Those of the running trials that have held their workers for longer than `resources.trial_wall_clock_s`."""
        limit_s = self._spec.resources.trial_wall_clock_s
        if limit_s is None:
            return []
        held_s = {each: self._ledger.trial(each).seconds + self._meter.open_s(each) for each in sorted(trial_ids)}
        return [trial_id for trial_id, seconds in held_s.items() if seconds > limit_s]

    def _reached(self) -> str | None:
        """The reason to stop by `stop_when`; looked for again when a trial has ended."""
        if self._spec.stop_when == StopWhen():  # counting trials at each tick takes long if there are thousands
            return None
        ended = sum(trial.state.is_finished for trial in self._ledger.trials())
        if ended != self._looked_at:
            self._looked_at, self._enough = ended, reached(self._spec, self._ledger.trials())
        return self._enough


class FaultLimits(StudyCallback):
    """Detects that the first trials of a run all fail in the same way.

    It considers only this run of the driver: what failed before may have been fixed since.

    Attributes:
        reason: why the study is to be stopped, or None.
    """

    def __init__(self, spec: SweepSpec, notice: Callable[[str], None]) -> None:
        self._spec, self._notice = spec, notice
        self._failures: Counter[str] = Counter()
        self._lacking: dict[str, int] = {}  # trial -> its evaluations without the objective
        self._seen = self._is_told = False
        self.reason: str | None = None

    def trial_reported(self, record: TrialRecord) -> None:
        """Whether the trainer reports what trials are judged by."""
        missing = missing_objective(self._spec, record)
        if missing is None or self._seen:
            self._seen = True
            return
        self._lacking[record.id] = len(record.reports)
        if not self._is_told:
            self._is_told = True
            self._notice(f"{record.id}: {missing}")
        self._agree(missing)

    def trial_finished(self, record: TrialRecord) -> None:
        """Whether it failed like others before it, without any report."""
        limit = self._spec.max_failures
        if record.id in self._lacking and not self._seen:
            self._lacking[record.id] = AGREEING
            self._agree(missing_objective(self._spec, record) or "")
        if record.state is not TrialState.FAILED or record.reports or limit is None:
            return
        alike = _alike(record)
        self._failures[alike] += 1
        if self._failures[alike] >= limit:
            self.reason = f"{limit} trials failed before their first report, all with: {record.reason}"

    def _agree(self, missing: str) -> None:
        is_close = "did you mean" in missing
        needed = min(2 if is_close else AGREEING, self._spec.trials + len(self._spec.control_names))
        if sum(count >= (1 if is_close else 2) for count in self._lacking.values()) >= needed:
            self.reason = missing


def _alike(record: TrialRecord) -> str:
    """The reason of a trial's end without what differs in every trial: its folder, and addresses of objects."""
    reason = record.reason.replace(f"trials/{record.folder}", "trials/*").replace(record.id, "*")
    return ADDRESS.sub("0x*", reason)


def missing_objective(spec: SweepSpec, record: TrialRecord) -> str | None:
    """What to say if none of a trial's evaluations has an objective; None if all objectives were reported."""
    for objective in spec.objectives:
        if not any(objective.metric in report.metrics for report in record.reports[:AGREEING]):
            names = list(record.reports[-1].metrics) if record.reports else []
            if objective.metric in names:
                continue
            close = get_close_matches(objective.metric, names, n=1)
            shown = ", ".join(names[:MOST_NAMES]) + (" and more" if len(names) > MOST_NAMES else "")
            text = f"the trainer does not report the objective {objective.metric}; it reports {shown or 'no metrics'}"
            return f"{text}; did you mean {close[0]}?" if close else text
    return None


def reached(spec: SweepSpec, trials: Sequence[TrialRecord]) -> str | None:
    """The reason to stop by the spec's `stop_when`, from the candidates that have ended; None: continue."""
    limits = spec.stop_when
    if limits.target is None and limits.no_improvement_trials is None:
        return None
    sign = 1 if spec.objective.mode == "min" else -1
    best, since = float("inf"), 0
    ended = (trial for trial in trials if trial.state.is_finished and not trial.repeat)  # another seed finds nothing
    for record in sorted(ended, key=_ended_ms):
        value = objective_values(record, spec.objectives)[0]
        since += 1
        if record.state is TrialState.COMPLETE and value is not None and sign * value < best:
            best, since = sign * value, 0
    if limits.target is not None and best <= sign * limits.target:
        return f"stop_when: {spec.objective.metric} {sign * best:.6g} has reached the target {limits.target:g}"
    if limits.no_improvement_trials is not None and since >= limits.no_improvement_trials and best < float("inf"):
        return f"stop_when: none of the last {since} trials was better than {spec.objective.metric} {sign * best:.6g}"
    return None


def _ended_ms(record: TrialRecord) -> tuple[int, int]:
    return (record.last.timestamp_ms if record.last else 0, record.number)
