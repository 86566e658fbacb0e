"""Is what validation shows unseen in training? By pose number, by label, and by pixels."""

from collections.abc import Iterator

import numpy as np

from mano_trainers.arrays import Integers
from mano_trainers.preflight.data.appearance import check_pictures
from mano_trainers.preflight.subject import Subject, verdict
from mano_trainers.report import CheckResult
from mano_trainers.training.steps import order_of_epoch

ROUNDED = 4
"""Decimals in which two labels must agree to be the same: 1e-4 rad is a hundredth of a millimetre at a fingertip."""


def check_split(subject: Subject) -> Iterator[CheckResult]:
    """Poses and images on both sides of the split, and how those of validation look."""
    pipeline = subject.pipeline
    shown = _trained_images(subject)
    validated = np.unique(np.concatenate([pipeline.val_images, pipeline.last_val_images]))
    yield _poses(subject, shown, validated)
    yield _images(subject, shown, validated)
    yield check_pictures(subject)


def _trained_images(subject: Subject) -> Integers:
    """Every image that an epoch may show, and those that the first one does."""
    pipeline = subject.pipeline
    first = order_of_epoch(pipeline, 1)
    return np.union1d(pipeline.table[pipeline.data.train_poses].reshape(-1), first.reshape(-1))


def _poses(subject: Subject, shown: Integers, validated: Integers) -> CheckResult:
    labels = subject.pipeline.data.labels
    # Not by the wrist's rotation: another view of a pose is not another pose.
    rows = np.concatenate([labels.theta, labels.betas], axis=1).round(ROUNDED) + 0.0
    _, same = np.unique(rows, axis=0, return_inverse=True)
    pose_of = same.reshape(-1)[labels.pose_index]  # poses with equal labels are one
    trained, held_out = np.unique(pose_of[shown]), np.unique(pose_of[validated])
    shared = np.intersect1d(trained, held_out)
    return verdict(
        "split.poses",
        len(shared) == 0,
        f"{len(shared)} of {len(held_out)} validated poses are trained on",
        "0",
        "split by pose, not by image: the versions of a pose differ in their background only; and never evaluate on "
        "the training file",
    )


def _images(subject: Subject, shown: Integers, validated: Integers) -> CheckResult:
    images = subject.pipeline.data.images
    row = images.shape[1] // 2  # one line of each tells nearly all apart, and is quick to read
    lines = {images[index, row].tobytes() for index in validated}
    alike = [index for index in shown if images[index, row].tobytes() in lines]
    trained = {images[index].tobytes() for index in alike}
    copies = [int(index) for index in validated if images[index].tobytes() in trained]
    return verdict(
        "split.images",
        not copies,
        f"{len(copies)} of {len(validated)} validated images are trained on, pixel by pixel",
        "0",
        f"copies on both sides of the split, such as image {min(copies, default=0)}: remove them, or put their poses "
        "into one group",
    )
