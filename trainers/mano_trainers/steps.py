"""The steps between two evaluations: what each shows and how the weights follow. See `mano_trainers.loop`."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

import torch
from torch import Tensor, nn

from mano_trainers.arrays import Integers
from mano_trainers.batches import batch_memory, epoch_order, seeded
from mano_trainers.config import OptimConfig
from mano_trainers.data.curriculum import epoch_poses, weights_at
from mano_trainers.data.on_device import gather_ahead
from mano_trainers.losses.balance import Balance
from mano_trainers.losses.terms import loss_terms
from mano_trainers.models import HandNet
from mano_trainers.optimizer import WeightAverage, set_learning_rate
from mano_trainers.pipeline import Pipeline, training_batch
from mano_trainers.precision import mixed


def learning_rate(config: OptimConfig, step: int, total_steps: int) -> float:
    """Linear warm-up to `config.lr`, then half a cosine down to zero at the last step. A pure function of the step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return 0.5 * config.lr * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class StepRange:
    """Where in the run the steps to the next evaluation lie, and the images (steps, B) that they show."""

    order: Integers
    first_step: int
    total_steps: int


def order_of_epoch(pipeline: Pipeline, epoch: int) -> Integers:
    """Images (steps, B) of an epoch; a pure function of seed and epoch, so a window of it can be had alone."""
    config, data = pipeline.config, pipeline.data
    stage = weights_at(config.data.curriculum, epoch)
    poses = epoch_poses(data.labels, data.train_poses, stage, seeded(config.seed, "curriculum", epoch))
    generator = seeded(config.seed, "order", epoch)
    return epoch_order(pipeline.table, poses, config.data.versions, config.optim.batch_size, generator)


def train_steps(
    pipeline: Pipeline,
    model: HandNet,
    optimizer: torch.optim.Optimizer,
    balance: Balance,
    average: WeightAverage | None,
    steps: StepRange,
) -> dict[str, float]:
    """The steps to the next evaluation; their `train/` metrics. Nothing waits for the device until the end."""
    config, device, order = pipeline.config, pipeline.device, steps.order
    weights = balance.weights()
    sums = torch.zeros(1 + len(weights), device=device)
    shares = torch.zeros(len(weights), device=device)
    memory = batch_memory(pipeline.images, order.shape[1], device)
    ahead: Iterable[Tensor | None] = repeat(None)
    if device.type == "cuda" and not isinstance(pipeline.images, Tensor):
        ahead = gather_ahead(pipeline.images, order, device)
    started = time.perf_counter()
    model.train()
    for step, (indices, gathered) in enumerate(zip(order, ahead, strict=False), start=steps.first_step):
        set_learning_rate(optimizer, learning_rate(config.optim, step, steps.total_steps))
        images, target = training_batch(pipeline, indices, step, memory, gathered)
        optimizer.zero_grad()
        for rows in _parts(len(images), config.optim.micro_batches):
            with mixed(device):
                prediction = model(images[rows])
            terms = loss_terms(pipeline.criterion, prediction, target.part(rows))
            loss = balance.total(terms, model.last_layer)
            if step == steps.first_step and rows.start == 0:
                shares = _gradient_shares(model, weights, terms)
            share = (rows.stop - rows.start) / len(images)
            (loss if share == 1 else share * loss).backward()
            sums += share * torch.stack([loss, *terms.values()]).detach()
        _clip_gradients(model, config.optim.clip_norm)
        optimizer.step()
        balance.step()
        if average is not None:
            average.update(model, step)
    means = (sums / len(order)).tolist()  # waits for the device
    seconds = time.perf_counter() - started
    metrics = _term_metrics(means, shares.tolist(), balance, weights) | {
        "train/optimizer_steps": float(steps.first_step + len(order)),
        "train/images_per_s": order.size / seconds,
        "train/seconds": seconds,
    }
    if device.type == "cuda":
        metrics["gpu/peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return metrics


def _term_metrics(
    means: Sequence[float], shares: Sequence[float], balance: Balance, weights: Mapping[str, float]
) -> dict[str, float]:
    """What each loss term was and weighed: `means` of the total and of the terms, and their shares in the gradient."""
    metrics = {"train/loss": means[0] if math.isfinite(means[0]) else math.nan}
    metrics |= {f"train/loss_{name}": mean for name, mean in zip(weights, means[1:], strict=True)}
    metrics |= {f"train/grad_share_{name}": share for name, share in zip(weights, shares, strict=True)}
    if balance.learned:
        metrics |= {f"train/weight_{name}": weight for name, weight in balance.weights().items()}
    return metrics


def _parts(count: int, parts: int) -> list[slice]:
    """Rows of `count` images in so many parts of nearly one size."""
    edges = [count * number // parts for number in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges) if start < stop]


def _clip_gradients(model: nn.Module, clip_norm: float) -> None:
    """As `clip_grad_norm_`, but where the norm can be read without waiting, short gradients are not multiplied by 1."""
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if norm.device.type != "cpu" or not norm <= clip_norm:  # a NaN is to reach the weights, and end training
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)


def _gradient_shares(model: HandNet, weights: Mapping[str, float], terms: Mapping[str, Tensor]) -> Tensor:
    """Each weighted term's share of the summed gradient norms at the last layer that all terms share; sums to 1."""
    last = model.last_layer.weight
    norms = torch.stack(
        [torch.autograd.grad(weights[name] * term, last, retain_graph=True)[0].norm() for name, term in terms.items()]
    )
    return norms / norms.sum().clamp_min(torch.finfo(norms.dtype).tiny)
