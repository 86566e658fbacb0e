"""The training loop, from top to bottom.

Every random draw derives from the seed and from where training is: weights from the seed, order and image versions from
(seed, epoch), augmentation from (seed, step). An evaluation inside an epoch cuts its order into windows and draws
nothing, so how often a run is evaluated does not change its weights. Nothing draws from a global generator, so a
checkpoint holds no random state, several runs in one process do not disturb each other, and a resumed run repeats the
uninterrupted one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from mano_trainers import checkpoint
from mano_trainers.checkpoint import Checkpoint
from mano_trainers.config import ModelConfig, TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.device import process
from mano_trainers.epoch_work import epoch_work
from mano_trainers.errors import ConfigError, DataError
from mano_trainers.hand.load import load_hand
from mano_trainers.lane_rules import lanes_problem
from mano_trainers.losses.balance import Balance
from mano_trainers.models import HandNet, build_model
from mano_trainers.models.pretrained import load_pretrained, pretrained_fingerprint
from mano_trainers.optimizer import WeightAverage, load_optimizer, make_optimizer, optimizer_state, raw_weights
from mano_trainers.report import OFFERS, EpochReport
from mano_trainers.training.controls import shuffle_labels
from mano_trainers.training.faults import control_report, pipeline_of
from mano_trainers.training.pipeline import Pipeline, validate, with_config
from mano_trainers.training.steps import StepRange, Training, order_of_epoch, train_steps

__all__ = ["LANES", "OFFERS", "PREFLIGHT", "epoch_work", "lanes_problem", "numerics", "prepare", "run_bytes", "train"]
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
        One report per evaluation; its `train/` metrics are those of the steps since the one before. Of a `control`
        that does not train, one report and no checkpoint.

    Raises:
        DataError: the data cannot be read, or are not those the checkpoint was trained on.
        ConfigError: no CUDA device, no such pretrained weights, an epoch with fewer steps than evaluations, or the
            checkpoint belongs to another config.
        CheckpointError: the checkpoint to resume from is damaged.
    """
    with process.settings(config) as device:
        data = load_data(config.data, config.needs_masks)
        if config.control == "shuffled_labels":
            data = shuffle_labels(data, config.seed)
        if config.control in (None, "shuffled_labels"):
            yield from train_on(data, config, device, workdir, resume)
        else:
            yield control_report(data, config)


def train_on(
    data: LoadedData, config: TrainConfig, device: torch.device, workdir: Path, resume: Path | None = None
) -> Iterator[EpochReport]:
    """As `train`, on data already loaded and with `process.settings` in effect."""
    run = begin(data, config, device, fresh=resume is None)
    done = 0 if resume is None else restore(run, resume)
    for evaluation in range(done + 1, evaluations(config) + 1):
        steps = steps_before(run.pipeline, evaluation)
        report = evaluated(run, train_steps(run.training, run.average, steps), evaluation, workdir)
        yield report
        if not math.isfinite(report.metrics["train/loss"]):
            return


@dataclass(frozen=True)
class Run:
    """One training: what its steps change, and the running average of the weights, where there is one."""

    training: Training
    average: WeightAverage | None

    @property
    def pipeline(self) -> Pipeline:
        """Everything that does not change."""
        return self.training.pipeline

    @property
    def shown(self) -> HandNet:
        """The network that is evaluated and kept."""
        return self.training.model if self.average is None else self.average.model


