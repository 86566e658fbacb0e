"""Images that are copied ahead of the step that shows them, with a GPU that does everything as late as it can.

The fake GPU's streams run nothing until somebody waits for them. So a batch that is read before its copy was waited
for, or a buffer that is filled again before its copy has ended, has wrong pixels here every time, not now and then.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mano_trainers.arrays import Integers, Pixels
from mano_trainers.data.on_device import gather, gather_ahead

EMPTY = torch.empty
CUDA = torch.device("cuda")


class Stream:
    """Work in the order in which it was given, none of which is done before somebody waits."""

    def __init__(self, device: Any = None) -> None:
        self.work: list[Callable[[], Any]] = []
        self.done = 0

    def wait_event(self, event: "Event") -> None:
        self.work.append(event.reached)

    def run(self, until: int) -> None:
        while self.done < until:
            self.done += 1
            self.work[self.done - 1]()


class Event:
    def __init__(self) -> None:
        self.recorded: tuple[Stream, int] | None = None

    def record(self, stream: Stream) -> None:
        self.recorded = stream, len(stream.work)

    def synchronize(self) -> None:
        self.reached()

    def reached(self) -> None:
        if self.recorded is not None:
            self.recorded[0].run(self.recorded[1])


class Gpu:
    """The part of torch's CUDA that `gather_ahead` uses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = self.computing = Stream()
        self.kept: list[Tensor] = []
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "stream", self.on)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.current)
        monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **more: EMPTY(*shape, **more))
        monkeypatch.setattr(Tensor, "to", lambda values, *args, **more: self.copied(values, *args, **more))
        monkeypatch.setattr(Tensor, "record_stream", lambda values, stream: self.record_stream(values, stream))

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def copied(self, values: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        assert non_blocking, "the processor waits"
        assert self.current is not self.computing, "the copy stands in the way of the step"
        there = torch.full_like(values, 255)
        self.current.work.append(lambda: there.copy_(values))
        return there

    def record_stream(self, values: Tensor, stream: Stream) -> None:
        assert stream is self.computing
        self.kept.append(values)


@pytest.fixture
def images(tmp_path: Path) -> Pixels:
    stored: Pixels = np.memmap(tmp_path / "pixels.u8", dtype=np.uint8, mode="w+", shape=(20, 4, 4, 3))
    stored[:] = np.arange(20, dtype=np.uint8)[:, None, None, None]
    return stored


def shown(images: Pixels, order: Integers, gpu: Gpu) -> list[Tensor]:
    """What the steps read once the GPU gets to them."""
    read: list[Tensor] = []
    batches = []
    for batch in gather_ahead(images, order, CUDA):
        batches.append(batch)
        gpu.computing.work.append(lambda batch=batch: read.append(batch.clone()))  # type: ignore[misc]
    assert [id(batch) for batch in batches] == [id(batch) for batch in gpu.kept], "memory may be taken while it is read"
    gpu.computing.run(len(gpu.computing.work))
    return read


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_every_step_reads_its_own_images(images: Pixels, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    order = np.random.default_rng(0).integers(20, size=(steps, 3))
    expected = [gather(images, indices, torch.device("cpu")) for indices in order]
    read = shown(images, order, Gpu(monkeypatch))
    assert len(read) == steps
    assert all(torch.equal(*pair) for pair in zip(read, expected, strict=True))


def test_the_next_images_are_on_their_way_before_the_step_is_over(
    images: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu(monkeypatch)
    batches = gather_ahead(images, np.arange(9).reshape(3, 3), CUDA)
    next(batches)
    assert gpu.computing.done == 0, "nobody has waited"
    next(batches)
    assert gpu.computing.done == 0


@pytest.mark.parametrize(("waiting", "method"), [(Event, "synchronize"), (Stream, "wait_event")])
def test_the_fake_gpu_catches_code_that_does_not_wait(
    images: Pixels, waiting: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, method, lambda *_: None)
    order = np.arange(15).reshape(5, 3)
    read = shown(images, order, Gpu(monkeypatch))
    assert not all(torch.equal(found, torch.from_numpy(images[rows])) for found, rows in zip(read, order, strict=True))


def test_images_on_a_gpu_are_returned_on_the_device_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight checks look at them on the CPU, wherever the pipeline keeps them."""
    monkeypatch.setattr("mano_trainers.data.on_device.sent", lambda values, device: values.to(device))
    with FakeTensorMode():
        images = torch.empty(5, 4, 4, 3, dtype=torch.uint8, device="cuda")
        rows = np.array([1, 3])
        assert gather(images, rows, torch.device("cpu")).device.type == "cpu"
        assert gather(images, rows, torch.device("cuda")).device.type == "cuda"
