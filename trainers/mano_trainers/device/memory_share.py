"""Several trainings on one GPU: each may take its share of the memory, and no more.

The share is the environment variable `TRAINERS_GPU_SHARE`, above 0; with 1, or without it, a training has the GPU to
itself, and nothing here does anything. Below 1 torch refuses what goes beyond the share with its OutOfMemoryError,
which ends this training and no other.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from mano_trainers.arrays import Pixels
from mano_trainers.data.on_device import on_device
from mano_trainers.errors import ConfigError

VARIABLE: Final = "TRAINERS_GPU_SHARE"
CONTEXT_BYTES: Final = 600 * 2**20
"""What CUDA keeps for each process besides what torch allocates: an estimate, on the high side."""


def gpu_share() -> float:
    """This process's share of a GPU, 1 for all of it.

    Raises:
        ConfigError: the variable is not a number above 0 and up to 1.
    """
    text = os.environ.get(VARIABLE, "1")
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise ConfigError(f"a share of a GPU is above 0 and up to 1, got {text}", VARIABLE)
    return value


def cap_bytes(share: float, total_bytes: int) -> int:
    """Memory that torch may use in a process with a share of a GPU of `total_bytes`: its part of what the contexts
    leave."""
    return max(0, int(share * (total_bytes - int(1 / share) * CONTEXT_BYTES)))


def is_given_gpu() -> bool:
    """Whether the starter of this process has said that it may use a GPU, or a share of one."""
    return VARIABLE in os.environ


@contextmanager
def memory_capped(device: torch.device) -> Iterator[None]:
    """For the duration of one training: a process is used for trial after trial, and the next may have more."""
    part = gpu_share()
    if device.type != "cuda" or part == 1.0:
        yield
        return
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    number = torch.cuda.current_device() if device.index is None else device.index  # the fraction cannot be less
    torch.cuda.set_per_process_memory_fraction(cap_bytes(part, total_bytes) / total_bytes, number)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, number)


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that this process may still take; none of a CPU."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    part = gpu_share()
    return free if part == 1.0 else min(free, cap_bytes(part, total))


def resident(pixels: Pixels, device: torch.device) -> Pixels | torch.Tensor:
    """The images on the device if they fit this training's part of it, otherwise as they are in the file cache."""
    return on_device(pixels, device, free_bytes(device))
