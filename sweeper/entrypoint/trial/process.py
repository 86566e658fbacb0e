"""Where trainings run: a process that has imported the trainer's module and does nothing else, and from which every
trial is forked. So no trial sees what another one has left: global settings, threads, files, child processes.

The worker starts this process (`executor.trainer_process`) and says on a pipe, a line of JSON each:

    {"job": {...}}   start a trial (`TrialOrder`)
    "next"           train to the next report
    "close"          let the trainer tidy up
    "kill"           end it at once

On another pipe the trial answers each `next` with a report, an end or an error, and this process says `gone` when the
trial's process is. What the trial writes to stdout and stderr, this process writes to the trial's log. A trainer whose
module says `REUSE_PROCESS = True` puts back by itself what it sets: its trials share a process, which answers `close`
with `idle`. Where a module starts threads when it is imported a fork is not safe: then each trial gets a new
interpreter.
"""

import ctypes
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from sweeper.entrypoint.error_text import signal_name
from sweeper.entrypoint.resolve import current_name, load_trainer
from sweeper.entrypoint.trial.log import TrialLog
from sweeper.entrypoint.trial.messages import Answer, Gone, order_from_json, to_json
from sweeper.errors import UserError

REUSE: Final = "REUSE_PROCESS"
PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
PROBE_S: Final = 10.0
READ_BYTES: Final = 1 << 16

Isolation = Literal["reuse", "fork", "interpreter"]


def serve(trainer: str, commands: int, answers: int) -> None:
    """Run trials until the worker closes its end of the pipe."""
    os.umask(0o077)  # a cluster node has its own
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # an import may hang
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a trial leaves running becomes our child, and is ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver to handle
    supervisor = _Supervisor(trainer, isolation_of(trainer), answers)
    prctl(PR_SET_PDEATHSIG, 0)  # from now on the end of the pipe means that the worker is gone, and trials are ended
    gc.freeze()  # pages that no garbage collection touches stay shared with the trials
    pending = b""
    while True:
        supervisor.wait(commands)
        if not select.select([commands], [], [], 0)[0]:
            continue
        data = os.read(commands, READ_BYTES)
        if not data:  # the worker is gone
            supervisor.kill()
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            supervisor.obey(line)


def isolation_of(trainer: str) -> Isolation:
    """Import the trainer's module, and say how its trials are kept apart. An import error is reported for each
    trial."""
    import numpy.random  # noqa: F401  # each trial seeds it

    from sweeper.entrypoint.trial import run  # noqa: F401  # imported once, not by each trial

    with suppress(UserError):
        load_trainer(trainer)
    module = sys.modules.get(current_name(trainer).partition(":")[0])
    if getattr(module, REUSE, False) is True:
        return "reuse"
    return "fork" if threading.active_count() == 1 and _may_fork() else "interpreter"


