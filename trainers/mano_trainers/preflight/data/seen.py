"""What does an epoch show? Its order must cover the training poses, in all their versions, in a new order each time."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from mano_trainers.arrays import Integers
from mano_trainers.preflight.subject import Subject, verdict
from mano_trainers.report import CheckResult
from mano_trainers.training.steps import order_of_epoch

EPOCHS: Final = 3
COVERED: Final = 0.95
"""Share of what an epoch can show that it must show."""
SPLIT_COVERED: Final = 0.9
FEW_ORDERED: Final = 30
"""Images of an epoch, below which chance may put the same poses into the same batches."""
FEW_SHOWN: Final = 50
"""Images of each version, below which chance decides how often a version comes."""


def check_seen(subject: Subject) -> Iterator[CheckResult]:
    """Poses, versions and order of the first epochs, by the function that training takes them from."""
    orders = [order_of_epoch(subject.pipeline, epoch) for epoch in range(1, EPOCHS + 1)]
    yield _split(subject)
    yield _poses(subject, orders[0])
    yield _versions(subject, orders)
    yield _anew(subject, orders)


def _split(subject: Subject) -> CheckResult:
    """Poses on either side of the split, of all that have labels; and none twice."""
    data = subject.pipeline.data
    used, total = len(np.union1d(data.train_poses, data.val_poses)), len(data.labels.theta)
    train, val = (1 - len(np.unique(poses)) / max(1, len(poses)) for poses in (data.train_poses, data.val_poses))
    return verdict(
        "seen.split",
        used >= SPLIT_COVERED * total and max(train, val) == 0,
        f"{used} of {total} poses are trained or validated on; {train:.0%} and {val:.0%} of those are repeated",
        f"at least {SPLIT_COVERED:.0%}; 0%",
        "poses are lost between the reader and the split: a shard, a slice or a filter left in; or the same few are "
        "repeated",
    )


def _poses(subject: Subject, order: Integers) -> CheckResult:
    """Different poses, and images, of the first epoch against the most that its poses allow."""
    pipeline, data = subject.pipeline, subject.pipeline.data
    train = np.unique(data.train_poses)
    if pipeline.config.data.versions == "all":
        shown, possible, what = len(np.unique(order)), len(np.unique(pipeline.table[train])), "images"
    else:
        shown, possible, what = len(np.unique(data.labels.pose_index[order])), len(train), "poses"
    batch = min(pipeline.config.optim.batch_size, possible)
    most = possible // batch * batch  # what is left of a last batch is left out
    weighted = bool(pipeline.config.data.curriculum)
    return verdict(
        "seen.poses",
        weighted or shown >= COVERED * most,
        f"an epoch shows {shown} of {possible} training {what}" + (", by the weights of its stage" if weighted else ""),
        f"at least {COVERED:.0%} of the {most} that fill whole batches" if not weighted else "as the curriculum says",
        "the epoch's order leaves training data out: a slice, a limit of batches, or a sampler that prefers a few",
    )


def _versions(subject: Subject, orders: list[Integers]) -> CheckResult:
    """How often each image version of a pose is shown."""
    pipeline = subject.pipeline
    columns = pipeline.table.shape[1]
    of_image = np.zeros(len(pipeline.data.images), dtype=np.int64)
    for column in range(columns):
        of_image[pipeline.table[:, column]] = column
    shown = np.bincount(of_image[np.concatenate([order.reshape(-1) for order in orders])], minlength=columns)
    there = np.unique(of_image)
    least = int(shown[there].min())
    few = shown.sum() < FEW_SHOWN * len(there)
    return verdict(
        "seen.versions",
        few or least >= 0.5 * shown.sum() / len(there),
        f"of {len(there)} image versions the rarest makes up {least / max(1, shown.sum()):.0%} of {EPOCHS} epochs",
        f"at least {0.5 / len(there):.0%}" + (" (too few images to tell)" if few else ""),
        "each epoch draws one version of each pose: all versions must be shown in turn",
    )


def _anew(subject: Subject, orders: list[Integers]) -> CheckResult:
    """Images, and the poses of each batch, that are repeated: a newly drawn version hides that poses are not
    shuffled."""
    poses = [np.sort(subject.pipeline.data.labels.pose_index[order], axis=1) for order in orders]
    one = len(orders[0]) < 2
    told = orders if one or orders[0].size < FEW_ORDERED else poses
    same = sum(np.array_equal(told[i], told[j]) for i in range(EPOCHS) for j in range(i))
    return verdict(
        "seen.order",
        one or same == 0,
        f"{same} of {EPOCHS * (EPOCHS - 1) // 2} pairs of epochs show the same poses in the same batches",
        "0",
        "reshuffle in each epoch: the generator of an epoch's order must be seeded with the epoch's number",
    )
