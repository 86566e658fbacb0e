"""The training loop, from top to bottom.

Every random draw derives from the seed and from where training is: weights from the seed, order and image versions
from (seed, epoch), augmentation from (seed, step). An evaluation inside an epoch cuts its order into windows and draws
nothing, so how often a run is evaluated does not change its weights. Nothing draws from a global generator, so a
checkpoint holds no random state, several runs in one process do not disturb each other, and a resumed run repeats the
unbroken one.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch

from mano_trainers import checkpoint
from mano_trainers.checkpoint import Checkpoint
from mano_trainers.config import ModelConfig, TrainConfig
from mano_trainers.controls import shuffle_labels
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.device import process
from mano_trainers.errors import ConfigError, DataError
from mano_trainers.faults import control_report, pipeline_of
from mano_trainers.hand.load import load_hand
from mano_trainers.losses.balance import Balance
from mano_trainers.models import HandNet, build_model
from mano_trainers.models.pretrained import load_pretrained, pretrained_fingerprint
from mano_trainers.optimizer import WeightAverage, make_optimizer, raw_weights
from mano_trainers.pipeline import Pipeline, validate
from mano_trainers.report import OFFERS, EpochReport
from mano_trainers.steps import StepRange, order_of_epoch, train_steps

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
        metrics = train_steps(pipeline, model, optimizer, balance, average, steps)
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
"""Checks of data, metric, losses and training that are made before a sweep."""
REUSE_PROCESS = True
"""Trials may share a process: a training puts back what it sets (`device.process`), and draws from its own seeds."""


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
