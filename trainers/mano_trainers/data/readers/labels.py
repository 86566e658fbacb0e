"""The one sample type that the readers of all data sets return."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from mano_trainers.arrays import Array, Integers, Strings
from mano_trainers.errors import DataError
from mano_trainers.rotations import matrix_from_axis_angle

LONGEST_HAND_M: Final = 0.5
AWAY_DEG: Final = 20.0
WRIST, MIDDLE_KNUCKLE = 0, 9


@dataclass(frozen=True)
class Picture:
    """Where the pixels of an image come from.

    Attributes:
        path: JPEG or PNG file.
        box: (left, top, right, bottom) of a square to cut out, in whole pixels of the file; it may extend beyond the
            edge, where it is black. None for a file that is square itself.
        mirrored: left and right are swapped after cutting: a left hand becomes a right one.
        whole_px: side of the square file that `box` belongs to, where all files of a set must have the same.
    """

    path: Path
    box: tuple[int, int, int, int] | None = None
    mirrored: bool = False
    whole_px: int | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of N poses shown in M images; all hands are right hands, left ones are mirrored.

    Attributes:
        theta: (N, 45) finger pose, axis-angle in rad, mean pose excluded.
        global_orient: (N, 3) rotation of the wrist in the camera's frame, rad.
        betas: (N, 10) shape.
        joints_m: (N, 21, 3) joints in the camera's frame (x right, y down, z away), FreiHAND's order and definition.
        intrinsics: (N, 3, 3) camera matrix of the picture, cut out but not resized; x = 0 is its left edge.
        pose_index: (M,) pose of each image.
        viewpoint: (N,) tag from `viewpoints`.
        set_name: (N,) name of the data set in the config.
        group: (N,) poses of one group are so similar that training and validation must not share it: the frames of a
            video. If poses are independent, each pose is a group of its own.
        definition: (N,) how the data set itself defines the joints: `freihand`, `ho3d`, `dexycb` or `dexycb_left`.
            `joints_m` always follow FreiHAND's.
    """

    theta: Array
    global_orient: Array
    betas: Array
    joints_m: Array
    intrinsics: Array
    pose_index: Integers
    viewpoint: Strings
    set_name: Strings
    group: Integers
    definition: Strings


def joints_in_wrist_frame(labels: Labels) -> Array:
    """The data set's own joints (N, 21, 3) in metres, turned back by the global rotation, the wrist at the origin."""
    rotation = matrix_from_axis_angle(torch.from_numpy(labels.global_orient)).numpy()
    joints_m: Array = (labels.joints_m - labels.joints_m[:, :1]) @ rotation  # the rows are turned by the inverse
    return joints_m


def viewpoints(joints_m: Array) -> Strings:
    """Whether the hand points away from the camera, as one's own hand does.

    FreiHAND, HO-3D and DexYCB are all filmed from the side; none has a camera on head or wrist. So the tag is derived
    from what the camera sees: `egocentric` if the line from the wrist to the middle knuckle points away from the camera
    by more than 20 degrees, otherwise `third_person`.

    Args:
        joints_m: (N, 21, 3) in the camera's frame.

    Returns:
        (N,) tags.
    """
    wrist = joints_m[:, WRIST]
    ray = wrist / np.linalg.norm(wrist, axis=-1, keepdims=True)
    hand = joints_m[:, MIDDLE_KNUCKLE] - wrist
    sine = np.einsum("nc,nc->n", ray, hand) / np.linalg.norm(hand, axis=-1)
    return np.where(sine > np.sin(np.deg2rad(AWAY_DEG)), "egocentric", "third_person")


def concatenate(parts: Sequence[Labels]) -> Labels:
    """All poses of several sets, with poses, images and groups numbered consecutively."""
    poses = np.cumsum([0, *(len(part.theta) for part in parts)])
    groups = np.cumsum([0, *(part.group.max() + 1 for part in parts)])
    return Labels(
        theta=np.concatenate([part.theta for part in parts]),
        global_orient=np.concatenate([part.global_orient for part in parts]),
        betas=np.concatenate([part.betas for part in parts]),
        joints_m=np.concatenate([part.joints_m for part in parts]),
        intrinsics=np.concatenate([part.intrinsics for part in parts]),
        pose_index=np.concatenate([part.pose_index + first for part, first in zip(parts, poses[:-1], strict=True)]),
        viewpoint=np.concatenate([part.viewpoint for part in parts]),
        set_name=np.concatenate([part.set_name for part in parts]),
        group=np.concatenate([part.group + first for part, first in zip(parts, groups[:-1], strict=True)]),
        definition=np.concatenate([part.definition for part in parts]),
    )


def check_metres(joints_m: Array, path: Path) -> None:
    """Tell millimetres from metres by the extent of the hands (N, 21, 3).

    Raises:
        DataError: the median hand is longer than any hand.
    """
    extent = float(np.median(np.linalg.norm(joints_m.max(axis=1) - joints_m.min(axis=1), axis=-1)))
    if extent > LONGEST_HAND_M:
        raise DataError(
            f"the median hand is {extent:.0f} m long: these are not metres", str(path), "divide millimetres by 1000"
        )


def check_in_front(joints_m: Array, files: Sequence[Path] | Path) -> None:
    """Check that hands (N, 21, 3) are in front of their camera; `files`: that of each, or the one that contains all.

    Raises:
        DataError: one is not.
    """
    for row in np.flatnonzero((joints_m[..., 2] <= 0).any(axis=1))[:1]:
        of_label, where = _place(files, int(row))
        raise DataError(f"the hand{of_label} is behind the camera", where, "unpack the data set again")


def check_cameras(intrinsics: Array, sizes: Integers, files: Sequence[Path] | Path) -> None:
    """Check that matrices (N, 3, 3) are those of cameras that took pictures of these sizes (N, 2), in pixels.

    Raises:
        DataError: a focal length is not positive, the last row is not (0, 0, 1), or the principal point is outside.
    """
    focal, centre = np.diagonal(intrinsics, axis1=1, axis2=2)[:, :2], intrinsics[:, :2, 2]
    sound = (focal > 0).all(axis=1) & (intrinsics[:, 2] == [0, 0, 1]).all(axis=1)
    sound &= ((centre > 0) & (centre < sizes)).all(axis=1)
    for row in np.flatnonzero(~sound)[:1]:
        of_label, where = _place(files, int(row))
        raise DataError(
            f"the camera matrix{of_label} cannot belong to a picture of {sizes[row][0]} x {sizes[row][1]} "
            f"pixels: {intrinsics[row].round(1).tolist()}",
            where,
            "[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, the centre inside the picture; unpack the data set again",
        )


def _place(files: Sequence[Path] | Path, row: int) -> tuple[str, str]:
    """How to name a label in a message, and its file."""
    return (f" of label {row}", str(files)) if isinstance(files, Path) else ("", str(files[row]))


def check_shown(labels: Labels) -> None:
    """Check that every pose has an image, and every image a pose.

    Raises:
        DataError: one has none.
    """
    count = len(labels.theta)
    versions = np.bincount(labels.pose_index, minlength=count)
    for pose in np.flatnonzero(versions == 0)[:1]:
        missing = int((versions == 0).sum())
        raise DataError(
            f"pose {pose} has no image" + (f", nor have {missing - 1} others" if missing > 1 else ""),
            help="delete the label, or restore its image",
        )
    if len(versions) > count:
        raise DataError(
            f"image {int(labels.pose_index.argmax())} shows pose {len(versions) - 1}, but there are {count} poses",
            help="labels are missing, or belong to another split",
        )
