"""The processes in which trials train as lanes, on this machine: the driver starts them, and they end with it."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sweeper.executor.gpus import visible_gpu_names
from sweeper.spec.lanes import fits_lanes
from sweeper.spec.resolve import SweepSpec

END_S: Final = 10.0
DYING_S: Final = 2.0
LOOK_S: Final = 0.01
_BOOT: Final = (
    "import json, sys; told = json.loads(sys.argv[1]); sys.argv[:] = ['trainer']; sys.path[:] = told.pop('path'); "
    "from sweeper.entrypoint.lanes.host import serve; serve(**told)"
)


@dataclass
class _Host:
    process: "subprocess.Popen[bytes]"
    place: dict[str, str]


class LaneHosts:
    """As many processes as the trials that run at once need, each started when its first trial arrives.

    Args:
        spec: whose trials train as lanes (`spec.lanes`).
        at_once: trials that run at once.
        folder: for sockets and what the processes write.
    """

    def __init__(self, spec: SweepSpec, at_once: int, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self._count = math.ceil(at_once / spec.resources.lanes)
        self._hosts: dict[int, _Host] = {}
        self._started = 0
        self._number_of: dict[str, int] = {}
        self._guests: set[str] = set()

    def seat(self, trial_id: str, config: Mapping[str, Any]) -> dict[str, str] | None:
        """Where the trial trains among others: arguments of a `LaneSeat`; None: in its own process, since it is of
        another kind, such as a control."""
        if self._spec.resources.lanes == 1 or not fits_lanes(self._spec, config):
            return None
        taken = Counter(self._number_of.values())
        number = min(range(self._count), key=lambda each: taken[each])
        host = self._hosts.get(number)
        if host is None or _has_ended(host.process):
            if host is not None:
                _end(host.process)
            host = self._hosts[number] = self._start(number)
        self._number_of[trial_id] = number
        self._guests.add(trial_id)
        return host.place

    def had(self, trial_id: str) -> bool:
        """Whether the trial was among the lanes of this run before; they may still train it for a moment."""
        return trial_id in self._guests

    def pid(self, trial_id: str) -> int | None:
        """The process in which the trial trains, if that is not its worker's own."""
        number = self._number_of.get(trial_id)
        return None if number is None else self._hosts[number].process.pid

    def lost(self, trial_id: str) -> None:
        """The trial has lost its place: most likely its process has ended, or is about to."""
        number, began_s = self._number_of.get(trial_id), time.monotonic()
        while number is not None and not _has_ended(self._hosts[number].process):
            if time.monotonic() > began_s + DYING_S:
                return
            time.sleep(LOOK_S)

    def leave(self, trial_id: str) -> None:
        """The trial no longer has a worker."""
        self._number_of.pop(trial_id, None)

    def kill(self, trial_id: str) -> None:
        """End the process in which the trial trains, and so all its lanes: one that hangs holds all of them."""
        number = self._number_of.get(trial_id)
        if number is not None:
            _end(self._hosts[number].process)

    def close(self) -> None:
        """End all of them."""
        for host in self._hosts.values():
            _end(host.process)

    def _start(self, number: int) -> _Host:
        resources = self._spec.resources
        self._started += 1
        address, output = (self._folder / f"lanes-{self._started}.{ending}" for ending in ("sock", "txt"))
        environment = dict(os.environ)
        environment.setdefault("PYTHONHASHSEED", "0")  # like a trial's own process
        environment.setdefault("OMP_NUM_THREADS", str(resources.cpus))
        environment["CUDA_VISIBLE_DEVICES"] = ""
        if resources.gpus:
            names = visible_gpu_names()
            environment["CUDA_VISIBLE_DEVICES"] = names[number % len(names)] if names else "0"
            environment["TRAINERS_GPU_SHARE"] = "1"  # a trainer that finds no GPU knows that it was given one
        with socket.socket(socket.AF_UNIX) as listener, output.open("ab") as written:
            listener.bind(str(address))
            listener.listen(resources.lanes)
            told = {
                "path": sys.path,
                "trainer": self._spec.trainer,
                "listener": listener.fileno(),
                "lanes": resources.lanes,
            }
            process = subprocess.Popen(
                # -P: the working folder may hold a `json.py` of the user, which no library must find
                [sys.executable, "-P", "-c", _BOOT, json.dumps(told)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )
        return _Host(process, {"address": str(address), "output": str(output)})


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Without waiting for it, so that its process ID stays its own."""
    return process.returncode is not None or bool(
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With everything it has started."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # a GPU driver may keep it
            process.wait(END_S)
