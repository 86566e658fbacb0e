"""Trainings in a separate process: a command, or a function that calls `sweeper.report` instead of yielding.

Both get a trainer's one interface, an iterator of reports. The process gets the trial's parameters, its folder and the
socket to report to from the environment (`reporting.push`). A report over the socket is answered when the iterator is
asked for the next one, so a trial that is stopped ends at its report. Reports that are read from files or output
(`readers`) are not answered: the process is ended by a signal. It runs in a process group, which ends with the trial.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mano_trainers.report import EpochReport
from sweeper.entrypoint.error_text import FunctionFailed, signal_name
from sweeper.entrypoint.place import defined_at
from sweeper.entrypoint.program.readers import Reader
from sweeper.entrypoint.reports import ReportError, nothing_reported
from sweeper.entrypoint.resolve import load_trainer
from sweeper.reporting.push import CONFIG, RESUME, SOCKET, WORKDIR

GRACE_S: Final = 10.0
"""How long a process that was told to stop may take to end, and again after SIGTERM."""
LOOK_S: Final = 0.2


class ScriptFailed(RuntimeError):
    """The process ended with an error."""


@dataclass(frozen=True)
class PlacedReport(EpochReport):
    """A report that came over the socket; `place` is the file and line that called `sweeper.report`."""

    place: str | None = None


def run_script(
    command: Sequence[str],
    config: Mapping[str, Any],
    workdir: Path,
    resume: Path | None,
    *,
    readers: Sequence[Reader] = (),
    environment: Mapping[str, str] | None = None,
    grace_s: float = GRACE_S,
) -> Generator[EpochReport, None, str | None]:
    """Run a command, and yield what it reports; returns what its function returned, if it reported nothing.

    Args:
        command: program and arguments, as for `subprocess.Popen`.
        config: the trial's parameters, which `sweeper.config()` returns there.
        workdir: the trial's folder.
        resume: the checkpoint to continue from.
        readers: of reports that do not come through `sweeper.report`.
        environment: variables that are added.
        grace_s: seconds for it to end when the trial is stopped, before SIGTERM and again before SIGKILL.

    Raises:
        ScriptFailed: it ended with an exit code that is not 0, or by a signal.
        FunctionFailed: it reported that its function did.
    """
    with ExitStack() as stack:
        # Not in the trial's folder: the path of a socket has at most 107 characters.
        folder = Path(tempfile.mkdtemp(prefix="sweeper-script-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        listener = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        listener.bind(str(folder / "socket"))
        listener.listen()
        (folder / "config.json").write_text(json.dumps(dict(config)))
        process = subprocess.Popen(
            list(command),
            env=_environment(folder, workdir, resume) | dict(environment or {}),
            start_new_session=True,
            stdout=subprocess.PIPE if any(reader.reads_output for reader in readers) else None,
        )
        stack.callback(_end_group, process, grace_s)
        for reader in readers:
            reader.attach(process)
        returned = yield from _reports(process, listener, readers, grace_s)
        code = process.wait()
        if code != 0:
            raise ScriptFailed(_ended(command, code))
    return returned


def run_function(trainer: str, config: Mapping[str, Any], workdir: Path, resume: Path | None) -> Generator[EpochReport]:
    """Run a function that calls `sweeper.report` instead of yielding; see `entrypoint.function`.

    Raises:
        FunctionFailed: it raised.
        ReportError: it returned something instead of reporting.
    """
    command = [sys.executable, "-P", "-m", "sweeper.entrypoint.function", trainer]
    returned = yield from run_script(command, config, workdir, resume)
    if returned is not None and resume is None:
        raise ReportError(f"{defined_at(load_trainer(trainer))}: {nothing_reported(trainer, returned)}")


def _environment(folder: Path, workdir: Path, resume: Path | None) -> dict[str, str]:
    ours = {SOCKET: str(folder / "socket"), CONFIG: str(folder / "config.json"), WORKDIR: str(workdir)}
    inherited = {name: value for name, value in os.environ.items() if name != RESUME}
    return inherited | ours | ({RESUME: str(resume)} if resume else {})


def _reports(
    process: "subprocess.Popen[bytes]", listener: socket.socket, readers: Sequence[Reader], grace_s: float
) -> Generator[EpochReport, None, str | None]:
    """Reports as they arrive, until the process has ended and none is left; returns what its function returned, if
    there were none."""
    has_ended, count, returned = False, 0, None
    while not has_ended:
        has_ended = process.poll() is not None  # before looking: a last report may still be waiting
        while select.select([listener], [], [], 0 if has_ended or readers else LOOK_S)[0]:
            with listener.accept()[0] as connection, connection.makefile("rw", encoding="utf-8") as lines:
                line = lines.readline()
                if not line:  # it was killed before it could say anything
                    continue
                message = json.loads(line)
                if "failed" in message:
                    raise FunctionFailed(**message["failed"])
                if "returned" in message:
                    returned = str(message["returned"])
                    lines.write("continue\n")
                    continue
                count += 1
                try:
                    yield _report(message)
                except GeneratorExit:
                    lines.write("stop\n")
                    lines.flush()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(grace_s)
                    raise
                lines.write("continue\n")
        for reader in readers:
            yield from reader.poll(has_ended)
        if readers and not has_ended:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_S)
    return None if count else returned


def _report(message: dict[str, Any]) -> EpochReport:
    checkpoint = message.pop("checkpoint")
    return PlacedReport(checkpoint=Path(checkpoint) if checkpoint else None, **message)


def _end_group(process: "subprocess.Popen[bytes]", grace_s: float) -> None:
    """End a process that is still running, and everything it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(command: Sequence[str], code: int) -> str:
    how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    return f"`{' '.join(command)}` {how}"
