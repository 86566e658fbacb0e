"""How much of a shared GPU a training may take. There is no GPU here: the tests look at what torch is told."""

from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mano_trainers.device import memory_share
from mano_trainers.device.memory_share import CONTEXT_BYTES, cap_bytes, free_bytes, memory_capped, resident
from mano_trainers.errors import ConfigError

GIB = 2**30
CUDA = torch.device("cuda")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Fractions that torch is told for a GPU with 80 GiB, of which 50 are free."""
    fractions: list[float] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 * GIB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    def set_fraction(share: float, device: int) -> None:
        assert isinstance(device, int), "torch takes no device without its number"
        fractions.append(share)

    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", set_fraction)
    return fractions


@pytest.mark.parametrize("share", [0.5, 0.25, 1 / 3, 0.4])
def test_shares_and_contexts_fit_a_gpu_together(share: float) -> None:
    taken = int(1 / share) * (cap_bytes(share, 80 * GIB) + CONTEXT_BYTES)
    assert 0.75 * 80 * GIB < taken <= 80 * GIB


def test_a_training_alone_on_its_gpu_is_not_capped(told: list[float]) -> None:
    with memory_capped(CUDA):
        assert free_bytes(CUDA) == 50 * GIB
    assert told == []


def test_the_cap_holds_for_one_training_only(told: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINERS_GPU_SHARE", "0.5")
    with suppress(RuntimeError), memory_capped(CUDA):
        assert free_bytes(CUDA) == 40 * GIB - CONTEXT_BYTES
        raise RuntimeError("CUDA out of memory")
    assert told == [0.5 - CONTEXT_BYTES / (80 * GIB), 1.0]
    with memory_capped(torch.device("cpu")):
        assert len(told) == 2


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "half", "nan"])
def test_an_invalid_share_of_a_gpu_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINERS_GPU_SHARE", text)
    with pytest.raises(ConfigError, match=f"got {text}"), memory_capped(CUDA):
        pass


def test_each_training_holds_the_images_that_fit_half_of_its_share(
    told: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(memory_share, "on_device", lambda pixels, device, free: limits.append(free))
    monkeypatch.setenv("TRAINERS_GPU_SHARE", "0.25")
    resident(np.zeros((4, 2, 2, 3), np.uint8), CUDA)
    resident(np.zeros((4, 2, 2, 3), np.uint8), torch.device("cpu"))
    assert limits == [20 * GIB - CONTEXT_BYTES, 0]
