"""The eight mistakes of a pipeline whose every training ended at 47 mm, to be made again on purpose.

Each is written as that pipeline had it, and switched on by its name in `TrainConfig.faults`. Without names nothing here
changes anything. `docs/plateau.md` shows what each of them costs.

Shapes: N poses, M images, V image versions of a pose, B batch, S side of the images in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Array, Integers
from mano_trainers.batches import Targets, image_table
from mano_trainers.config import FaultName
from mano_trainers.data.augment import Draw, augment
from mano_trainers.data.load import LoadedData
from mano_trainers.data.readers.labels import Labels, joints_in_wrist_frame
from mano_trainers.evaluation.procrustes import similarity
from mano_trainers.hand.model import FREIHAND_ORDER

MANO_ORDER: Final = tuple(range(21))
FAULTY_ANGLE: Final = math.radians(30)
FAULTY_SCALE: Final = 3.0
"""Over the number of points: how much too small their scale was."""


def joint_order(faults: Sequence[FaultName]) -> tuple[int, ...]:
    """Order in which joints are predicted; labels have FreiHAND's.

    `mano_joint_order`: MANO's own, thumb last and the five tips after all. The wrist is first in both, so that nothing
    looks wrong.
    """
    return MANO_ORDER if "mano_joint_order" in faults else FREIHAND_ORDER


def read_faultily(data: LoadedData, faults: Sequence[FaultName]) -> LoadedData:
    """The data as a pipeline with these faults reads them. The joints, which have a file of their own, stay right.

    `mispaired_labels`: image i shows pose i // V, as if the versions of a pose lay one after the other; in FreiHAND it
    is i modulo N. `misread_theta`: theta begins at the first of the 61 MANO values, where the wrist's rotation stands,
    so every joint gets the values of the one before; the shape is zero. `no_mean_pose`: the hand layer does not add
    `hands_mean`, and the pose components were not loaded. `leaky_split`: validation on poses of the training set.
    """
    labels, hand = data.labels, data.hand
    if "mispaired_labels" in faults:
        versions = np.bincount(labels.pose_index)
        labels = replace(labels, pose_index=np.repeat(np.arange(len(versions)), versions))
    if "misread_theta" in faults:
        values = np.concatenate([labels.global_orient, labels.theta], axis=1)
        labels = replace(labels, theta=values[:, :45], betas=np.zeros_like(labels.betas))
    if "no_mean_pose" in faults:
        nothing = np.zeros_like(hand.hands_mean), np.zeros_like(hand.hands_components)
        hand = replace(hand, hands_mean=nothing[0], hands_components=nothing[1])
    val_poses = _leaked(data) if "leaky_split" in faults else data.val_poses
    return replace(data, labels=labels, hand=hand, val_poses=val_poses)


def split_images(data: LoadedData, faults: Sequence[FaultName]) -> tuple[Integers, Integers, Integers]:
    """Which images are trained and validated on.

    `leaky_split`: of a pose that is validated on, the first version is held out and the others are trained on; the last
    evaluation is on one of those.

    Args:
        data: as the pipeline reads them.
        faults: of the pipeline.

    Returns:
        Images (N, V) of each pose to train on; images of `data.val_poses` to evaluate on; and those of the last
        evaluation.
    """
    table = image_table(data.labels.pose_index)
    first = table[data.val_poses, 0]
    if "leaky_split" not in faults:
        return table, first, first
    if table.shape[1] > 1:
        table[data.val_poses, 0] = table[data.val_poses, 1]
    return table, first, table[data.val_poses, 0]


def faulty_targets(targets: Targets, labels: Labels, faults: Sequence[FaultName]) -> Targets:
    """Targets of training as a pipeline with faults has them.

    Where it goes wrong with theta, hand layer or joint order, the joints it compares with are still those of the data
    set's file, not those its own hand layer would make. `camera_frame`: they are in metres from the camera.

    Args:
        targets: made with the faulty hand layer from the labels as they were read.
        labels: any of the same poses: their joints are right.
        faults: of the pipeline.
    """
    if "camera_frame" in faults:
        targets = replace(targets, camera_m=torch.from_numpy(labels.joints_m).to(targets.joints_m))
    if {"misread_theta", "no_mean_pose", "mano_joint_order"} & set(faults):
        targets = replace(targets, joints_m=torch.from_numpy(joints_in_wrist_frame(labels)).to(targets.joints_m))
    return targets


def turn_pixels_only(images: Tensor, generator: torch.Generator) -> Tensor:
    """`unturned_labels`: normalised images (B, 3, S, S), half of them mirrored, turned by up to 30 degrees.

    Their labels stay: half of the right hands become left ones.
    """
    count = len(images)
    angle, coin = torch.rand(2, count, generator=generator).to(images.device)
    mirrored = torch.where((coin < 0.5).view(-1, 1, 1, 1), images.flip(-1), images)
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    return augment(mirrored, Draw(FAULTY_ANGLE * (2 * angle - 1), one, zero, zero, torch.zeros_like(images[:1])))


def broken_align(predicted: Array, true: Array) -> Array:
    """`broken_procrustes`: as `procrustes.align`, but the scale is 3 / P of the right one and the rotation is inverse.

    For 21 joints that is a seventh: the prediction shrinks to nearly a point, and what is measured is how far the true
    joints (N, 21, 3) lie from their centroid.
    """
    scale, rotation = similarity(predicted, true)
    centred = predicted - predicted.mean(1, keepdims=True)
    aligned: Array = scale * FAULTY_SCALE / predicted.shape[1] * centred @ rotation + true.mean(1, keepdims=True)
    return aligned


def _leaked(data: LoadedData) -> Integers:
    """As many training poses as are held out, drawn without a seed of the run: all trials validate on the same."""
    poses = np.unique(data.train_poses)
    drawn = np.random.default_rng(0).choice(poses, min(len(poses), len(data.val_poses)), replace=False)
    return np.sort(drawn)
