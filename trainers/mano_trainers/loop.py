"""The training loop, from top to bottom.

Every random draw derives from the seed and from where training is: weights from the seed, order and image versions
from (seed, epoch), augmentation from (seed, step). An evaluation inside an epoch cuts its order into windows and draws
nothing, so how often a run is evaluated does not change its weights. Nothing draws from a global generator, so a
checkpoint holds no random state, several runs in one process do not disturb each other, and a resumed run repeats the
unbroken one.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, repeat
from pathlib import Path

import torch
from torch import Tensor, nn

from mano_trainers import checkpoint
from mano_trainers.arrays import Integers
from mano_trainers.batches import batch_memory, epoch_order, seeded
from mano_trainers.checkpoint import Checkpoint
from mano_trainers.config import ModelConfig, OptimConfig, TrainConfig
from mano_trainers.controls import shuffle_labels
from mano_trainers.data.curriculum import epoch_poses, weights_at
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.on_device import gather_ahead
from mano_trainers.device import process
from mano_trainers.errors import ConfigError, DataError
from mano_trainers.faults import control_report, pipeline_of
from mano_trainers.hand.load import load_hand
from mano_trainers.losses.balance import Balance
from mano_trainers.losses.terms import loss_terms
from mano_trainers.models import HandNet, build_model
from mano_trainers.models.pretrained import load_pretrained, pretrained_fingerprint
from mano_trainers.optimizer import WeightAverage, make_optimizer, raw_weights, set_learning_rate
from mano_trainers.pipeline import Pipeline, training_batch, validate
from mano_trainers.precision import mixed
from mano_trainers.report import OFFERS, EpochReport

__all__ = ["OFFERS", "PREFLIGHT", "numerics", "prepare", "run_bytes", "train"]
"""What a sweep calls or reads."""


def train(config: TrainConfig, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    """Train one model, reporting and writing a checkpoint every `config.evaluate_every` epochs.

    On one machine with one number of threads the same config gives the same bits, interrupted or not; only
    `train/seconds` and `train/images_per_s` differ. A loss that is not finite is reported (`train/loss` is NaN, no
    checkpoint), and then training ends.

    Args:
        config: what to train.
        workdir: where the checkpoints are written: `epoch_001/` and so on, or `step_0001/` where an epoch has several.
        resume: a checkpoint folder of the same config; training continues after it.

    Yields:
        One report an evaluation; its `train/` metrics are those of the steps since the one before. Of a `control`
        that does not train, one report and no checkpoint.

    Raises:
        DataError: the data cannot be read, or are not those the checkpoint was trained on.
        ConfigError: no CUDA device, no such pretrained weights, an epoch with fewer steps than evaluations, or the
            checkpoint belongs to another config.
        CheckpointError: the checkpoint to resume from is damaged.
    """
    with process.settings(config) as device:
        data = load_data(config.data)
        if config.control == "shuffled_labels":
            data = shuffle_labels(data, config.seed)
        if config.control in (None, "shuffled_labels"):
            yield from train_on(data, config, device, workdir, resume)
        else:
            yield control_report(data, config)


def train_on(
    data: LoadedData, config: TrainConfig, device: torch.device, workdir: Path, resume: Path | None = None
) -> Iterator[EpochReport]:
    """As `train`, on data that were loaded before and with `process.settings` made."""
    pipeline = pipeline_of(data, config, device)

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build_model(config.model, config.data.image_size, data.hand)
    if config.model.pretrained is not None and resume is None:
        load_pretrained(model, config.model.pretrained)
    model = model.to(device).to(memory_format=torch.channels_last)
    average = None if config.optim.ema_decay is None else WeightAverage(model, config.optim.ema_decay)
    shown = model if average is None else average.model
    if config.compile:
        model.backbone.compile(dynamic=False)  # in place: the names of the weights stay
    optimizer = make_optimizer(model, config.optim)
    balance = Balance(config.loss, device)
    windows = config.evaluations_an_epoch
    done = 0 if resume is None else _restore(resume, pipeline, model, optimizer, balance, average)

    for evaluation in range(done + 1, config.optim.epochs * windows + 1):
        epochs_before, window = divmod(evaluation - 1, windows)
        order = order_of_epoch(pipeline, epochs_before + 1)
        start, stop = (len(order) * edge // windows for edge in (window, window + 1))
        if start == stop:
            raise ConfigError(f"an epoch has only {len(order)} steps, got {windows} evaluations", "evaluate_every")
        steps = StepRange(order[start:stop], epochs_before * len(order) + start, config.optim.epochs * len(order))
        metrics = _train_steps(pipeline, model, optimizer, balance, average, steps)
        validated, picture = validate(pipeline, shown, last=evaluation == config.optim.epochs * windows)
        metrics |= validated
        epoch = evaluation / windows
        finite = math.isfinite(metrics["train/loss"])
        name = f"epoch_{evaluation:03d}" if windows == 1 else f"step_{evaluation:04d}"
        folder = workdir / name if finite else None
        if folder is not None:
            state = {
                "optimizer": optimizer.state_dict(),
                "balance": balance.state_dict(),
                "raw_weights": raw_weights(model, average),
                "data_fingerprint": data.fingerprint,
            }
            mapping = config.model_dump(mode="json")
            saved = Checkpoint(evaluation, epoch, mapping, shown.state_dict(), state)
            checkpoint.save(folder, saved, {"predictions.jpg": picture})
        yield EpochReport(evaluation, epoch, metrics, folder, total_epochs=float(config.optim.epochs))
        if not finite:
            return


def prepare(config: TrainConfig) -> dict[str, str]:
    """Make data set and caches, so that many runs may start at once; fingerprints of what a run reads."""
    data = load_data(config.data)
    fingerprints = {"data": data.fingerprint, "hand": data.hand.fingerprint}
    if config.model.pretrained is not None:
        fingerprints["pretrained"] = pretrained_fingerprint(config.model.pretrained)
    return fingerprints


def numerics(config: TrainConfig) -> dict[str, str]:
    """Device, torch's build and settings, for the record of a run."""
    return process.numerics(config)


