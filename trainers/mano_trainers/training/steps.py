"""The steps between two evaluations: what each shows and how the weights follow. See `mano_trainers.loop`."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

import torch
from torch import Tensor, nn

from mano_trainers.arrays import Integers
from mano_trainers.batches import batch_memory, epoch_order, seeded
from mano_trainers.config import OptimConfig
from mano_trainers.data.curriculum import epoch_poses, weights_at
from mano_trainers.data.on_device import gather_ahead
from mano_trainers.device.replay import Record, Replay, on_side_stream, record_on_gpu
from mano_trainers.losses.balance import Balance
from mano_trainers.losses.terms import Target, loss_terms
from mano_trainers.models import HandNet, Prediction
from mano_trainers.optimizer import WeightAverage, set_learning_rate
from mano_trainers.precision import mixed
from mano_trainers.training.pipeline import Pipeline, RawBatch, augmented, raw_batch


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


class Training:
    """A network and what its steps change with it: all in place, so that a GPU can record a step and replay it.

    Args:
        pipeline: of the run.
        model: what is trained.
        optimizer: from `make_optimizer`.
        balance: of the loss terms.
        record: how a step is recorded; None: steps are done one by one. Default: recorded on a GPU, if the config says
            so. A faulty pipeline that draws while it turns pixels is never recorded.

    Attributes:
        augmented: `pipeline.augmented` of a batch, compiled if the config says so.
        terms: the loss terms of predictions, likewise.
        sums: of the loss and its terms, over the steps since they were last set to zero.
        shares: of each term in the gradient, at the last step that was asked for them.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        model: HandNet,
        optimizer: torch.optim.Optimizer,
        balance: Balance,
        record: Record | None = None,
    ) -> None:
        self.pipeline, self.model, self.optimizer, self.balance = pipeline, model, optimizer, balance
        count, device = len(balance.fixed), pipeline.device
        self.sums, self.shares = torch.zeros(1 + count, device=device), torch.zeros(count, device=device)
        if device.type == "cuda" and pipeline.config.cuda_graph:
            record = record_on_gpu
        self.augmented: Callable[[RawBatch], tuple[Tensor, Target]] = lambda raw: augmented(pipeline, raw)
        self.terms: Callable[[Prediction, Target], dict[str, Tensor]] = lambda prediction, target: loss_terms(
            pipeline.criterion, prediction, target
        )
        if pipeline.config.compile:  # hundreds of small kernels become a few
            self.augmented = torch.compile(self.augmented, dynamic=False)
            self.terms = torch.compile(self.terms, dynamic=False)
        self.replay = None
        if record is not None and pipeline.turn_pixels is None:
            self.replay = Replay(lambda raw: self.step(*self.augmented(raw)), record)

    def step(self, images: Tensor, target: Target, weights: Mapping[str, float] | None = None) -> None:
        """Learn from a batch. With the `weights` of the terms, `shares` are taken before the weights change."""
        config, device, model = self.pipeline.config, self.pipeline.device, self.model
        self.optimizer.zero_grad()
        self.balance.zero_grad()
        for rows in parts_of(len(images), config.optim.micro_batches):
            with mixed(device):
                prediction = model(images[rows])
            terms = self.terms(prediction, target.part(rows))
            loss = self.balance.total(terms, model.last_layer)
            if weights is not None and rows.start == 0:
                self.shares = gradient_shares(model.last_layer.weight, weights, terms)
            share = (rows.stop - rows.start) / len(images)
            (loss if share == 1 else share * loss).backward()
            self.sums += share * torch.stack([loss, *terms.values()]).detach()
        self.follow_gradients()

    def follow_gradients(self) -> None:
        """The end of a step: weights follow their gradients, within the limit."""
        _clip_gradients(self.model, self.pipeline.config.optim.clip_norm)
        self.optimizer.step()
        self.balance.step()


def train_steps(training: Training, average: WeightAverage | None, steps: StepRange) -> dict[str, float]:
    """The steps to the next evaluation; their `train/` metrics. Nothing waits for the device until the end.

    The first one is never a replay: it also measures the terms' shares, and is what a recording needs before it.
    """
    pipeline, model, optimizer, balance = training.pipeline, training.model, training.optimizer, training.balance
    config, device, order = pipeline.config, pipeline.device, steps.order
    weights = balance.weights()
    training.sums.zero_()
    memory = batch_memory(pipeline.images, order.shape[1], device)
    started = time.perf_counter()
    model.train()
    shown = zip(order, images_ahead(pipeline, order), strict=True)
    for step, (indices, gathered) in enumerate(shown, start=steps.first_step):
        set_learning_rate(optimizer, learning_rate(config.optim, step, steps.total_steps))
        raw = raw_batch(pipeline, indices, step, memory, gathered)
        if step == steps.first_step:
            with on_side_stream(device):
                training.step(*training.augmented(raw), weights)
        elif training.replay is None:
            training.step(*training.augmented(raw))
        else:
            training.replay(raw)
        if average is not None:
            average.update(model, step)
    return step_metrics(training, steps, weights, started)


def images_ahead(pipeline: Pipeline, order: Integers) -> Iterable[Tensor | None]:
    """The images of each step on the device where they are copied there ahead of it, else None for each step."""
    if pipeline.device.type == "cuda" and not isinstance(pipeline.images, Tensor):
        return gather_ahead(pipeline.images, order, pipeline.device)
    return repeat(None, len(order))


def step_metrics(
    training: Training, steps: StepRange, weights: Mapping[str, float], started_s: float
) -> dict[str, float]:
    """The `train/` metrics of steps that began at `started_s` of `time.perf_counter`; waits for the device.

    Args:
        training: after them.
        steps: those that it has done.
        weights: of the terms, before them.
        started_s: when they began.
    """
    device, balance, order = training.pipeline.device, training.balance, steps.order
    means = (training.sums / len(order)).tolist()
    seconds = time.perf_counter() - started_s
    metrics = _term_metrics(means, training.shares.tolist(), balance, weights) | {
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
    """The value and weight of each loss term: `means` of the total and of the terms, and their shares in the
    gradient."""
    metrics = {"train/loss": means[0] if math.isfinite(means[0]) else math.nan}
    metrics |= {f"train/loss_{name}": mean for name, mean in zip(weights, means[1:], strict=True)}
    metrics |= {f"train/grad_share_{name}": share for name, share in zip(weights, shares, strict=True)}
    if balance.learned:
        metrics |= {f"train/weight_{name}": weight for name, weight in balance.weights().items()}
    return metrics


def parts_of(count: int, parts: int) -> list[slice]:
    """Rows of `count` images in this many parts of nearly equal size."""
    edges = [count * number // parts for number in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges) if start < stop]


def _clip_gradients(model: nn.Module, clip_norm: float) -> None:
    """As `clip_grad_norm_`, but where the norm can be read without waiting, short gradients are not multiplied by 1."""
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if norm.device.type != "cpu" or not norm <= clip_norm:  # a NaN must reach the weights, and end training
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)


def gradient_shares(last: Tensor, weights: Mapping[str, float], terms: Mapping[str, Tensor]) -> Tensor:
    """Each weighted term's share of the summed gradient norms at `last`, weights that all terms share; sums to 1."""
    norms = torch.stack(
        [torch.autograd.grad(weights[name] * term, last, retain_graph=True)[0].norm() for name, term in terms.items()]
    )
    return shares_of(norms)


def shares_of(norms: Tensor) -> Tensor:
    """Shares of gradient norms (terms, ...) in their sum over the terms."""
    return norms / norms.sum(0).clamp_min(torch.finfo(norms.dtype).tiny)
