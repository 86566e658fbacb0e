"""Reader of HO-3D's layout, v2 (PNG) and v3 (JPEG) (Hampali et al., "HOnnotate", CVPR 2020).

`train/<sequence>/rgb/<frame>` and `train/<sequence>/meta/<frame>.pkl`. A meta has camMat, handPose (48, axis-angle,
mean pose included), handBeta (10), handTrans (3) and handJoints3D (21, 3) in MANO's order, all in OpenGL's camera frame
(y up, z towards the viewer). A frame whose pose is None has no labels. The metas are pickles, and are read as data.
"""

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from mano_trainers.arrays import Array
from mano_trainers.data.readers.crop import MARGIN, cut_intrinsics, mostly_inside, picture_size, project, square_boxes
from mano_trainers.data.readers.labels import Labels, Picture, check_cameras, check_in_front, check_metres, viewpoints
from mano_trainers.errors import DataError
from mano_trainers.hand.definitions import HO3D_TIPS, redefine_joints
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import FREIHAND_ORDER, HandModel
from mano_trainers.hand.restricted_pickle import read_pickle
from mano_trainers.rotations import axis_angle_from_quaternion, quaternion_from_axis_angle, quaternion_multiply

SHAPES: Final = {"camMat": (3, 3), "handPose": (48,), "handBeta": (10,), "handTrans": (3,), "handJoints3D": (21, 3)}
FLIP: Final = np.array([1.0, -1.0, -1.0])
"""OpenGL's camera frame to the image's: half a turn about x."""
HELP: Final = "unpack HO-3D again; data.root is the folder that contains its train/"


def read_ho3d(root: Path, hand: HandModel, name: str = "", crop: float = MARGIN) -> tuple[Labels, list[Picture]]:
    """Read the labelled frames of the training split.

    Frames without labels, and those in which the hand is mostly outside the picture, are left out. The joints are
    moved to FreiHAND's definition. Poses are grouped by the letters that a sequence's name starts with: the cameras of
    one recording differ in the last digit (`multiCamSeqs` in the HO-3D repository), and names that share their letters
    are kept together to be on the safe side.

    Args:
        root: the folder that contains `train/`.
        hand: a right hand, for the mean pose and the definition of the joints.
        name: of the set, for the labels.
        crop: side of the square cut out around a hand, as a multiple of the longer side of its joints' bounding box.

    Raises:
        DataError: a file is missing, damaged, of another shape, not finite, in millimetres, or its camera cannot have
            taken the picture.
    """
    metas = label_files(root)
    frames = [(path, fields) for path in metas if (fields := _read_meta(path)) is not None]
    if not frames:
        raise DataError("contains no frame with labels", str(root / "train"), HELP)
    pictures = [_picture(path) for path, _ in frames]
    values = {key: np.stack([fields[key] for _, fields in frames]) for key in SHAPES}
    joints_m = values["handJoints3D"][:, list(FREIHAND_ORDER)] * FLIP
    sizes = {folder: picture_size(path) for folder, path in {path.parent: path for path in pictures}.items()}
    of_each = np.array([sizes[path.parent] for path in pictures])
    paths = [path for path, _ in frames]
    check_cameras(values["camMat"], of_each, paths)
    check_in_front(joints_m, paths)
    inside = np.flatnonzero(mostly_inside(project(values["camMat"], joints_m), of_each))
    if not len(inside):
        raise DataError("no hand lies inside its picture", str(root / "train"), HELP)
    orient, theta = _flip_orientation(values["handPose"][:, :3]), values["handPose"][:, 3:] - hand.hands_mean
    theta, betas, orient = theta[inside], values["handBeta"][inside], orient[inside]
    joints_m = redefine_joints(HandLayer(hand, torch.float64), joints_m[inside], theta, betas, orient, HO3D_TIPS)
    boxes = square_boxes(project(values["camMat"][inside], joints_m), crop)
    names = np.array([_letters(frames[index][0]) for index in inside])
    return Labels(
        theta=theta,
        global_orient=orient,
        betas=betas,
        joints_m=joints_m,
        intrinsics=cut_intrinsics(values["camMat"][inside], boxes),
        pose_index=np.arange(len(inside)),
        viewpoint=viewpoints(joints_m),
        set_name=np.full(len(inside), name),
        group=np.unique(names, return_inverse=True)[1],
        definition=np.full(len(inside), "ho3d"),
    ), [Picture(pictures[index], box) for index, box in zip(inside, map(tuple, boxes.tolist()), strict=True)]


def label_files(root: Path) -> list[Path]:
    """The files `read_ho3d` takes labels from: one per frame, sorted.

    Raises:
        DataError: there is none.
    """
    files = sorted(root.glob("train/*/meta/*.pkl"))
    if not files:
        raise DataError("contains no train/<sequence>/meta/*.pkl", str(root), HELP)
    return files


def _read_meta(path: Path) -> dict[str, Array] | None:
    content = read_pickle(path, HELP)
    if not isinstance(content, dict):
        raise DataError("does not contain the fields of a frame", str(path), HELP)
    missing = [key for key in SHAPES if key not in content]
    joints = content.get("handJoints3D")
    if missing and isinstance(joints, np.ndarray) and joints.shape == (3,):
        raise DataError(
            f"is a frame of the evaluation split: only its wrist is published, not {', '.join(missing)}",
            str(path),
            "train/ should contain the sequences of the training split, evaluation/ those of the other",
        )
    if missing:
        raise DataError(f"lacks {', '.join(missing)}", str(path), HELP)
    if content["handPose"] is None:
        return None
    fields = {key: _array(content[key], key, path) for key in SHAPES}
    check_metres(fields["handJoints3D"][None], path)
    return fields


def _array(value: Any, key: str, path: Path) -> Array:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.shape != SHAPES[key]:
        raise DataError(f"{key} is not an array of numbers of shape {SHAPES[key]}", str(path), HELP)
    if not np.isfinite(value).all():
        raise DataError(f"{key} is not finite", str(path), "delete the frame, or unpack the data set again")
    return value.astype(np.float64)


def _picture(meta: Path) -> Path:
    for suffix in (".jpg", ".png"):
        path = meta.parents[1] / "rgb" / f"{meta.stem}{suffix}"
        if path.exists():
            return path
    raise DataError("no such image, as .jpg or .png", str(meta.parents[1] / "rgb" / meta.stem), HELP)


def _flip_orientation(orient: Array) -> Array:
    """F R for rotations R (N, 3) axis-angle: the wrist's rotation in the flipped frame."""
    half_turn = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64).expand(len(orient), 4)
    turned = quaternion_multiply(half_turn, quaternion_from_axis_angle(torch.as_tensor(orient)))
    flipped: Array = axis_angle_from_quaternion(turned).numpy()
    return flipped


def _letters(meta: Path) -> str:
    sequence = meta.parents[1].name
    letters = re.match("[A-Za-z]+", sequence)
    return letters.group() if letters else sequence
