"""The serial driver in a process that is forked from one with everything imported: a case takes tenths of a second.

The driver is as real as `serial_driver.py`, in its own process group, and can be killed like it. Only what plays no
part in faults and costs seconds is left out: the process of the preflight, and asking git, pip and the GPU.
"""

import functools
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import serial_driver
from faulty import environment

from sweeper.cli.main import main
from sweeper.entrypoint.call import prepare
from sweeper.preflight import run as preflight
from sweeper.preflight.run import PreflightOutcome
from sweeper.reproducibility import provenance
from sweeper.spec.resolve import SweepSpec
from sweeper.tracking.store import database

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["forked", "forked_warm"])


class Driver:
    """A verb that runs in its own process group. `said`: the file beside the home that gets its output."""

    def __init__(
        self,
        home: Path,
        *arguments: str,
        before: Callable[[], None] | None = None,
        said: str = "output",
        **environ: str,
    ) -> None:
        if arguments[0] == "run":
            arguments = ("run", str(home.parent / "spec.yaml"), *arguments[1:])
        self._output = home.parent / said
        line = [*arguments, "--home", str(home)]
        self._process = start(_run, line, self._output, before, environ)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """kill -9 of the whole process group."""
        while self._process.is_alive() and os.getpgid(self.pid) != self.pid:
            time.sleep(0.001)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()

    def end(self, timeout_s: float = 400) -> tuple[int, str]:
        """Wait for the end; returns the exit code (for a signal: its negative number) and the output."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        assert code is not None, f"still running after {timeout_s} s"
        return code, self._output.read_text()


class Command:
    """`sweeper LINE` in its own process group, as `subprocess.Popen` would run it, but without the seconds that imports
    take; preflight included, as with the installed command."""

    def __init__(self, line: list[str], *, ray: bool, **environ: str) -> None:
        self._line, self._folder = line, tempfile.TemporaryDirectory()
        self._outputs = Path(self._folder.name, "stdout"), Path(self._folder.name, "stderr")
        self._process = start(_whole, line, self._outputs, os.getcwd(), ray, environment(**environ))
        while self._process.is_alive() and os.getpgid(self.pid) != self.pid:  # a signal to the group must find it
            time.sleep(0.001)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int:
        assert self._process.exitcode is not None
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.join()
            raise subprocess.TimeoutExpired(self._line, timeout or math.inf)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; returns the contents of stdout and stderr."""
        self.wait(timeout)
        stdout, stderr = (output.read_text() for output in self._outputs)
        return stdout, stderr


def verb(line: list[str], *, ray: bool, timeout_s: float, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run `sweeper LINE` to its end, as `subprocess.run` would."""
    command = Command(line, ray=ray, **environ)
    said = command.communicate(timeout_s)
    return subprocess.CompletedProcess(line, command.returncode, *said)


def _whole(line: list[str], outputs: tuple[Path, Path], cwd: str, ray: bool, environ: dict[str, str]) -> None:
    os.setpgid(0, 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.executable = environ.get("WARM_PYTHON", sys.executable)
    sys.argv = ["sweeper", *line]
    for number, output in zip((1, 2), outputs, strict=True):
        with output.open("w") as file:
            os.dup2(file.fileno(), number)
    if not ray:
        serial_driver.install()
    code = main(line)
    sys.stdout.flush()
    sys.exit(code)


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Call a function in a forked process."""
    _start_server()
    process = _context.Process(target=target, args=arguments)
    process.start()
    return process


def _start_server() -> None:
    """Start, once, the process that drivers are forked from. It finds modules by PYTHONPATH alone."""
    before = dict(os.environ)
    os.environ.update(environment())
    for name in [name for name in os.environ if name.startswith(("SWEEPER_", "MLFLOW_"))]:
        del os.environ[name]  # of the test that happens to be the first
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(line: list[str], output: Path, before: Callable[[], None] | None, environ: dict[str, str]) -> None:
    os.setpgid(0, 0)
    os.environ.update(environ)
    sys.executable = environ.get("WARM_PYTHON", sys.executable)
    with output.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    serial_driver.install()
    preflight.start = lambda spec, cache: None  # type: ignore[assignment,misc,return-value]
    preflight.finish = _prepared  # type: ignore[assignment]
    preflight.end = lambda child: None  # type: ignore[assignment,misc]
    provenance.collect = lambda repo=None: {"python": sys.version}  # type: ignore[misc]
    if "MLFLOW_TEMPLATE" in environ:
        database._build = functools.partial(_copied, Path(environ["MLFLOW_TEMPLATE"]))
    if before is not None:
        before()
    code = main(line)
    sys.stdout.flush()
    sys.exit(code)


def _prepared(_child: None, spec: SweepSpec, *_args: Any, **_options: Any) -> PreflightOutcome:
    return PreflightOutcome(fingerprints=prepare(spec.trainer, spec.base))


def _copied(template: Path, path: Path) -> None:
    """A new MLflow database where there is none: MLflow itself takes seconds to create its tables."""
    making = path.with_name(f"{path.name}.building-{os.getpid()}")
    shutil.copyfile(template, making)
    database._put_in_place(making, path)
