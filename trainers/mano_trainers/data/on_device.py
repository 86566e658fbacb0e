"""Decoded images where a step needs them: resident on the GPU, or copied to it ahead of the step that shows them.

Shapes: M images of a data set, B batch, S side of the images in pixels.
"""

import mmap
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Integers, Pixels

COPIED_AT_ONCE_BYTES: Final = 2**28


def on_device(images: Pixels, device: torch.device, free_bytes: int) -> Pixels | Tensor:
    """The images (M, S, S, 3) as a tensor on a GPU if they take at most half of its free memory; otherwise as given.

    From there, a batch does not have to be copied over the bus. The numbers are the same.
    """
    if device.type == "cpu" or images.nbytes > free_bytes // 2:
        return images
    copied = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for rows in np.array_split(np.arange(len(images)), -(-images.nbytes // COPIED_AT_ONCE_BYTES)):
        copied[rows[0] : rows[-1] + 1] = gather(images, rows, device)
    return copied


def gather(images: Pixels | Tensor, indices: Integers, device: torch.device) -> Tensor:
    """uint8 images (B, S, S, 3) on the device, from the memory-mapped cache (M, S, S, 3) or from `on_device`."""
    if isinstance(images, Tensor):
        return images[to_device(indices, images.device)].to(device)
    batch = torch.from_numpy(images[indices])
    forget(images)
    return sent(batch, device)


def gather_ahead(images: Pixels, order: Integers, device: torch.device) -> Iterator[Tensor]:
    """`gather` each step's images (steps, B), copying the next step's while the current one is computed.

    The copy is made from page-locked memory on a separate stream, so neither the processor nor the GPU waits for it: at
    batch 64 and 224 px a step moves 10 MB over the bus. Two such buffers take turns, and one is refilled only when its
    copy has ended.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    shape = (order.shape[1], *images.shape[1:])
    buffers = [torch.empty(shape, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    copied = [torch.cuda.Event() for _ in buffers]  # type: ignore[no-untyped-call]

    def start(step: int) -> Tensor:
        buffer, event = buffers[step % 2], copied[step % 2]
        event.synchronize()  # returns immediately for an event that was never recorded
        np.take(images, order[step], axis=0, out=buffer.numpy())
        forget(images)
        with torch.cuda.stream(stream):
            batch = buffer.to(device, non_blocking=True)
            event.record(stream)
        return batch

    following = start(0)
    for step in range(len(order)):
        batch = following
        torch.cuda.current_stream(device).wait_event(copied[step % 2])
        batch.record_stream(torch.cuda.current_stream(device))  # its memory is not reused before the step has read it
        yield batch
        if step + 1 < len(order):
            following = start(step + 1)


def forget(images: Pixels) -> None:
    """Pages stay in the machine's file cache, for all processes, but no longer count as memory of this one."""
    if isinstance(images.base, mmap.mmap):
        images.base.madvise(mmap.MADV_DONTNEED)


def to_device(indices: Integers | Tensor, device: torch.device) -> Tensor:
    """Indices on the device, without waiting for it; unchanged if they are there already."""
    return indices if isinstance(indices, Tensor) else sent(torch.from_numpy(indices), device)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values of the CPU on the device, without waiting for it, as a copy from memory that is not page-locked would."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)
