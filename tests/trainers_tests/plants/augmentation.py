"""Faults in caches, in how pixels get into a batch, and in augmentation."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mano_trainers.data.load import LoadedData
from plants.case import two


def drawn(change: Any) -> Any:
    """Change what is drawn for a batch."""

    def make(original: Any) -> Any:
        return lambda *args: change(original, *args)

    return lambda case: case.patch("mano_trainers.data.augment:draw", make)


def same_angle(original: Any, *args: Any) -> Any:
    draw = original(*args)
    return replace(draw, angle=draw.angle[:1].expand_as(draw.angle).clone())


def same_all(original: Any, count: int, *args: Any) -> Any:
    draw = original(count, *args)
    first = {k: getattr(draw, k)[:1].expand(count).clone() for k in ("angle", "contrast", "brightness", "noise")}
    return replace(draw, **first)


def far(original: Any, *args: Any) -> Any:
    draw = original(*args)
    return replace(draw, angle=12 * draw.angle)


def washed_out(original: Any, *args: Any) -> Any:
    draw = original(*args)
    return replace(draw, contrast=0 * draw.contrast)


def same_every_step(original: Any, count: int, size: int, generator: Any, *args: Any) -> Any:
    return original(count, size, torch.Generator().manual_seed(0), *args)


def seeded(change: Any) -> Any:
    def make(original: Any) -> Any:
        return lambda seed, purpose, index: original(seed, purpose, change(index) if purpose == "augment" else index)

    return lambda case: case.patch("mano_trainers.batches:seeded", make)


def batch(change: Any) -> Any:
    """Change the pixels (B, 3, S, S) that every batch has, in training and evaluation."""

    def make(original: Any) -> Any:
        return lambda *args, **kw: change(original(*args, **kw))

    return lambda case: case.patch("mano_trainers.batches:make_batch", make)


def training_images(change: Any) -> Any:
    def make(original: Any) -> Any:
        def augmented(*args: Any, **kw: Any) -> Any:
            images, target = original(*args, **kw)
            return change(images), target

        return augmented

    return lambda case: case.patch("mano_trainers.training.pipeline:augmented", make)


def targets(change: Any) -> Any:
    def make(original: Any) -> Any:
        return lambda self, poses, angle: original(self, poses, change(angle))

    return lambda case: case.patch("mano_trainers.batches:Targets.of", make)


def half_flipped(images: Any) -> Any:
    return torch.cat((images[::2].flip(-1), images[1::2]))


def stale(change: Any) -> Any:
    """The cache holds what another decoder made of the files."""
    return lambda case: case.data(lambda data: replace(data, images=change(np.array(data.images))), stale=True)


def without_image(data: LoadedData) -> LoadedData:
    rows = data.labels.pose_index != data.train_poses[7]
    return replace(
        data, images=np.array(data.images)[rows], labels=replace(data.labels, pose_index=data.labels.pose_index[rows])
    )


def last_without_image(data: LoadedData) -> LoadedData:
    rows = data.labels.pose_index != len(data.labels.theta) - 1
    return replace(
        data, images=np.array(data.images)[rows], labels=replace(data.labels, pose_index=data.labels.pose_index[rows])
    )


PLANTS = [
    *two("a stale cache of images", stale(lambda p: p[..., ::-1].copy()), stale(lambda p: np.roll(p, 2, axis=2))),
    *two("the same augmentation for every sample", drawn(same_angle), drawn(same_all)),
    *two("the same augmentation in every step", drawn(same_every_step), seeded(lambda index: index % 2)),
    *two("labels do not turn with the pixels", targets(lambda angle: None), targets(lambda a: None if a is None else -a)),
    *two("pixels are mirrored", training_images(lambda images: images.flip(-1)), training_images(half_flipped)),
    *two("channels in another order", batch(lambda images: images.flip(1)), training_images(lambda images: images.flip(1))),
    *two(
        "pixels are shifted",
        batch(lambda images: images.roll((5, 5), (2, 3))),
        training_images(lambda images: images.roll(6, 3)),
    ),
    *two("a pose without an image", lambda case: case.data(without_image), lambda case: case.data(last_without_image)),
    *two("augmentation destroys the image", drawn(far), drawn(washed_out)),
    *two(
        "images are not normalised",
        batch(lambda images: 127.5 * (images + 1)),
        batch(lambda images: images / 10),
    ),
]  # fmt: skip