def prctl(option: int, value: int) -> None:
    """Linux's `prctl`, if available."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class _Supervisor:
    """Starts the process of a trial, reads what it writes, and reports its end."""

    def __init__(self, trainer: str, isolation: Isolation, answers: int) -> None:
        self._trainer, self._isolation, self._answers = trainer, isolation, answers
        self._pid: int | None = None
        self._pidfd = self._tell = self._output = -1
        self._log: TrialLog | None = None

    def wait(self, commands: int) -> None:
        """Wait until the worker says something; meanwhile log what the trial writes, and see whether it ends."""
        while True:
            watched = [commands] if self._pid is None else [commands, self._pidfd, self._output]
            ready = select.select([fd for fd in watched if fd >= 0], [], [])[0]
            if self._output >= 0 and self._output in ready:
                self._keep_output()
            if self._pid is not None and self._pidfd in ready:
                self._bury()
            if commands in ready:
                return

    def obey(self, line: bytes) -> None:
        """Do what the worker says."""
        said = json.loads(line)
        if isinstance(said, dict):
            self._open_log(Path(order_from_json(line).log))
            if self._pid is None:
                self._start()
        if said == "kill":
            self.kill()
        elif self._pid is not None:
            with suppress(BrokenPipeError):
                write(self._tell, line + b"\n")

    def kill(self) -> None:
        """End the trial's process at once."""
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._bury()

    def _start(self) -> None:
        orders, self._tell = os.pipe()
        self._output, output = os.pipe()
        if self._isolation == "interpreter":
            self._pid = _spawn(self._trainer, orders, output, self._answers)
        elif (pid := os.fork()) == 0:
            os.close(self._tell)
            os.close(self._output)
            _become_trial(self._trainer, orders, output, self._answers, reuse=self._isolation == "reuse")
        else:
            self._pid = pid
        os.close(orders)
        os.close(output)
        assert self._pid is not None
        self._pidfd = os.pidfd_open(self._pid)

    def _open_log(self, path: Path) -> None:
        if self._log is not None:
            self._keep_output(waiting=True)
            self._log.close()
        self._log = TrialLog(path)

    def _keep_output(self, *, waiting: bool = False) -> None:
        """Log what the trial has written; with `waiting` only what is available."""
        while self._output >= 0 and (not waiting or select.select([self._output], [], [], 0)[0]):
            data = os.read(self._output, READ_BYTES)
            if not data:
                os.close(self._output)
                self._output = -1
            elif self._log is not None:
                self._log.write(data)
            if not waiting:
                return

    def _bury(self) -> None:
        """The process has ended or is about to: wait for it, and end what it left running."""
        assert self._pid is not None
        _, status = os.waitpid(self._pid, 0)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        _end_orphans()
        self._keep_output(waiting=True)
        for fd in (self._pidfd, self._tell, self._output):
            if fd >= 0:
                os.close(fd)
        self._pid, self._pidfd, self._tell, self._output = None, -1, -1, -1
        if self._log is not None:
            self._log.close()
            self._log = None
        say(self._answers, Gone(_how_it_ended(status)))


def say(answers: int, answer: Answer) -> None:
    """Send the worker a line."""
    with suppress(BrokenPipeError):
        write(answers, to_json(answer).encode() + b"\n")


def write(fd: int, data: bytes) -> None:
    """All of it."""
    while data:
        data = data[os.write(fd, data) :]


def _become_trial(trainer: str, orders: int, output: int, answers: int, *, reuse: bool) -> None:
    """What the child does after the fork; never returns."""
    from sweeper.entrypoint.trial.run import run_trials

    code = 1
    try:
        prepare_process(output)
        run_trials(trainer, orders, answers, reuse=reuse)
        code = 0
    finally:
        os._exit(code)


def prepare_process(output: int) -> None:
    """A session of its own, which ends with the one that started it; no input; output into the pipe."""
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # a trainer that asks for input gets an end of file, and does not wait for ever
    os.close(nothing)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _spawn(trainer: str, orders: int, output: int, answers: int) -> int:
    told = {"path": sys.path, "trainer": trainer, "orders": orders, "output": output, "answers": answers}
    boot = (
        "import json, sys; told = json.loads(sys.argv[1]); sys.path[:] = told.pop('path'); "
        "from sweeper.entrypoint.trial.run import alone; alone(**told)"
    )
    # Not waited for as a Popen: `_bury` does.
    return subprocess.Popen(
        [sys.executable, "-P", "-c", boot, json.dumps(told)],
        pass_fds=(orders, output, answers),
        stdin=subprocess.DEVNULL,
    ).pid


def _end_orphans() -> None:
    """End whatever the trial has started and left running, including what is in other sessions."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for pid in _children():
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.001)
        except ChildProcessError:  # there are none
            return


def _children() -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):  # not every kernel has lists of children
        with suppress(OSError), open(f"/proc/{name}/stat", "rb", 0) as file:
            if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(name))
    return found


def _how_it_ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"was ended by {signal_name(-code)}{hint}"


def _may_fork() -> bool:
    """Whether torch computes in a fork of this process: where a module has computed with several threads while it was
    imported, it would wait for them for ever."""
    torch = sys.modules.get("torch")
    if torch is None:
        return True
    pid = os.fork()
    if pid == 0:
        try:
            torch.ones(1 << 18).add(1).sum()
        finally:
            os._exit(0)
    pidfd = os.pidfd_open(pid)
    try:
        if select.select([pidfd], [], [], PROBE_S)[0]:
            return True
        os.kill(pid, signal.SIGKILL)
        return False
    finally:
        os.waitpid(pid, 0)
        os.close(pidfd)
