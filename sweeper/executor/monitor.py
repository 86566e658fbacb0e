"""The machines that trials run on, and the processes that run them now: what they use, and whether they show signs of
life."""

import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sweeper.executor.gpus import visible_gpus
from sweeper.executor.processes import Sample
from sweeper.spec.sections import Resources

EVERY_S: Final = 1.0
LONGEST_LOOK_S: Final = 15.0


@dataclass(frozen=True)
class Worker:
    """A process on a machine; `node`: Ray's ID of that machine, `address`: where it is in the network, `trains`: the
    process in which its trial trains beside others, where that is none of its own."""

    node: str
    pid: int
    address: str
    trains: int | None = None


@dataclass(frozen=True)
class Node:
    """A machine, and what trials may take of it."""

    name: str
    cpus: float
    gpus: float


class Child(Protocol):
    """What is needed of a `subprocess.Popen[str]`."""

    stdin: Any
    stdout: Any
    stderr: Any
    returncode: Any

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...


class Machines(Protocol):
    """Those that trials run on."""

    shared: bool
    """Whether all of them see the study home and keep one cache of data."""

    def nodes(self) -> Sequence[Node]:
        """Those that are there now."""

    def samples(self, workers: Sequence[Worker]) -> Mapping[Worker, Sample]:
        """What the workers use; only for those that exist, on machines that answer."""

    def kill(self, worker: Worker) -> None:
        """End a worker at once, even one that is stopped."""

    def seam(self, *arguments: str) -> Child:
        """Start `python -m sweeper.entrypoint.call` on a machine and with the resources that a trial gets."""

    def ray(self) -> AbstractContextManager[None]:
        """Ray runs within."""


def this_machine() -> Node:
    """The machine that this process runs on, and what it may use of it: Slurm does not bind a job to its cores at every
    site, but always says how many there are."""
    cpus, granted = len(os.sched_getaffinity(0)), os.environ.get("SLURM_CPUS_ON_NODE", "")
    return Node(os.uname().nodename, min(cpus, int(granted)) if granted.isdecimal() else cpus, visible_gpus())


def room(resources: Resources, nodes: Sequence[Node]) -> int:
    """How many trials fit at once; a trial uses a single machine, a share of a GPU is a share of a single GPU, and
    lanes use it together."""
    return resources.lanes * sum(
        min(int(node.cpus / resources.cpus), _room_on_gpus(resources.gpus, node)) for node in nodes
    )


def _room_on_gpus(gpus: float, node: Node) -> int:
    if gpus == 0:
        return int(node.cpus)
    return int(node.gpus) * int(1 / gpus) if gpus < 1 else int(node.gpus / gpus)


@dataclass
class _Watched:
    worker: Worker
    since_s: float = 0.0
    cpu_s: float | None = None  # at `since_s`; None until it was seen
    peak_memory_mib: float = 0.0
    gpus: dict[str, list[float]] = field(default_factory=dict)
    last: tuple[float, Sample] | None = None


class Workers:
    """Samples the workers of running trials in a thread, about once a second.

    The names of what `take` returns are those of MLflow's system metrics, so that its UI shows them in that tab.
    """

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="workers", daemon=True)
        self._thread.start()

    def started(self, trial_id: str, worker: Worker) -> None:
        """A worker has got the trial."""
        with self._lock:
            self._watched[trial_id] = _Watched(worker)

    def ended(self, trial_id: str) -> None:
        """The trial no longer has a worker."""
        with self._lock:
            self._watched.pop(trial_id, None)

    def cpu_s(self, trial_id: str, beside: Collection[str] = ()) -> float:
        """Processor time the trial's worker had used when it was last seen, and the workers on the same machine of the
        trials `beside` it; 0 before that."""
        with self._lock:
            watched = self._watched.get(trial_id)
            if watched is None:
                return 0.0
            asked = (one for other, one in self._watched.items() if other == trial_id or other in beside)
            return sum(one.last[1].cpu_s for one in asked if one.last and one.worker.node == watched.worker.node)

    def address(self, trial_id: str) -> str | None:
        """Network address of the trial's worker; None without one."""
        with self._lock:
            watched = self._watched.get(trial_id)
            return watched.worker.address if watched else None

    def take(self, trial_id: str) -> dict[str, float]:
        """Usage since the last call: cores in per cent of one, the largest memory, mean utilisation and the largest
        memory of each GPU the worker holds. Empty if no worker was seen."""
        with self._lock:
            watched = self._watched.get(trial_id)
            if watched is None or watched.last is None or watched.cpu_s is None:
                return {}
            now_s, sample = watched.last
            used = {"system/system_memory_usage_megabytes": watched.peak_memory_mib}
            if now_s > watched.since_s:
                used["system/cpu_utilization_percentage"] = (
                    100 * (sample.cpu_s - watched.cpu_s) / (now_s - watched.since_s)
                )
            used |= {f"system/{name}": summary(name, values) for name, values in watched.gpus.items()}
            self._watched[trial_id] = _Watched(
                watched.worker, now_s, sample.cpu_s, sample.memory_mib, last=watched.last
            )
            return used

    def kill(self, trial_id: str) -> None:
        """End the trial's worker at once, even one that is stopped."""
        with self._lock:
            watched = self._watched.get(trial_id)
        if watched is not None:
            self._machines.kill(watched.worker)

    def close(self) -> None:
        """Stop sampling. Waits for a sample in progress: it may ask Ray, which ends next."""
        self._end.set()
        self._thread.join(LONGEST_LOOK_S)

    def _sample(self) -> None:
        while not self._end.wait(EVERY_S):
            with self._lock:
                watched = dict(self._watched)
            found = self._machines.samples([one.worker for one in watched.values()]) if watched else {}
            now_s = time.monotonic()
            with self._lock:
                for trial_id, one in watched.items():
                    sample = found.get(one.worker)
                    if sample is None or (now := self._watched.get(trial_id)) is None or now.worker != one.worker:
                        continue
                    now.last = (now_s, sample)
                    if now.cpu_s is None:
                        now.since_s, now.cpu_s = now_s, sample.cpu_s
                    now.peak_memory_mib = max(now.peak_memory_mib, sample.memory_mib)
                    for name, value in sample.gpus.items():
                        now.gpus.setdefault(name, []).append(value)


def summary(name: str, values: list[float]) -> float:
    """The mean of a utilisation, the largest of a memory."""
    return max(values) if "memory" in name else sum(values) / len(values)
