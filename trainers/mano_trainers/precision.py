"""Where mixed precision is used and where it is not."""

from contextlib import AbstractContextManager, nullcontext

import torch


def mixed(device: torch.device) -> AbstractContextManager[object]:
    """Matrix products and convolutions in bfloat16 on a GPU that computes in it, since Ampere; float32 elsewhere.

    A T4 only emulates it: products are slower than in float32, and cuDNN has no such convolutions at all.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def full(device: torch.device) -> AbstractContextManager[object]:
    """The precision of the operands, whatever the surrounding autocast: millimetres would be rounded away in bfloat16.

    Devices without autocast, such as `meta`, have nothing to turn off.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
