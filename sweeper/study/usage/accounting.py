"""Measures what a study uses: how long each trial holds a worker, and how long drivers run.

What a report covers is stored with the report, and the rest of an attempt when it ends. So that a kill loses at most
about a second, `tick` keeps the seconds that are not in the ledger yet in a small file, which the next driver records.
Time is taken from the monotonic clock; the wall clock may jump.
"""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, NonNegativeFloat

from sweeper.files import write_atomic
from sweeper.ledger.attributes import AUDIT, RUN_SECONDS
from sweeper.ledger.ledger import Ledger
from sweeper.spec.sections import Budget, Resources
from sweeper.study.usage.budget import Spent, spent

TICK_S: Final = 1.0
OPEN_FILE: Final = "meter.json"


@dataclass
class _Attempt:
    """One trial in one worker, or on its way there (`lap_s` is None). `lost_s`: seconds of evaluations that the ledger
    had already."""

    id: str
    lap_s: float | None
    lost_s: float = 0.0

    def open_s(self, now_s: float) -> float:
        """Seconds since the last lap."""
        return 0.0 if self.lap_s is None else now_s - self.lap_s


class _Open(BaseModel, allow_inf_nan=False):
    """An attempt as the file keeps it."""

    attempt: str
    lost_s: NonNegativeFloat
    open_s: NonNegativeFloat
    reports: int


class _Left(BaseModel, allow_inf_nan=False):
    """The file."""

    run: str
    seconds: NonNegativeFloat
    trials: dict[str, _Open]


class UsageMeter:
    """The meter of one driver's run; created when the run starts, closed when it ends."""

    def __init__(
        self, ledger: Ledger, budget: Budget, resources: Resources, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger, self._budget, self._resources, self._clock = ledger, budget, resources, clock
        self._path = ledger.study_dir / OPEN_FILE
        self._attempts: dict[str, _Attempt] = {}
        self._run = str(time.time_ns() // 1_000_000)
        self._started_s = self._ticked_s = clock()
        self._book_what_a_killed_driver_left()
        self._earlier_wall_s = sum(run_seconds(ledger).values())
        self._booked_s = _trial_seconds(ledger)

    def start(self, trial_id: str) -> None:
        """A worker gets the trial."""
        attempt = f"{self._run}-{sum(key.startswith(self._run) for key in self._charges(trial_id))}"
        self._attempts[trial_id] = _Attempt(attempt, self._clock())

    def wait_for_worker(self, trial_id: str) -> None:
        """The trial has just been started and has no worker yet; on a cluster that others use that may take hours."""
        self._attempts[trial_id].lap_s = None

    def worker_found(self, trial_id: str) -> None:
        """A worker has started the trial."""
        attempt = self._attempts.get(trial_id)
        if attempt and attempt.lap_s is None:
            attempt.lap_s = self._clock()

    def lap(self, trial_id: str) -> float:
        """Seconds since the trial's start or last lap."""
        attempt, now_s = self._attempts[trial_id], self._clock()
        seconds, attempt.lap_s = attempt.open_s(now_s), now_s
        self._booked_s += seconds
        return seconds

    def redone(self, trial_id: str, seconds: float) -> None:
        """These seconds of a lap went into an evaluation that the ledger already has."""
        self._attempts[trial_id].lost_s += seconds

    def end(self, trial_id: str) -> dict[str, float]:
        """The worker is done with the trial: what remains to be stored, attempt -> seconds."""
        if trial_id not in self._attempts:
            return {}
        self.redone(trial_id, self.lap(trial_id))
        attempt = self._attempts.pop(trial_id)
        return {attempt.id: attempt.lost_s}

    def open_s(self, trial_id: str) -> float:
        """Seconds of the trial's running attempt that the ledger does not have yet."""
        attempt = self._attempts.get(trial_id)
        return attempt.lost_s + attempt.open_s(self._clock()) if attempt else 0.0

    def spent(self) -> Spent:
        """What the study has used up to now, running trials included."""
        now_s = self._clock()
        trial_s = self._booked_s + sum(attempt.open_s(now_s) for attempt in self._attempts.values())
        wall_clock_s = self._earlier_wall_s + now_s - self._started_s
        return spent(self._budget, self._resources, self._ledger.count, trial_s, wall_clock_s)

    def tick(self) -> None:
        """Called often; keeps what is not in the ledger yet, about once a second."""
        now_s = self._clock()
        if now_s - self._ticked_s < TICK_S:
            return
        self._ticked_s = now_s
        trials = {
            trial_id: {
                "attempt": attempt.id,
                "lost_s": attempt.lost_s,
                "open_s": attempt.open_s(now_s),
                "reports": len(self._ledger.trial(trial_id).reports),
            }
            for trial_id, attempt in self._attempts.items()
        }
        with contextlib.suppress(OSError):  # a full disk: the ledger will report it, and this second is lost
            kept = {"run": self._run, "seconds": now_s - self._started_s, "trials": trials}
            write_atomic(self._path, json.dumps(kept))

    def close(self) -> None:
        """The driver's run ends; every attempt has ended before."""
        self._ledger.attributes.store(RUN_SECONDS + self._run, self._clock() - self._started_s)
        self._path.unlink(missing_ok=True)

    def _charges(self, trial_id: str) -> dict[str, float]:
        return dict(self._ledger.trial(trial_id).charges)

    def _book_what_a_killed_driver_left(self) -> None:
        left = _read_left(self._path)
        if left is None:
            return
        for trial_id, entry in left.trials.items():
            with contextlib.suppress(KeyError):
                record = self._ledger.trial(trial_id)
                if record.state.is_finished:
                    continue  # its end was stored with the rest of its attempt
                # A report stored after the last tick covers the seconds that were open then.
                open_s = entry.open_s if len(record.reports) == entry.reports else 0.0
                self._ledger.charge(record.id, entry.attempt, entry.lost_s + open_s)
        self._ledger.attributes.store(RUN_SECONDS + left.run, left.seconds)
        self._path.unlink()


def used_now(ledger: Ledger, budget: Budget, resources: Resources) -> Spent:
    """What the study has used up to a second ago: what its ledger says, and what its driver keeps beside it."""
    trial_s, wall_clock_s = _trial_seconds(ledger), sum(run_seconds(ledger).values())
    if (left := _read_left(ledger.study_dir / OPEN_FILE)) is not None:
        wall_clock_s += left.seconds
        reports = {trial.id: len(trial.reports) for trial in ledger.all_trials()}
        trial_s += sum(
            entry.lost_s + (entry.open_s if reports.get(trial_id) == entry.reports else 0.0)
            for trial_id, entry in left.trials.items()
        )
    return spent(budget, resources, ledger.count, trial_s, wall_clock_s)


def run_seconds(ledger: Ledger) -> dict[str, float]:
    """Seconds of each driver's run that has ended: when it started -> how long it was."""
    return ledger.attributes.starting_with(RUN_SECONDS)


def audit_seconds(ledger: Ledger) -> float:
    """Seconds for which stopped trials have held a worker to be audited: they cost as much as others."""
    return sum(float(value["seconds"]) for value in ledger.attributes.starting_with(AUDIT).values())


def _read_left(path: Path) -> _Left | None:
    try:
        return _Left.model_validate_json(path.read_bytes())
    except (OSError, ValueError):  # there is none, or it is damaged: its content is lost
        return None


def _trial_seconds(ledger: Ledger) -> float:
    return sum(trial.seconds for trial in ledger.all_trials()) + audit_seconds(ledger)
