"""Faults in labels, and in which label belongs to which image."""

from dataclasses import replace
from typing import Any

import numpy as np

from mano_trainers.data.load import LoadedData
from plants.case import Case, two, val_rows

ROWS = ("theta", "global_orient", "betas", "joints_m", "intrinsics")


def shown_as(permute: Any) -> Any:
    """Poses are shown by images of other poses: `permute(data)` says which."""

    def change(data: LoadedData) -> LoadedData:
        of = permute(data)
        return replace(data, labels=replace(data.labels, pose_index=of[data.labels.pose_index]))

    return lambda case: case.data(change)


def shuffled(rows: Any, count: int, seed: int = 3) -> Any:
    of = np.arange(count)
    of[rows] = np.random.default_rng(seed).permutation(rows)
    return of


def some(data: LoadedData, share: float, seed: int = 5) -> Any:
    count = len(data.labels.theta)
    return np.random.default_rng(seed).choice(count, round(share * count), replace=False)


def half(data: LoadedData) -> Any:
    return shuffled(some(data, 0.5), len(data.labels.theta))


def neighbours(data: LoadedData) -> Any:
    """In every second pair of poses, the two have changed places."""
    of = np.arange(len(data.labels.theta))
    left = np.arange(0, len(of) - 4, 4)
    of[left], of[left + 2] = left + 2, left
    return of


def rolled(first: float, last: float, by: int) -> Any:
    def of(data: LoadedData) -> Any:
        count = len(data.labels.theta)
        order = np.arange(count)
        block = slice(int(first * count), int(last * count))
        order[block] = np.roll(order[block], by)
        return order

    return of


def replaced(share: float) -> Any:
    """The labels of some poses are copies of other poses' labels."""

    def change(data: LoadedData) -> LoadedData:
        rows = some(data, share, seed=8)
        source = np.random.default_rng(9).integers(0, len(data.labels.theta), len(rows))
        arrays = {}
        for name in ROWS:
            values = getattr(data.labels, name).copy()
            values[rows] = values[source]
            arrays[name] = values
        return replace(data, labels=replace(data.labels, **arrays))

    return lambda case: case.data(change)


def mirrored(choose: Any) -> Any:
    """Images of left hands, whose labels are those of right ones."""

    def change(data: LoadedData) -> LoadedData:
        images = np.array(data.images)
        rows = np.isin(data.labels.pose_index, choose(data))
        images[rows] = images[rows, :, ::-1]
        return replace(data, images=images)

    return lambda case: case.data(change)


def of_validation(permute: Any) -> Any:
    def change(data: LoadedData) -> LoadedData:
        of = np.arange(len(data.labels.theta))
        of[data.val_poses] = permute(data.val_poses)
        rows = val_rows(data)
        index = data.labels.pose_index.copy()
        index[rows] = of[index[rows]]
        return replace(data, labels=replace(data.labels, pose_index=index))

    return lambda case: case.data(change)


