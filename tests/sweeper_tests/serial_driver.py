"""The command line with trials run one after the other in the driver's own process, instead of by Ray.

Everything that must survive a kill is real: ledger, meter, outbox, MLflow, locks, exit codes. A case takes seconds.
Run as `python serial_driver.py VERB ...`. What to do to the process is in the environment:

    KILL_WRITE=7:before   kill -9 right before (or `after`) the seventh write to the ledger
    MLFLOW_DOWN=1         nothing reaches MLflow
    LEDGER_RETRY_LIMIT_S=1   how long to wait for a database that is unreachable
    CLOCK_JUMP=7:-3600    from the seventh write to the ledger on, the clock is an hour earlier
"""

import os
import signal
import sys
import time
import types
from typing import Any

import sweeper.executor
from sweeper.entrypoint.call import start_training
from sweeper.entrypoint.error_text import described
from sweeper.executor.monitor import Machines, Workers
from sweeper.ledger.storage import retrying_storage
from sweeper.ledger.storage.journal import Journal
from sweeper.study.controller import StudyController
from sweeper.tracking.delivery.run_writer import RunWriter

_append = Journal.append_logs
_writes = 0


def append_logs(self: Journal, logs: list[dict[str, Any]]) -> None:
    """Like the ledger's own, plus the fault that the environment asks for."""
    global _writes
    _writes += 1
    number, _, moment = os.environ.get("KILL_WRITE", "0:").partition(":")
    if _writes == int(number) and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    start, _, jump_s = os.environ.get("CLOCK_JUMP", "0:").partition(":")
    if _writes == int(start):
        _set_clock(float(jump_s))
    _append(self, logs)
    if _writes == int(number) and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)


def _set_clock(jump_s: float) -> None:
    """Make the wall clock of this process jump."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + jump_s
    time.time_ns = lambda: now_ns() + int(jump_s * 1e9)


def execute(study: StudyController, machines: Machines, workers: Workers, expected: object = None) -> None:
    """Run trial after trial; signals as in the real driver."""

    def interrupt(number: int, _frame: object) -> None:
        if study.interrupted:
            raise KeyboardInterrupt
        study.request_stop(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    while upcoming := study.next_trial():
        trial_id = upcoming.record.id
        try:
            goes_on = True
            upcoming.workdir.mkdir(parents=True, exist_ok=True)  # as a trial's own process does
            for report in start_training(study.spec.trainer, upcoming.config, upcoming.workdir, upcoming.resume):
                study.tick()
                goes_on = study.on_report(trial_id, report)
                if not goes_on:
                    break
            if goes_on:
                study.on_end(trial_id)
        except (RuntimeError, FileNotFoundError, MemoryError) as error:  # what scripts raise
            study.on_error(trial_id, described(error))


def _refuse(_store: RunWriter) -> None:
    raise ConnectionRefusedError


def install() -> None:
    """Make the driver of this process the serial one."""
    Journal.append_logs = append_logs  # type: ignore[method-assign]
    if os.environ.get("MLFLOW_DOWN"):
        RunWriter.connect = _refuse  # type: ignore[method-assign]
    if "LEDGER_RETRY_LIMIT_S" in os.environ:
        retrying_storage.RETRY_LIMIT_S = float(os.environ["LEDGER_RETRY_LIMIT_S"])  # type: ignore[misc]
    driver = types.ModuleType("sweeper.executor.tune")
    driver.__dict__.update(execute=execute)
    sys.modules["sweeper.executor.tune"] = driver
    sweeper.executor.tune = driver  # type: ignore[attr-defined]


if __name__ == "__main__":
    install()
    from sweeper.cli.main import main

    sys.exit(main(sys.argv[1:]))
