"""What the workers of running trials take of the machine: processor, memory, GPU. Looked at from outside, by a thread,
so that a trainer needs to know nothing of it and waits for nothing."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sweeper.heartbeat import cpu_seconds, worker_pid

EVERY_S: Final = 2.0
NVIDIA_SMI_TIMEOUT_S: Final = 10


@dataclass
class _Watched:
    workdir: Path
    since_s: float = 0.0
    cpu_s: float | None = None  # of the worker at `since_s`; None until it was seen
    peak_memory_mib: float = 0.0
    gpus: dict[str, list[float]] = field(default_factory=dict)


class UsageSampler:
    """Samples the workers of the trials it is told to watch; `with_gpus` asks `nvidia-smi` too.

    The names are those of MLflow's system metrics, so that its UI shows them in that tab.
    """

    def __init__(self, *, with_gpus: bool) -> None:
        self._with_gpus = with_gpus
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="usage", daemon=True)
        self._thread.start()

    def watch(self, trial_id: str, workdir: Path) -> None:
        """A trial has started; its worker's ID is, or soon will be, in `workdir`."""
        with self._lock:
            self._watched[trial_id] = _Watched(workdir)

    def take(self, trial_id: str) -> dict[str, float]:
        """Usage since the last call: cores in per cent of one, the largest memory, mean utilisation and the largest
        memory of each GPU the worker holds. Empty where no worker was seen."""
        with self._lock:
            watched = self._watched.get(trial_id)
            pid = None if watched is None else worker_pid(watched.workdir)
            if watched is None or pid is None:
                return {}
            now_s, cpu_s = time.monotonic(), cpu_seconds(pid)
            used = {"system/system_memory_usage_megabytes": max(watched.peak_memory_mib, memory_mib(pid))}
            if watched.cpu_s is not None and now_s > watched.since_s:
                used["system/cpu_utilization_percentage"] = 100 * (cpu_s - watched.cpu_s) / (now_s - watched.since_s)
            used |= {f"system/{name}": summary(name, values) for name, values in watched.gpus.items()}
            self._watched[trial_id] = _Watched(watched.workdir, now_s, cpu_s)
            return used

    def forget(self, trial_id: str) -> None:
        """The trial has ended."""
        with self._lock:
            self._watched.pop(trial_id, None)

    def close(self) -> None:
        """Stop sampling."""
        self._end.set()
        self._thread.join(EVERY_S)

    def _sample(self) -> None:
        while not self._end.wait(EVERY_S):
            gpus = gpu_samples() if self._with_gpus and self._watched else {}
            with self._lock:
                for watched in self._watched.values():
                    pid = worker_pid(watched.workdir)
                    if pid is None:
                        continue
                    if watched.cpu_s is None:
                        watched.since_s, watched.cpu_s = time.monotonic(), cpu_seconds(pid)
                    watched.peak_memory_mib = max(watched.peak_memory_mib, memory_mib(pid))
                    for name, value in gpus.get(pid, {}).items():
                        watched.gpus.setdefault(name, []).append(value)


def summary(name: str, values: list[float]) -> float:
    """The mean of a utilisation, the largest of a memory."""
    return max(values) if "memory" in name else sum(values) / len(values)


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