def quarters(data: LoadedData) -> LoadedData:
    count, images = len(data.labels.theta), len(data.images)
    return replace(data, labels=replace(data.labels, pose_index=np.arange(images) // (images // count)))


def version_shuffled(which: int) -> Any:
    def change(data: LoadedData) -> LoadedData:
        count = len(data.labels.theta)
        index = data.labels.pose_index.copy()
        rows = np.arange(which * count, (which + 1) * count)
        index[rows] = index[np.roll(rows, 7 * which)]
        return replace(data, labels=replace(data.labels, pose_index=index))

    return lambda case: case.data(change)


def labels(**changes: Any) -> Any:
    return lambda case: case.labels(
        **{name: lambda data, f=f, n=name: f(getattr(data.labels, n)) for name, f in changes.items()}
    )


def noisy(scale: float, share: float) -> Any:
    def of(theta: Any) -> Any:
        random = np.random.default_rng(4)
        rows = random.random(len(theta)) < share
        return theta + scale * rows[:, None] * random.normal(size=theta.shape)

    return of


def mean_pose(sign: float) -> Any:
    def plant(case: Case) -> None:
        case.labels(theta=lambda data: data.labels.theta + sign * data.hand.hands_mean)

    return plant


def three_late(case: Case) -> None:
    def theta(data: LoadedData) -> Any:
        return np.concatenate([data.labels.global_orient, data.labels.theta[:, :42]], axis=1)

    case.labels(theta=theta)


def camera(change: Any) -> Any:
    return labels(intrinsics=change)


def order_of_joints(order: Any) -> Any:
    return labels(joints_m=lambda joints_m: joints_m[:, order])


THUMB_LAST = [0, *range(5, 21), 1, 2, 3, 4]
SWAPPED = [0, 1, 2, 3, 4, *range(17, 21), *range(9, 17), *range(5, 9)]


def left_joints(joints_m: Any) -> Any:
    return joints_m * [-1.0, 1.0, 1.0]


def some_left_joints(joints_m: Any) -> Any:
    changed = joints_m.copy()
    changed[::3] *= [-1.0, 1.0, 1.0]
    return changed


def with_nan(values: Any) -> Any:
    changed = values.copy()
    changed[3, 7] = np.nan
    return changed


PLANTS = [
    *two("half of the poses mispaired", shown_as(half), shown_as(neighbours)),
    *two("a block of poses rolled by one", shown_as(rolled(0.3, 0.6, 1)), shown_as(rolled(0.65, 0.95, -1))),
    *two("20 % label noise", shown_as(lambda d: shuffled(some(d, 0.2), len(d.labels.theta))), replaced(0.2)),
    *two(
        "left hands among right ones",
        mirrored(lambda data: some(data, 0.4)),
        mirrored(lambda data: np.arange(int(0.3 * len(data.labels.theta)))),
    ),
    *two(
        "validation mispaired",
        of_validation(lambda poses: np.random.default_rng(1).permutation(poses)),
        of_validation(lambda poses: np.roll(poses, 1)),
    ),
    *two("all images mispaired", lambda case: case.data(quarters), shown_as(rolled(0.0, 1.0, 1))),
    *two("one image version mispaired", version_shuffled(2), version_shuffled(3)),
    *two("theta read from the wrong place", three_late, labels(theta=lambda theta: np.roll(theta, -3, axis=1))),
    *two("theta in another unit", labels(theta=np.rad2deg), labels(theta=lambda theta: 2 * theta)),
    *two("joints in another order", order_of_joints(THUMB_LAST), order_of_joints(SWAPPED)),
    *two("mean pose twice or not at all", mean_pose(1.0), mean_pose(-1.0)),
    *two("joints in another unit", labels(joints_m=lambda j: 1000 * j), labels(joints_m=lambda j: j / 10)),
    *two(
        "wrist rotations wrong",
        labels(global_orient=lambda orient: -orient),
        labels(global_orient=lambda orient: np.roll(orient, 1, axis=0)),
    ),
    *two(
        "shapes wrong", labels(betas=np.zeros_like), labels(betas=lambda betas: np.roll(betas, 1, axis=0))
    ),
    *two(
        "cameras wrong",
        camera(lambda k: k * [[3.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 1.0]]),
        camera(lambda k: k + [[0, 0, 12.0], [0, 0, -9.0], [0, 0, 0]]),
    ),
    *two("one label for all", labels(theta=lambda t: t[:1].repeat(len(t), 0)), labels(theta=lambda t: t * (np.arange(45) < 30))),
    *two("noise on theta", labels(theta=noisy(0.2, 0.2)), labels(theta=noisy(0.05, 1.0))),
    *two("joints of left hands", labels(joints_m=left_joints), labels(joints_m=some_left_joints)),
    *two("values that are not finite", labels(theta=with_nan), labels(betas=with_nan)),
]  # fmt: skip
