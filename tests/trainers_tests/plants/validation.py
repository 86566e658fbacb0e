"""Faults in what is held out."""

from dataclasses import replace
from typing import Any

import numpy as np

from mano_trainers.data.load import LoadedData
from plants.case import Case, two, val_rows


def val_poses(choose: Any) -> Any:
    return lambda case: case.data(lambda data: replace(data, val_poses=np.sort(choose(data))))


def near_copies(noise_rad: float, share: float, *, images: bool) -> Any:
    """Validation poses are training poses again, slightly changed."""

    def change(data: LoadedData) -> LoadedData:
        random = np.random.default_rng(2)
        val = data.val_poses[: round(share * len(data.val_poses))]
        source = random.choice(data.train_poses, len(val))
        labels = data.labels
        arrays = {}
        for name in ("theta", "betas", "global_orient", "joints_m", "intrinsics"):
            values = getattr(labels, name).copy()
            values[val] = values[source]
            arrays[name] = values
        arrays["theta"][val] += noise_rad * random.normal(size=(len(val), 45))
        pixels = np.array(data.images)
        if images:
            for pose, other in zip(val, source, strict=True):
                pixels[labels.pose_index == pose] = pixels[labels.pose_index == other] ^ 1
        return replace(data, images=pixels, labels=replace(labels, **arrays))

    return lambda case: case.data(change)


def other_views(share: float, turn_rad: float) -> Any:
    """Validation shows training poses from elsewhere: theta and betas are the same, the wrist is turned."""

    def change(data: LoadedData) -> LoadedData:
        random = np.random.default_rng(2)
        val = data.val_poses[: round(share * len(data.val_poses))]
        source = random.choice(data.train_poses, len(val), replace=False)
        arrays = {}
        for name in ("theta", "betas"):
            values = getattr(data.labels, name).copy()
            values[val] = values[source]
            arrays[name] = values
        orient = data.labels.global_orient.copy()
        orient[val] += turn_rad * random.normal(size=(len(val), 3))
        arrays["global_orient"] = orient
        data = replace(data, labels=replace(data.labels, **arrays))
        return with_joints(data, val)

    return lambda case: case.data(change)


def with_joints(data: LoadedData, poses: Any) -> LoadedData:
    """Recompute the joints of some poses from their parameters, with the wrist where it was."""
    import torch

    from mano_trainers.hand.layer import HandLayer
    from mano_trainers.losses.terms import wrist_joints
    from mano_trainers.rotations import matrix_from_axis_angle

    labels = data.labels
    hand = HandLayer(data.hand, torch.float64)
    pose = [torch.from_numpy(values[poses]) for values in (labels.theta, labels.betas)]
    with torch.no_grad():
        joints = wrist_joints(hand, *pose).numpy()
    rotation = matrix_from_axis_angle(torch.from_numpy(labels.global_orient[poses])).numpy()
    joints_m = labels.joints_m.copy()
    joints_m[poses] = joints @ rotation.transpose(0, 2, 1) + joints_m[poses][:, :1]
    return replace(data, labels=replace(labels, joints_m=joints_m))


def easiest(data: LoadedData) -> Any:
    size = np.square(data.labels.theta[data.val_poses] - data.labels.theta.mean(0)).sum(1)
    return data.val_poses[np.argsort(size)[: len(size) // 3]]


def flattest(data: LoadedData) -> Any:
    spread = np.abs(data.labels.theta[data.val_poses]).sum(1)
    return data.val_poses[np.argsort(spread)[: len(spread) // 3]]


def one_gesture(data: LoadedData) -> Any:
    theta = data.labels.theta[data.val_poses]
    return data.val_poses[np.argsort(np.square(theta - theta[3]).sum(1))[: len(theta) // 4]]


def one_fist(data: LoadedData) -> Any:
    bend = data.labels.theta[data.val_poses].reshape(-1, 15, 3)[..., 2].mean(1)
    return data.val_poses[np.argsort(bend)[-len(bend) // 4 :]]


def copied_image(data: LoadedData) -> LoadedData:
    pixels = np.array(data.images)
    row, source = val_rows(data)[0], np.flatnonzero(data.labels.pose_index == data.train_poses[5])[0]
    pixels[row] = pixels[source]
    return replace(data, images=pixels)


def copied_images(data: LoadedData) -> LoadedData:
    pixels = np.array(data.images)
    rows = val_rows(data)
    pixels[rows] = pixels[rows[0]]
    return replace(data, images=pixels)


def again(data: LoadedData) -> Any:
    return np.resize(data.val_poses[:10], len(data.val_poses))


PLANTS = [
    *two("near copies of training poses", near_copies(0.002, 1.0, images=True), near_copies(0.005, 0.5, images=False)),
    *two("other views of training poses", other_views(1.0, 0.5), other_views(0.5, 0.2)),
    *two(
        "validation of a handful of poses",
        val_poses(lambda data: data.val_poses[:4]),
        lambda case: case.spec("data.val_fraction", 0.004),
    ),
    *two("validation of the easiest third", val_poses(easiest), val_poses(flattest)),
    *two("validation of one gesture", val_poses(one_gesture), val_poses(one_fist)),
    *two("copies of images on both sides", lambda case: case.data(copied_image), lambda case: case.spec("faults", ["leaky_split"])),
    *two(
        "validation on training poses",
        val_poses(lambda data: data.train_poses[: len(data.val_poses)]),
        lambda case: case.data(lambda data: replace(data, train_poses=np.arange(len(data.labels.theta)))),
    ),
    *two("validation repeats a few poses", val_poses(again), lambda case: case.data(copied_images)),
]  # fmt: skip
__all__ = ["PLANTS", "Case"]
