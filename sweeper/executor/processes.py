"""What processes use of this machine: processor, memory, GPU; and how to end them. Measured from outside, so that a
trainer needs to know nothing about it and waits for nothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from sweeper.executor.gpus import gpu_samples


@dataclass(frozen=True)
class Sample:
    """A process now. `cpu_s`: processor time since its start, of the processes it has started too; `gpus`: utilisation
    (per cent) and its own memory (MiB), by metric name."""

    cpu_s: float
    memory_mib: float
    gpus: Mapping[str, float]


def samples(pids: Sequence[int], *, with_gpus: bool) -> dict[int, Sample]:
    """Those of the processes that are there; `with_gpus` asks the GPUs too."""
    gpus = gpu_samples() if with_gpus and pids else {}
    cpu_s = cpu_seconds(pids)
    return {pid: Sample(cpu_s[pid], memory_mib(pid), gpus.get(pid, {})) for pid in pids if pid in cpu_s}


def kill(pid: int) -> None:
    """End a worker at once, even one that is stopped; not another process that has since got its ID."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
            process.kill()


def cpu_seconds(pids: Sequence[int]) -> dict[int, float]:
    """Processor time that each of the processes has used so far, with all that it has started: data are decoded by
    processes of their own, while the worker waits. Those that do not exist are left out."""
    found: dict[int, psutil.Process] = {}
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter():  # one scan for all workers: `Process.children` makes one for each
        with suppress(psutil.Error):
            children.setdefault(process.ppid(), []).append(process.pid)
            found[process.pid] = process

    def family(pid: int) -> float:
        used = 0.0
        with suppress(psutil.Error):  # it has just ended
            times = found[pid].cpu_times()  # its own, and those of children that have ended
            used = times.user + times.system + times.children_user + times.children_system
        return used + sum(map(family, children.get(pid, ())))

    return {pid: family(pid) for pid in pids if pid in found}


def memory_mib(pid: int) -> float:
    """Resident memory of a process, 0 if there is none."""
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except psutil.Error:
        return 0.0
