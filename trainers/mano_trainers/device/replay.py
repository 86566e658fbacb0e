"""A function of tensors that a GPU records once and then replays: hundreds of small kernels start as one.

A training step at batch 64 has so many kernels that starting them takes longer than computing them. CUDA can record
them as one graph, and replay it with the same memory: what differs from call to call is copied into the tensors that
were there when it was recorded.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

Work = Callable[[], None]
Record = Callable[[Work], Work]
"""Records a piece of work without doing it, and returns what does it."""


def record_on_gpu(work: Work) -> Work:
    """Record what `work` starts on the current device.

    Raises:
        RuntimeError: part of it cannot be recorded: it waits for the GPU, or there is not enough memory.
    """
    graph = torch.cuda.CUDAGraph()
    # Only this thread is watched for calls that cannot be recorded: others may continue to use the GPU.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    replay: Work = graph.replay  # also draws again from torch's own generator of the device
    return replay


@contextmanager
def on_side_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, start kernels on another stream than the usual one, in order with it.

    Work that is done like this before it is recorded leaves nothing that belongs to the usual stream, for which a
    recording must not wait.
    """
    if device.type != "cuda":
        yield
        return
    usual, side = torch.cuda.current_stream(device), _side_stream(device)
    side.wait_stream(usual)
    with torch.cuda.stream(side):
        yield
    usual.wait_stream(side)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The same one each time: torch keeps the memory of each stream for that stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Replay:
    """Calls `work`, which takes tensors of the same shapes each time, as a recording of it.

    They may be in dataclasses, and these in tuples.

    The first call records. What cannot be recorded is reported once, on stderr, and then `work` is called as it is:
    slower, with the same result. `work` must have been called before, in any way, so that all that it makes only once
    is there.

    Args:
        work: changes tensors in place, and returns nothing.
        record: `record_on_gpu`, or another way to record.
    """

    def __init__(self, work: Callable[[Any], None], record: Record = record_on_gpu) -> None:
        self._work, self._record = work, record
        self._inputs: Any = None
        self._replay: Work | None = None
        self.failed = False

    def __call__(self, inputs: Any) -> None:
        """Do the work with these inputs, which are not kept."""
        if self._replay is None and not self.failed:
            self._begin(inputs)
        if self._replay is None:
            self._work(inputs)
            return
        for ours, new in zip(tensors_in(self._inputs), tensors_in(inputs), strict=True):
            assert (ours.shape, ours.dtype) == (new.shape, new.dtype), "a recording is of one shape"
            ours.copy_(new, non_blocking=True)
        self._replay()

    def _begin(self, inputs: Any) -> None:
        kept = _copy(inputs)
        try:
            self._replay, self._inputs = self._record(lambda: self._work(kept)), kept
        except RuntimeError as error:  # includes out of memory: without a recording less is needed
            self.failed = True
            reason = str(error).strip().partition("\n")[0]
            print(f"WARN: steps start kernel by kernel, since the GPU cannot record one: {reason}", file=sys.stderr)


def tensors_in(inputs: Any) -> Iterator[Tensor]:
    """Tensors of a dataclass and of those within it, in the order of the fields; or of several, in their order."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, tuple):
        for each in inputs:
            yield from tensors_in(each)
    elif is_dataclass(inputs):
        for each in fields(inputs):
            yield from tensors_in(getattr(inputs, each.name))


def _copy(inputs: Any) -> Any:
    """The same with memory of its own."""
    if isinstance(inputs, Tensor):
        return inputs.clone()
    if isinstance(inputs, tuple):
        return tuple(_copy(each) for each in inputs)
    if is_dataclass(inputs) and not isinstance(inputs, type):
        return replace(inputs, **{each.name: _copy(getattr(inputs, each.name)) for each in fields(inputs)})
    return inputs
