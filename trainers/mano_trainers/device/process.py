"""Settings of torch and OpenCV for the whole process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch

from mano_trainers.config import TrainConfig
from mano_trainers.device.memory_share import is_given_gpu, memory_capped
from mano_trainers.errors import ConfigError


@contextmanager
def settings(config: TrainConfig) -> Iterator[torch.device]:
    """Set threads and deterministic algorithms for the duration of one run, and restore them after it.

    Yields:
        The device to train on.

    Raises:
        ConfigError: `device: cuda`, but there is none; or `auto`, and there is none of the GPU that the process was
            given: training would take days on the CPU.
    """
    if config.device != "cpu" and not torch.cuda.is_available():
        if config.device == "cuda":
            raise ConfigError("this machine has no CUDA device", "device", "use `auto` or `cpu`")
        if is_given_gpu():
            help = "does `nvidia-smi` work there? otherwise use `cpu`, and `resources.gpus: 0`"
            raise ConfigError("the GPU that this training was given is not there, or has no driver", "device", help)
    cuda = config.device != "cpu" and torch.cuda.is_available()
    threads, opencv_threads = torch.get_num_threads(), cv2.getNumThreads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    # cuBLAS repeats its results only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)  # `make_batch` shares out whole images, which costs less than parts of each
    torch.use_deterministic_algorithms(True)  # with warnings alone the gradient of attention is not repeatable
    # Filling every new tensor helps to find reads of uninitialised memory, and costs time in every operation.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    device = torch.device("cuda" if cuda else "cpu")
    try:
        with memory_capped(device):
            yield device
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(opencv_threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def numerics(config: TrainConfig) -> dict[str, str]:
    """What determines, besides config, data and code, which bits a run ends with: device, torch's build, and its
    settings.

    Raises:
        ConfigError: as `settings`.
    """
    with settings(config) as device:
        found = {
            "device": device.type,
            "torch_build": torch.__version__,
            "vector_unit": torch.backends.cpu.get_cpu_capability(),
            "threads": str(torch.get_num_threads()),
            "deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()),
        }
        if device.type == "cuda":
            found |= {
                "gpu": torch.cuda.get_device_name(device),
                "cuda": str(torch.version.cuda),
                "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
                "cudnn_benchmark": str(torch.backends.cudnn.benchmark),
                "tf32": str(torch.backends.cuda.matmul.allow_tf32),
                "cublas_workspace": os.environ["CUBLAS_WORKSPACE_CONFIG"],
            }
        return found