PREFLIGHT = "mano_trainers.preflight:preflight"
REUSE_PROCESS = True
"""Trials may share a process: a training puts back what it sets (`device.process`), and draws from its own seeds."""
"""Checks of data, metric, losses and training that are made before a sweep."""


def run_bytes(config: TrainConfig) -> int:
    """About what the checkpoints of a full run take: weights, those that are averaged, and the optimiser's two moments,
    each evaluation anew."""
    values = _weights(config.model, config.data.image_size, config.data.hand)
    copies = 3 if config.optim.ema_decay is None else 4
    return copies * 4 * values * config.optim.epochs * config.evaluations_an_epoch


@lru_cache
def _weights(config: ModelConfig, image_size: int, hand: str) -> int:
    """Number of weights of a model; many configs of a sweep have the same one."""
    with torch.device("meta"):
        model = build_model(config, image_size, load_hand(hand))
    return sum(parameter.numel() for parameter in model.parameters())


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


def _train_steps(
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


def _restore(
    folder: Path,
    pipeline: Pipeline,
    model: HandNet,
    optimizer: torch.optim.Optimizer,
    balance: Balance,
    average: WeightAverage | None,
) -> int:
    """Put a checkpoint's state into model, optimizer, balance and average; the evaluations that were before it."""
    saved = checkpoint.load(folder)
    config = pipeline.config.model_dump(mode="json")
    # A field that is newer than the checkpoint has its default there, which is what training did before it.
    trained_with = TrainConfig.model_validate(saved.config).model_dump(mode="json")
    if trained_with != config:
        different = [key for key in config if trained_with[key] != config[key]]
        raise ConfigError(
            f"trained with another config, which differs in {', '.join(different)}",
            str(folder),
            "resume with the config it was trained with, or train from the start",
        )
    if saved.state["data_fingerprint"] != pipeline.data.fingerprint:
        raise DataError(
            f"trained on other data than {pipeline.config.data.root} holds now", str(folder), "train from the start"
        )
    model.load_state_dict(saved.weights if average is None else saved.state["raw_weights"])
    if average is not None:
        average.model.load_state_dict(saved.weights)
    optimizer.load_state_dict(saved.state["optimizer"])
    balance.load_state_dict(saved.state["balance"])
    return round(saved.epoch * pipeline.config.evaluations_an_epoch)