def begin(
    data: LoadedData, config: TrainConfig, device: torch.device, fresh: bool = True, beside: Run | None = None
) -> Run:
    """A run before its first step; if it is not `fresh`, its weights come from `restore`, not from other networks. It
    shares the data on the device with the one that is trained `beside` it as another lane."""
    pipeline = pipeline_of(data, config, device) if beside is None else with_config(beside.pipeline, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build_model(config.model, config.data.image_size, data.hand)
    if config.model.pretrained is not None and fresh:
        load_pretrained(model, config.model.pretrained)
    model = model.to(device).to(memory_format=torch.channels_last)
    average = None if config.optim.ema_decay is None else WeightAverage(model, config.optim.ema_decay)
    if config.compile:
        model.backbone.compile(dynamic=False)  # in place: the names of the weights stay
    optimizer = make_optimizer(model, config.optim)
    return Run(Training(pipeline, model, optimizer, Balance(config.loss, device)), average)


def evaluations(config: TrainConfig) -> int:
    """How many a whole run has."""
    return config.optim.epochs * config.evaluations_an_epoch


def steps_before(pipeline: Pipeline, evaluation: int) -> StepRange:
    """The steps between an evaluation, counted from 1, and the one before it.

    Raises:
        ConfigError: there are none.
    """
    config = pipeline.config
    windows = config.evaluations_an_epoch
    epochs_before, window = divmod(evaluation - 1, windows)
    order = order_of_epoch(pipeline, epochs_before + 1)
    start, stop = (len(order) * edge // windows for edge in (window, window + 1))
    if start == stop:
        raise ConfigError(f"an epoch has only {len(order)} steps, got {windows} evaluations", "evaluate_every")
    return StepRange(order[start:stop], epochs_before * len(order) + start, config.optim.epochs * len(order))


def evaluated(run: Run, metrics: dict[str, float], evaluation: int, workdir: Path) -> EpochReport:
    """Evaluate a run, and write its checkpoint unless its loss is not finite.

    Args:
        run: after the steps.
        metrics: of the steps.
        evaluation: which one it is, from 1.
        workdir: where the checkpoint is written.
    """
    config, training = run.pipeline.config, run.training
    windows = config.evaluations_an_epoch
    validated, picture = validate(run.pipeline, run.shown, last=evaluation == evaluations(config))
    metrics |= validated
    epoch = evaluation / windows
    name = f"epoch_{evaluation:03d}" if windows == 1 else f"step_{evaluation:04d}"
    folder = workdir / name if math.isfinite(metrics["train/loss"]) else None
    if folder is not None:
        state = {
            "optimizer": optimizer_state(training.optimizer),
            "balance": training.balance.state_dict(),
            "raw_weights": raw_weights(training.model, run.average),
            "data_fingerprint": run.pipeline.data.fingerprint,
        }
        if shares := run.pipeline.data.crop_shares:
            state["crop_shares"] = dict(shares)
        mapping = config.model_dump(mode="json")
        saved = Checkpoint(evaluation, epoch, mapping, run.shown.state_dict(), state)
        checkpoint.save(folder, saved, {"predictions.jpg": picture})
    return EpochReport(evaluation, epoch, metrics, folder, total_epochs=float(config.optim.epochs))


def prepare(config: TrainConfig) -> dict[str, str]:
    """Make data set and caches, so that many runs may start at once; fingerprints of what a run reads."""
    data = load_data(config.data, config.needs_masks)
    fingerprints = {"data": data.fingerprint, "hand": data.hand.fingerprint}
    if config.model.pretrained is not None:
        fingerprints["pretrained"] = pretrained_fingerprint(config.model.pretrained)
    return fingerprints


def numerics(config: TrainConfig) -> dict[str, str]:
    """Device, torch's build and settings, for the record of a run."""
    return process.numerics(config)


PREFLIGHT = "mano_trainers.preflight:preflight"
"""Checks of data, metric, losses and training to run before a sweep."""
LANES = "mano_trainers.lanes:train_lanes"
"""Trains several trials of one architecture at once, those with which `lanes_problem` has none."""
REUSE_PROCESS = True
"""Trials may share a process: a training restores what it sets (`device.process`), and draws from its own seeds."""


def run_bytes(config: TrainConfig) -> int:
    """Approximate size of the checkpoints of a full run: weights, averaged weights, and the optimiser's two moments,
    once for each evaluation."""
    values = _weights(config.model, config.data.image_size, config.data.hand)
    copies = 3 if config.optim.ema_decay is None else 4
    return copies * 4 * values * config.optim.epochs * config.evaluations_an_epoch


@lru_cache
def _weights(config: ModelConfig, image_size: int, hand: str) -> int:
    """Number of weights of a model; many configs of a sweep have the same model."""
    with torch.device("meta"):
        model = build_model(config, image_size, load_hand(hand))
    return sum(parameter.numel() for parameter in model.parameters())


def restore(run: Run, folder: Path) -> int:
    """Put a checkpoint's state into a run; the evaluations that were before it. Raises as `train`."""
    saved = checkpoint.load(folder)
    pipeline, training, average = run.pipeline, run.training, run.average
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
            f"not trained on the data that {pipeline.config.data.root} contains now",
            str(folder),
            "train from the start",
        )
    training.model.load_state_dict(saved.weights if average is None else saved.state["raw_weights"])
    if average is not None:
        average.model.load_state_dict(saved.weights)
    load_optimizer(training.optimizer, saved.state["optimizer"])
    training.balance.load_state_dict(saved.state["balance"])
    return round(saved.epoch * pipeline.config.evaluations_an_epoch)
