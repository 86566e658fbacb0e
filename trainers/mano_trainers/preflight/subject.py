"""What all checks of a preflight examine: the pipeline of the config, built by the functions that training uses."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from mano_trainers.arrays import Integers, evenly
from mano_trainers.config import LossConfig, TrainConfig
from mano_trainers.data.load import LoadedData
from mano_trainers.losses.terms import loss_weights
from mano_trainers.report import CheckResult, CheckStatus
from mano_trainers.training.faults import pipeline_of
from mano_trainers.training.pipeline import Pipeline

SAMPLES: Final = 512
"""Poses that the checks of labels and images look at, evenly spaced over all training poses."""


@dataclass(frozen=True)
class Subject:
    """A pipeline under examination.

    Attributes:
        config: the base of the sweep.
        pipeline: of the config, with every loss term that a corner of the search uses, and with wrist rotations.
        data: as loaded, before the pipeline reads them.
        corners: configs at the ends of the search space, or the variants.
        poses: some training poses.
    """

    config: TrainConfig
    pipeline: Pipeline
    data: LoadedData
    corners: tuple[TrainConfig, ...]
    poses: Integers

    @property
    def device(self) -> torch.device:
        return self.pipeline.device


Check = Callable[[Subject], Iterator[CheckResult]]


def make_subject(
    data: LoadedData, config: TrainConfig, corners: Sequence[TrainConfig], device: torch.device
) -> Subject:
    """Build the pipeline of a config, so that all terms of all corners can be computed with it."""
    corners = tuple(corners) or (config,)
    loss = used_terms([config, *corners]).model_copy(update={"lambda_orient": 1.0})
    pipeline = pipeline_of(data, config.model_copy(update={"loss": loss}), device)
    return Subject(config, pipeline, data, corners, evenly(np.unique(data.train_poses), SAMPLES))


def used_terms(configs: Sequence[TrainConfig]) -> LossConfig:
    """The first config's losses, with weight 1 for each term that any of the configs uses."""
    terms = {name for config in configs for name in loss_weights(config.loss)}
    return configs[0].loss.model_copy(update={f"lambda_{name}": 1.0 for name in terms})


def verdict(name: str, sound: bool, measured: str, expected: str, help: str) -> CheckResult:
    """A check that passes or fails."""
    if sound:
        return CheckResult(name, CheckStatus.PASS, measured, expected)
    return CheckResult(name, CheckStatus.FAIL, measured, expected, help)


def warning(name: str, sound: bool, measured: str, expected: str, help: str) -> CheckResult:
    """A check that passes or warns."""
    if sound:
        return CheckResult(name, CheckStatus.PASS, measured, expected)
    return CheckResult(name, CheckStatus.WARN, measured, expected, help)
