"""What processes take of the machine this runs on: processor, memory, GPU; and their end. Read from outside, out of
`/proc` and `nvidia-smi`, so that a trainer needs to know nothing of it and waits for nothing."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NVIDIA_SMI_TIMEOUT_S: Final = 10


@dataclass(frozen=True)
class Sample:
    """A process now, with all that it has started: a trial runs in a child of its worker. `cpu_s`: processor time since
    its start; `memory_mib`: of the largest of them, for forks share theirs; `gpus`: utilisation (per cent) and memory
    (MiB), by metric name."""

    cpu_s: float
    memory_mib: float
    gpus: Mapping[str, float]


def samples(pids: Sequence[int], *, with_gpus: bool) -> dict[int, Sample]:
    """Those of the processes that are there; `with_gpus` asks `nvidia-smi` too."""
    gpus = gpu_samples() if with_gpus and pids else {}
    table = _Table()
    found = {}
    for pid in filter(table.has, pids):
        family = table.family(pid)
        found[pid] = Sample(table.cpu_s(family), max(map(memory_mib, family)), _of_family(gpus, family))
    return found


def _of_family(gpus: Mapping[int, Mapping[str, float]], family: Sequence[int]) -> dict[str, float]:
    """What these processes take of each GPU together."""
    together: dict[str, float] = {}
    for pid in family:
        for name, value in gpus.get(pid, {}).items():
            before = together.get(name, 0.0)
            together[name] = before + value if "memory" in name else max(before, value)
    return together


def kill(pid: int) -> None:
    """End a worker at once, even one that is stopped; not another process that got its number since."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)


def cpu_seconds(pids: Sequence[int]) -> dict[int, float]:
    """Processor time that each of the processes has used so far, with all that it has started: data are decoded by
    processes of their own, while the worker waits. Those that do not exist are left out."""
    table = _Table()
    return {pid: table.cpu_s(table.family(pid)) for pid in pids if table.has(pid)}


class _Table:
    """All processes of the machine as they are now: who started whom, and who has used what."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._children: dict[int, list[int]] = {}
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):  # not every kernel has lists of children
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb", 0) as file:  # thousands, on a big one
                fields = file.read().rpartition(b")")[2].split()
                self._children.setdefault(int(fields[1]), []).append(pid)
                self._ticks[pid] = sum(map(int, fields[11:15]))  # its own, and that of children which have ended

    def has(self, pid: int) -> bool:
        return pid in self._ticks

    def family(self, pid: int) -> list[int]:
        """A process and all that it has started."""
        return [pid, *(other for child in self._children.get(pid, ()) for other in self.family(child))]

    def cpu_s(self, pids: Sequence[int]) -> float:
        return sum(self._ticks[pid] for pid in pids) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Resident memory of a process, 0 if there is none."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def gpu_samples() -> Mapping[int, dict[str, float]]:
    """Process -> its GPUs' utilisation now (per cent, of the whole GPU) and its own memory on each (MiB), by metric
    name. Empty without NVIDIA's tool."""
    processes = _nvidia_smi("--query-compute-apps=gpu_uuid,pid,used_memory")
    gpus = {row[0]: (row[1], row[2]) for row in _nvidia_smi("--query-gpu=uuid,index,utilization.gpu") if len(row) == 3}
    found: dict[int, dict[str, float]] = {}
    for row in processes:
        if len(row) == 3 and row[0] in gpus:
            index, utilisation = gpus[row[0]]
            metrics = found.setdefault(int(row[1]), {})
            for name, text in (("utilization_percentage", utilisation), ("memory_usage_megabytes", row[2])):
                if text.isdigit():  # else `[N/A]`
                    metrics[f"gpu_{index}_{name}"] = float(text)
    return found


def _nvidia_smi(query: str) -> list[list[str]]:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [[cell.strip() for cell in line.split(",")] for line in lines]
