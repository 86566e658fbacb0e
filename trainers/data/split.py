"""Training and validation never share a pose: the versions of one pose differ in their background only."""

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def split_by_pose(poses: int, val_fraction: float, seed: int = 0) -> tuple[Integers, Integers]:
    """Split pose indices; the training seed has no say, so that all trials validate on the same images.

    Args:
        poses: number of poses.
        val_fraction: share held out, between 0 and 1; at least one pose is on each side.
        seed: of the split.

    Returns:
        Sorted training poses and sorted validation poses.
    """
    held_out = min(max(1, round(poses * val_fraction)), poses - 1)
    order = np.random.default_rng(seed).permutation(poses)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
