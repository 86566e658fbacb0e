"""The GPUs of this machine, by NVIDIA's management library; the one place that knows it. Without its driver there are
none. `None` from `collect_accelerators` distinguishes a machine without the driver from one with no GPU."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import takewhile
from typing import Any, Final

try:
    import pynvml
except ModuleNotFoundError:  # in an environment put together by hand: trials run, without GPU figures
    pynvml = None

IS_GPU: Final = re.compile(r"\s*(\d|GPU-|MIG-)")


def collect_accelerators() -> list[str] | None:
    """`NAME, DRIVER` of each GPU; None without NVIDIA's driver. Asked here since importing torch takes 5 s."""
    if not _has_driver():
        return None
    driver = _text(pynvml.nvmlSystemGetDriverVersion())
    return [f"{_text(pynvml.nvmlDeviceGetName(gpu))}, {driver}" for _, gpu in _gpus()]


def visible_gpus() -> int:
    """How many GPUs this process may use: all of the machine's, or those that `CUDA_VISIBLE_DEVICES` names. Slurm sets
    it for a job; the management library ignores it."""
    return len(visible_gpu_names())


def visible_gpu_names() -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` calls each of these."""
    there = len(collect_accelerators() or ())
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return [str(index) for index in range(there)]
    visible = takewhile(IS_GPU.match, named.split(","))  # CUDA itself stops at the first that is not one
    return [name.strip() for name in visible][:there]


def gpu_samples() -> Mapping[int, dict[str, float]]:
    """Process -> its GPUs' utilisation now (per cent, of the whole GPU) and its own memory on each (MiB), by metric
    name. What a GPU does not report is left out."""
    found: dict[int, dict[str, float]] = {}
    for index, gpu in _gpus() if _has_driver() else ():
        with suppress(pynvml.NVMLError):
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu):
                metrics = found.setdefault(process.pid, {})
                if process.usedGpuMemory is not None:
                    metrics[f"gpu_{index}_memory_usage_megabytes"] = process.usedGpuMemory / 2**20
                with suppress(pynvml.NVMLError):  # a part of a divided GPU has none
                    metrics[f"gpu_{index}_utilization_percentage"] = float(
                        pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
                    )
    return found


@cache
def _has_driver() -> bool:
    """Loads the library, once in a process."""
    if pynvml is None:
        return False
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True


def _gpus() -> Iterator[tuple[int, Any]]:
    for index in range(pynvml.nvmlDeviceGetCount()):
        with suppress(pynvml.NVMLError):  # one that has fallen off the bus
            yield index, pynvml.nvmlDeviceGetHandleByIndex(index)


def _text(said: str | bytes) -> str:
    return said.decode() if isinstance(said, bytes) else said
