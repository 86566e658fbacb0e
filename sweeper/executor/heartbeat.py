"""Tells a worker that hangs from one that works: by its reports, and by its processor time.

A process that is stopped, deadlocked or waiting for ever uses almost none; one that trains does, on a GPU too. One on a
machine that does not answer shows no sign of life either.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LOOK_S: Final = 2.0
MOST_OF_ONE_LOOK: Final = 0.5
"""The most, as a share of `heartbeat_s`, that the time between two checks counts: a driver that is held up, for example
by a ledger that does not answer, must not take the workers that wait for it to be hanging."""
WORKING_SHARE: Final = 0.05
"""A worker that uses less than this share of a core is not working: Ray's own threads need about a tenth of it."""


@dataclass
class _Pulse:
    looked_s: float
    cpu_s: float
    quiet_s: float = 0.0


class Heartbeat:
    """Watches the workers of running trials; `heartbeat_s`: how long one may show no sign of life."""

    def __init__(self, heartbeat_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._heartbeat_s, self._clock = heartbeat_s, clock
        self._pulses: dict[str, _Pulse] = {}

    def beat(self, trial_id: str) -> None:
        """The trial reported, or no longer has a worker."""
        self._pulses.pop(trial_id, None)

    def is_lost(self, trial_id: str, cpu_s: float) -> bool:
        """Whether the trial's worker has shown no sign of life for too long. Called several times a second with the
        processor time it was last seen to have used."""
        now_s = self._clock()
        pulse = self._pulses.setdefault(trial_id, _Pulse(now_s, cpu_s))
        elapsed_s = now_s - pulse.looked_s
        if elapsed_s < LOOK_S:
            return False
        works = cpu_s - pulse.cpu_s > WORKING_SHARE * elapsed_s
        pulse.quiet_s = 0.0 if works else pulse.quiet_s + min(elapsed_s, MOST_OF_ONE_LOOK * self._heartbeat_s)
        pulse.looked_s, pulse.cpu_s = now_s, cpu_s
        return pulse.quiet_s >= self._heartbeat_s
