"""What is read about GPUs, with a stand-in for NVIDIA's library: the test machines have none."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from sweeper.executor import gpus
from sweeper.executor.monitor import this_machine


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    gpus._has_driver.cache_clear()
    yield
    gpus._has_driver.cache_clear()


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces functions of NVIDIA's library."""

    def put(**functions: Any) -> None:
        for name, function in functions.items():
            monkeypatch.setattr(pynvml, name, function)

    put(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda gpu: b"NVIDIA H200" if gpu else "NVIDIA A100",
        nvmlSystemGetDriverVersion=lambda: "570.1",
        nvmlDeviceGetUtilizationRates=lambda gpu: SimpleNamespace(gpu=70 + gpu),
        nvmlDeviceGetComputeRunningProcesses=lambda gpu: [SimpleNamespace(pid=5 + gpu, usedGpuMemory=3 * 2**20)],
    )
    return put


def refuse(*_arguments: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_gpus_and_what_processes_use_of_them_are_read(nvml: Callable[..., None]) -> None:
    assert gpus.collect_accelerators() == ["NVIDIA A100, 570.1", "NVIDIA H200, 570.1"]
    assert gpus.gpu_samples() == {
        5: {"gpu_0_memory_usage_megabytes": 3.0, "gpu_0_utilization_percentage": 70.0},
        6: {"gpu_1_memory_usage_megabytes": 3.0, "gpu_1_utilization_percentage": 71.0},
    }


def test_what_a_gpu_does_not_report_is_left_out(nvml: Callable[..., None]) -> None:
    nvml(nvmlDeviceGetUtilizationRates=refuse)
    assert gpus.gpu_samples()[5] == {"gpu_0_memory_usage_megabytes": 3.0}
    nvml(nvmlDeviceGetComputeRunningProcesses=lambda gpu: [SimpleNamespace(pid=5, usedGpuMemory=None)])
    assert gpus.gpu_samples() == {5: {}}
    nvml(nvmlDeviceGetComputeRunningProcesses=refuse)
    assert gpus.gpu_samples() == {}


def test_a_machine_without_the_driver_has_no_gpus(nvml: Callable[..., None]) -> None:
    nvml(nvmlInit=refuse)
    assert gpus.collect_accelerators() is None
    assert gpus.gpu_samples() == {}


@pytest.mark.parametrize(
    ("named", "count"),
    [(None, 2), ("1", 1), ("0,1,2,3", 2), ("", 0), ("-1", 0), ("NoDevFiles", 0), ("GPU-4f, MIG-1", 2)],
)
def test_a_job_counts_the_gpus_that_it_was_given(
    nvml: Callable[..., None], monkeypatch: pytest.MonkeyPatch, named: str | None, count: int
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus.visible_gpus() == count


def test_a_job_counts_the_cores_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    cores = this_machine().cpus
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert this_machine().cpus == 1
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4096")
    assert this_machine().cpus == cores
