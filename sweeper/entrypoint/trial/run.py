"""The trial's side of `process`: trains, and answers."""

import atexit
import contextlib
import faulthandler
import gc
import os
import random
import signal
import sys
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from sweeper.entrypoint.call import start_training
from sweeper.entrypoint.error_text import FunctionFailed, described, traced
from sweeper.entrypoint.program.script import ScriptFailed
from sweeper.entrypoint.trial.messages import Answer, Ended, Idle, Raised, Reported, TrialOrder, order_from_json
from sweeper.entrypoint.trial.mlflow_run import hand_over_run
from sweeper.entrypoint.trial.process import prepare_process, say
from sweeper.redaction import redact

EXIT_S: Final = 5
"""Seconds for what the trainer has registered to run at exit."""


def alone(trainer: str, orders: int, output: int, answers: int) -> None:
    """One trial in an interpreter of its own."""
    prepare_process(output)
    run_trials(trainer, orders, answers, reuse=False)
    os._exit(0)


def run_trials(trainer: str, orders: int, answers: int, *, reuse: bool) -> None:
    """Run the trial that the worker names; with `reuse` the following ones too, unless one of them fails."""
    faulthandler.enable()  # a native crash leaves its Python lines in the log
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with os.fdopen(orders, "rb") as lines:
        for line in lines:
            with _process_as_found():
                failed = _run(trainer, order_from_json(line), lines, answers)
            if failed or not reuse:
                break
            gc.collect()
            _tell(answers, Idle())
    _tidy_up()


def _run(trainer: str, order: TrialOrder, lines: BinaryIO, answers: int) -> bool:
    """Train as ordered, report by report; returns whether it failed."""
    reports: Iterator[Any] | None = None
    failed, own = False, os.getpid()
    try:
        _set_up(order)
        hand_over_run(trainer, _path(order.run_file))
        while lines.readline().strip() == b'"next"':
            if reports is None:
                reports = start_training(trainer, order.config, Path(order.workdir), _path(order.resume))
            report = _next_of(reports)
            if os.getpid() != own:  # the trainer forked, and the child returned to us
                os._exit(0)
            if report is None:
                _tell(answers, Ended())
                lines.readline()
                break
            checkpoint = None if report.checkpoint is None else str(report.checkpoint)
            _tell(answers, Reported(report.step, report.epoch, report.metrics, checkpoint, report.total_epochs))
    except BaseException as error:  # whatever a trainer raises is a result of its trial: KeyboardInterrupt too
        failed = True
        of_program = isinstance(error, ScriptFailed)  # then the log says why, and not our traceback
        if not of_program and not isinstance(error, FunctionFailed):
            with contextlib.suppress(Exception):
                traceback.print_exception(error)
        # Redacted here, in the environment whose secrets it may contain: the driver's may be different.
        _tell(answers, Raised(redact(described(error)), redact(traced(error)), of_program))
        lines.readline()
    if isinstance(reports, Generator):
        with contextlib.suppress(BaseException):
            reports.close()  # the trainer restores what it set for the process, such as threads
    return failed


def _tell(answers: int, answer: Answer) -> None:
    try:
        say(answers, answer)
    except OSError:
        print("sweeper: the trainer has closed file descriptors that it had not opened", file=sys.stderr, flush=True)
        os._exit(1)


def _next_of(reports: Iterator[Any]) -> Any:
    """The next report, or None at the end. A program that says at its end that all is well has finished."""
    try:
        return next(reports, None)
    except SystemExit as ended:
        if ended.code in (None, 0):
            return None
        raise


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _set_up(order: TrialOrder) -> None:
    os.environ.update(order.environment)
    with contextlib.suppress(OSError):  # a machine of a cluster need not have the driver's folder
        os.chdir(order.folder)
    Path(order.workdir).mkdir(parents=True, exist_ok=True)
    random.seed(0)  # a trainer that draws from global generators gets the same in every process
    np.random.seed(0)


@contextlib.contextmanager
def _process_as_found() -> Iterator[None]:
    environment, folder, umask = dict(os.environ), Path.cwd(), os.umask(0o077)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        os.umask(umask)


def _tidy_up() -> None:
    """What a program does at exit; whatever hangs there is cut off."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(EXIT_S)
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
