"""Training and validation never share a pose: the versions of one pose differ only in their background."""

import numpy as np

from mano_trainers.arrays import Integers
from mano_trainers.errors import DataError


def split_by_pose(poses: int, val_fraction: float, seed: int = 0) -> tuple[Integers, Integers]:
    """Split pose indices; the training seed has no influence, so all trials validate on the same images.

    Args:
        poses: number of poses.
        val_fraction: share held out, between 0 and 1; at least one pose is on each side.
        seed: of the split.

    Returns:
        Sorted training poses and sorted validation poses.
    """
    return split_by_group(np.arange(poses), val_fraction, seed)


def split_by_group(group: Integers, val_fraction: float, seed: int = 0) -> tuple[Integers, Integers]:
    """As `split_by_pose`, but all poses of a group go to one side: the frames of a video are nearly identical.

    Groups are taken in random order as long as they fit into the share; if none fits, the smallest is taken.

    Args:
        group: (N,) of each pose.
        val_fraction: share of the poses held out, as nearly as the groups allow and never more than that.
        seed: of the split.

    Raises:
        DataError: there is only one group.
    """
    names, sizes = np.unique(group, return_counts=True)
    if len(names) < 2:
        raise DataError(
            "all frames belong to one group, so none can be held out",
            help="read more than one sequence; validation on frames of a video trained on would be meaningless",
        )
    wanted = min(max(1, round(len(group) * val_fraction)), len(group) - 1)
    held_out: list[int] = []
    total = 0
    for index in np.random.default_rng(seed).permutation(len(names)):
        if total + sizes[index] <= wanted:
            held_out.append(index)
            total += sizes[index]
    in_val = np.isin(group, names[held_out or [int(sizes.argmin())]])
    return np.flatnonzero(~in_val), np.flatnonzero(in_val)


def validated_versions(poses: int, versions: int) -> Integers:
    """Image version (N,) in which each validated pose is shown: all in turn, always the same.

    A model that is judged on only one version is judged on only one kind of background.
    """
    shown: Integers = np.arange(poses) % versions
    return shown
