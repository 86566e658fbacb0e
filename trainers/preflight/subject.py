"""What all checks of a preflight look at: the pipeline of the config, built by the functions that training uses."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from trainers.batches import Integers
from trainers.config import DataConfig, LossConfig, TrainConfig
from trainers.data.crop import picture_size
from trainers.data.labels import Array, Labels
from trainers.data.load import LoadedData, cache_folder, embedded_root
from trainers.data.read import read_set
from trainers.losses import loss_weights
from trainers.pipeline import Pipeline, make_pipeline
from trainers.report import CheckResult, CheckStatus

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
    pipeline = make_pipeline(data, config.model_copy(update={"loss": loss}), device)
    return Subject(config, pipeline, data, corners, spread(np.unique(data.train_poses), SAMPLES))


def used_terms(configs: Sequence[TrainConfig]) -> LossConfig:
    """The first config's losses, with weight 1 for each term that any of the configs uses."""
    terms = {name for config in configs for name in loss_weights(config.loss)}
    return configs[0].loss.model_copy(update={f"lambda_{name}": 1.0 for name in terms})


def spread(values: Integers, most: int) -> Integers:
    """At most so many of the values, evenly spaced."""
    chosen: Integers = values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(np.int64))]
    return chosen


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


def picture_sides(config: DataConfig, labels: Labels) -> Array:
    """Side in pixels of the picture that each pose's camera matrix belongs to, (N,): images are resized afterwards."""
    sides = np.empty(len(labels.theta))
    cache_dir = cache_folder()
    for item in config.all_sets:
        root = embedded_root(config, cache_dir) if item.root == "embedded" else Path(item.root).expanduser()
        if item.format == "freihand":  # its pictures are all of one size
            side: float | Array = picture_size(root / "training" / "rgb" / "00000000.jpg")[0]
        else:
            pictures = read_set(root, item.format, config.hand, name=item.name, keep=cache_dir)[1]
            boxes = np.array([picture.box for picture in pictures])
            side = boxes[:, 2] - boxes[:, 0]
        sides[labels.set_name == item.name] = side
    return sides
