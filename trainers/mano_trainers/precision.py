"""Where mixed precision is used and where it is not."""

from contextlib import AbstractContextManager, nullcontext

import torch


def mixed(device: torch.device) -> AbstractContextManager[object]:
    """Matrix products and convolutions in bfloat16 on CUDA; float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16) if device.type == "cuda" else nullcontext()


def full(device: torch.device) -> AbstractContextManager[object]:
    """The precision of the operands, whatever surrounds it: millimetres would be rounded away in bfloat16.

    Devices without autocast, such as `meta`, have nothing to turn off.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
