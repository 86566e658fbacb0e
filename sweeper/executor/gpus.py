"""The GPUs of this machine, by NVIDIA's management library; the one place that knows it. Without its driver there are
none. `None` of `collect_accelerators` tells a machine without the driver from one with no GPU."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import pynvml


def collect_accelerators() -> list[str] | None:
    """`NAME, DRIVER` of each GPU; None without NVIDIA's driver. Asked here since importing torch takes 5 s."""
    if not _has_driver():
        return None
    driver = _text(pynvml.nvmlSystemGetDriverVersion())
    return [f"{_text(pynvml.nvmlDeviceGetName(gpu))}, {driver}" for _, gpu in _gpus()]


def gpu_samples() -> Mapping[int, dict[str, float]]:
    """Process -> its GPUs' utilisation now (per cent, of the whole GPU) and its own memory on each (MiB), by metric
    name. What a GPU does not tell is left out."""
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
