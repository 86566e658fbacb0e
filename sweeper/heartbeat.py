"""Tells a worker that hangs from one that works: by its reports, and by the time it gets from the processor.

A process that is stopped, deadlocked or waiting for ever uses next to none; one that trains does, on a GPU too.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PID_FILE: Final = "worker.pid"
LOOK_S: Final = 1.0
MOST_OF_ONE_LOOK: Final = 0.5
"""The share of `heartbeat_s` that the time between two looks counts at most: a driver that is held up, by a ledger that
does not answer say, must not take for quiet the workers that wait for it."""
WORKING_SHARE: Final = 0.05
"""A worker that uses less than this share of a core does not work: Ray's own threads need about a tenth of it."""


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
        """The trial reported, or has no worker any more."""
        self._pulses.pop(trial_id, None)

    def is_lost(self, trial_id: str, workdir: Path) -> bool:
        """Whether the trial's worker has shown no sign of life for too long. Called several times a second."""
        now_s = self._clock()
        pulse = self._pulses.get(trial_id)
        if pulse is None:
            self._pulses[trial_id] = _Pulse(now_s, cpu_seconds(worker_pid(workdir)))
            return False
        elapsed_s = now_s - pulse.looked_s
        if elapsed_s < LOOK_S:
            return False
        cpu_s = cpu_seconds(worker_pid(workdir))
        works = cpu_s - pulse.cpu_s > WORKING_SHARE * elapsed_s
        pulse.quiet_s = 0.0 if works else pulse.quiet_s + min(elapsed_s, MOST_OF_ONE_LOOK * self._heartbeat_s)
        pulse.looked_s, pulse.cpu_s = now_s, cpu_s
        return pulse.quiet_s >= self._heartbeat_s


def write_pid(workdir: Path) -> None:
    """Leave this process's ID in the trial's folder."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / PID_FILE).write_text(str(os.getpid()))


def worker_pid(workdir: Path) -> int | None:
    """The process that runs the trial, or None if it has not started or is gone."""
    try:
        pid = int((workdir / PID_FILE).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if command.startswith(b"ray::") else None  # not another process that got the number since


def kill_worker(workdir: Path) -> None:
    """End the trial's process at once, even one that is stopped."""
    if pid := worker_pid(workdir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def cpu_seconds(pid: int | None) -> float:
    """Processor time a process has used so far, 0 if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
