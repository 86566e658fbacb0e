"""Rates of single things on one device: matrix products, the data path, and anything else that is called often."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from mano_trainers.batches import batch_memory, epoch_order, image_table, make_batch, seeded
from mano_trainers.config import ModelConfig, TrainConfig
from mano_trainers.data.augment import draw
from mano_trainers.data.load import load_data
from mano_trainers.data.on_device import on_device
from mano_trainers.device.memory_share import free_bytes
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.models import build_model


def seconds_of(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Seconds of one call, the first calls left out; waits for the device before and after."""
    for _ in range(3):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / repeats


def matmul_flops_per_s(side: int, repeats: int, device: torch.device) -> float:
    """Measured rate of a square bf16 matrix product."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: left @ right, repeats, device)


def flops_per_image(backbone: str, size: int) -> float:
    """Of a step forwards and backwards; counted on the CPU, where two images are enough."""
    model = build_model(ModelConfig.model_validate({"backbone": backbone}), size, load_embedded_hand())
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 3, size, size)).theta.sum().backward()
    return float(counter.get_total_flops()) / 2


def data_seconds(config: TrainConfig, repeats: int, device: torch.device) -> float:
    """Seconds a batch of the data path takes by itself; in training some of it may hide behind the device."""
    data, batch = load_data(config.data), config.optim.batch_size
    images = on_device(data.images, device, free_bytes(device))
    memory = batch_memory(images, batch, device)
    table = image_table(data.labels.pose_index)
    order = iter(
        indices
        for epoch in range(10_000)
        for indices in epoch_order(table, data.train_poses, "all", batch, seeded(0, "order", epoch))
    )

    def one() -> None:
        indices = next(order)
        drawn = draw(len(indices), config.data.image_size, seeded(0, "augment", int(indices[0])), device)
        make_batch(images, indices, device, drawn, memory)

    return seconds_of(one, repeats, device)
