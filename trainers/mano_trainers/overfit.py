"""The classic check of a pipeline: can it memorise a few images?

It cannot where labels contradict each other (frames, units, joint orders, mean pose), or the model lacks an output. It
does not detect labels that belong to other images: those are memorised as well.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

import numpy as np

from mano_trainers.batches import image_table
from mano_trainers.config import TrainConfig
from mano_trainers.data.load import LoadedData, load_data
from mano_trainers.data.readers.labels import Labels
from mano_trainers.device import process
from mano_trainers.errors import ConfigError
from mano_trainers.loop import train_on
from mano_trainers.report import EpochReport

TARGET_MM: Final = 1.0
"""PA-MPJPE below which the images are memorised."""
EPOCHS, PASSES = 10, 80


def overfit(config: TrainConfig, count: int, workdir: Path) -> Iterator[EpochReport]:
    """Train on the first `count` training poses, each in one image, and validate on the same.

    Each of the 10 epochs passes 80 times over the images.

    Raises:
        ConfigError: the data hold fewer poses.
        DataError: they cannot be read.
    """
    chosen = overfit_config(config, count)
    with process.settings(chosen) as device:
        data = load_data(config.data)
        if count < 2:
            raise ConfigError("must be at least 2", f"--overfit {count}")
        if count > len(data.train_poses):
            raise ConfigError(
                f"the data hold only {len(data.train_poses)} training poses", f"--overfit {count}", "ask for fewer"
            )
        yield from train_on(few_images(data, count), chosen, device, workdir)


def overfit_config(config: TrainConfig, count: int) -> TrainConfig:
    """The config without what prevents a model from giving the exact answer: augmentation, priors, weight decay,
    curriculum.

    And with a predicted shape: one that is not predicted leaves an error of millimetres.
    """
    mapping = config.model_dump()
    mapping["augment"] = False
    mapping["data"] |= {"curriculum": (), "versions": "one"}
    mapping["model"] |= {"predict_shape": True}
    mapping["loss"] |= {"lambda_pca": 0.0, "lambda_reg": 0.0, "lambda_shape": config.loss.lambda_shape or 0.1}
    mapping["optim"] |= {"epochs": EPOCHS, "weight_decay": 0.0, "batch_size": min(count, config.optim.batch_size)}
    return TrainConfig.model_validate(mapping)


def few_images(data: LoadedData, count: int) -> LoadedData:
    """The first image of the first `count` training poses: as validation set, and 80 times as training set."""
    poses = data.train_poses[:count]
    images = image_table(data.labels.pose_index)[poses, 0]
    numbers = np.arange(count)
    rows = {field.name: getattr(data.labels, field.name) for field in fields(Labels) if field.name != "pose_index"}
    labels = Labels(pose_index=numbers, **{name: values[poses] for name, values in rows.items()})
    train_poses = np.tile(numbers, PASSES)
    return replace(data, images=data.images[images], labels=labels, train_poses=train_poses, val_poses=numbers)
