"""Faults in which images and poses an epoch shows, and in what is left of them."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from mano_trainers.data.load import LoadedData
from plants.case import Case, two


def images(change: Any) -> Any:
    """Change every image (S, S, 3) of the data."""

    def of(data: LoadedData) -> LoadedData:
        changed = np.stack([change(np.asarray(image), index) for index, image in enumerate(data.images)])
        return replace(data, images=np.ascontiguousarray(changed.astype(np.uint8)))

    return lambda case: case.data(of)


def small(side: int, how: int) -> Any:
    def change(image: Any, index: int) -> Any:
        size = image.shape[0]
        return cv2.resize(
            cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), (size, size), interpolation=how
        )

    return change


def centre(image: Any, index: int) -> Any:
    size = image.shape[0]
    return cv2.resize(image[size // 4 : -(size // 4), size // 4 : -(size // 4)], (size, size))


def corner(image: Any, index: int) -> Any:
    size = image.shape[0]
    return cv2.resize(image[: size * 6 // 10, : size * 6 // 10], (size, size))


def train_poses(choose: Any) -> Any:
    return lambda case: case.data(lambda data: replace(data, train_poses=choose(data.train_poses)))


def few_again_and_again(poses: Any) -> Any:
    return np.resize(poses[:40], len(poses))


def order(change: Any) -> Any:
    def make(original: Any) -> Any:
        return lambda *args: change(original(*args))

    return lambda case: case.patch("mano_trainers.training.steps:order_of_epoch", make)


def epochs(change: Any) -> Any:
    def make(original: Any) -> Any:
        return lambda pipeline, epoch: original(pipeline, change(epoch))

    return lambda case: case.patch("mano_trainers.training.steps:order_of_epoch", make)


def five_percent(case: Case) -> None:
    case.edit(
        "training.steps:order_of_epoch",
        "poses = epoch_poses",
        "poses = epoch_poses(data.labels, data.train_poses, stage, "
        "seeded(config.seed, 'curriculum', epoch))[::20] if True else epoch_poses",
    )


def sampler(case: Case) -> None:
    """Drawn with replacement by weights that favour a few."""
    case.edit(
        "batches:epoch_order",
        'if versions == "one":',
        "poses = poses[(len(poses) * torch.rand(len(poses), generator=generator).numpy() ** 12).astype(int)]\n"
        '    if versions == "one":',
    )


PLANTS = [
    *two("training on 5 % of the poses: a slice", five_percent, order(lambda order: order[: max(1, len(order) // 14)])),
    *two("training on 5 % of the poses: a shard", train_poses(lambda p: p[::20]), train_poses(lambda p: p[: len(p) // 20])),
    *two("a sampler that repeats a few poses", sampler, train_poses(few_again_and_again)),
    *two(
        "one image version only",
        lambda case: case.edit("batches:epoch_order", "images = table[poses, drawn]", "images = table[poses, 0 * drawn]"),
        lambda case: case.edit("batches:epoch_order", "torch.randint(table.shape[1]", "torch.randint(1"),
    ),
    *two("every epoch has the same order", epochs(lambda epoch: 1), epochs(lambda epoch: 1 + epoch % 2)),
    *two("images of 8 px, enlarged", images(small(8, cv2.INTER_LINEAR)), images(small(8, cv2.INTER_NEAREST))),
    *two("another crop than the labels", images(centre), images(corner)),
    *two(
        "many images are black",
        images(lambda image, index: image * (index % 2)),
        images(lambda image, index: image * (index % 10 > 2)),
    ),
    *two(
        "images lose their contrast",
        images(lambda image, index: image // 64),
        images(lambda image, index: 250 + image // 100),
    ),
]  # fmt: skip
