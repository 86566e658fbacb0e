"""Reader of DexYCB's layout (Chao et al., "DexYCB", CVPR 2021).

`<subject>/<recording>/meta.yml` names cameras, side of the hand and calibration of its shape, and
`<subject>/<recording>/<camera>/` contains `color_%06d.jpg` and `labels_%06d.npz`: pose_m (1, 51) with global rotation,
45 coefficients of the pose components (mean pose excluded) and translation, and joint_3d (1, 21, 3) in metres in the
camera's frame. `calibration/mano_<name>/mano.yml` contains the shape, `calibration/intrinsics/<camera>_<W>x<H>.yml` the
camera matrix. Left hands are mirrored into right ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml

from mano_trainers.arrays import Array, Flags, Integers, Strings
from mano_trainers.data.readers.crop import (
    MARGIN,
    cut_intrinsics,
    mirror_intrinsics,
    mostly_inside,
    picture_size,
    project,
    square_boxes,
)
from mano_trainers.data.readers.labels import Labels, Picture, check_cameras, check_in_front, check_metres, viewpoints
from mano_trainers.errors import DataError
from mano_trainers.hand.definitions import DEXYCB_TIPS, DEXYCB_TIPS_LEFT, redefine_joints
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.mirror import POSITION, mirror_pose, with_left_fault
from mano_trainers.hand.model import HandModel

SHAPES: Final = {"pose_m": (1, 51), "joint_3d": (1, 21, 3)}
MISSING: Final = -1.0
HELP: Final = "unpack DexYCB again; data.root is the folder that contains its calibration/"


@dataclass(frozen=True, eq=False)
class _Frames:
    """F labelled frames of one camera in one recording, as they are stored."""

    pictures: list[Path]
    pose: Array  # (F, 51)
    joints_m: Array  # (F, 21, 3)
    betas: Array  # (10,)
    intrinsics: Array  # (3, 3)
    size: tuple[int, int]
    left: bool
    recording: str


@dataclass(frozen=True, eq=False)
class _Stored:
    """All frames of all cameras, as they are stored; shapes as in `_Frames`, preceded by the number of frames."""

    paths: list[Path]
    pose: Array
    joints_m: Array
    betas: Array
    intrinsics: Array
    sizes: Integers
    left: Flags
    recording: Strings


def read_dexycb(
    root: Path, hand: HandModel, left_hand: HandModel, name: str = "", crop: float = MARGIN
) -> tuple[Labels, list[Picture]]:
    """Read all frames of all cameras and recordings that are there.

    Frames without a hand (pose of zeros), with missing joints (-1), and those in which the hand is mostly outside the
    picture are left out. The joints are moved to FreiHAND's definition, on a hand of the right shape: those of left
    hands were stored for a hand whose shape is wrong by millimetres (see `with_left_fault`). Poses are grouped by
    recording: its cameras see the same hand at the same time.

    Args:
        root: the folder that contains `calibration/` and the subjects.
        hand: the right hand.
        left_hand: the left one, for the components and mean of left poses.
        name: of the set, for the labels.
        crop: side of the square cut out around a hand, as a multiple of the longer side of its joints' bounding box.

    Raises:
        DataError: a file is missing, damaged, of another shape, not finite, or in millimetres.
    """
    cameras = [frames for meta in _recordings(root) for frames in _read_recording(root, meta) if frames.pictures]
    if not cameras:
        raise DataError("contains no frame with a hand", str(root), HELP)
    stored = _stack(cameras)
    kept = np.flatnonzero(mostly_inside(project(stored.intrinsics, stored.joints_m), stored.sizes))
    if not len(kept):
        raise DataError("no hand lies inside its picture", str(root), HELP)
    pose, betas, left = stored.pose[kept], stored.betas[kept], stored.left[kept]
    theta, orient = _as_right_hands(pose, left, hand, left_hand)
    mirror = np.where(left[:, None, None], POSITION, 1.0)
    joints_m = _freihand_joints(stored.joints_m[kept] * mirror, (theta, betas, orient), left, hand)
    boxes = square_boxes(project(stored.intrinsics[kept], joints_m * mirror), crop)
    intrinsics = cut_intrinsics(stored.intrinsics[kept], boxes)
    sides = (boxes[:, 2] - boxes[:, 0]).astype(np.float64)
    intrinsics = np.where(left[:, None, None], mirror_intrinsics(intrinsics, sides), intrinsics)
    return Labels(
        theta=theta,
        global_orient=orient,
        betas=betas,
        joints_m=joints_m,
        intrinsics=intrinsics,
        pose_index=np.arange(len(kept)),
        viewpoint=viewpoints(joints_m),
        set_name=np.full(len(kept), name),
        group=np.unique(stored.recording[kept], return_inverse=True)[1],
        definition=np.where(left, "dexycb_left", "dexycb"),
    ), _pictures(stored.paths, kept, boxes, left)


def _as_right_hands(pose: Array, left: Flags, hand: HandModel, left_hand: HandModel) -> tuple[Array, Array]:
    """Theta (N, 45) and the wrist's rotation (N, 3) of stored poses (N, 51), left ones mirrored."""
    theta = pose[:, 3:48] @ hand.hands_components
    theta[left] = mirror_pose(pose[left, 3:48] @ left_hand.hands_components + left_hand.hands_mean) - hand.hands_mean
    return theta, np.where(left[:, None], mirror_pose(pose[:, :3]), pose[:, :3])


def _freihand_joints(joints_m: Array, pose: tuple[Array, Array, Array], left: Flags, hand: HandModel) -> Array:
    """Stored joints (N, 21, 3), left ones mirrored, moved to FreiHAND's definition. `pose`: theta, betas, rotation."""
    moved_m = joints_m.copy()
    layer = HandLayer(hand, torch.float64)
    annotated = HandLayer(with_left_fault(hand), torch.float64)
    for rows, tips, labelled in ((~left, DEXYCB_TIPS, layer), (left, DEXYCB_TIPS_LEFT, annotated)):
        if rows.any():
            theta, betas, orient = (values[rows] for values in pose)
            moved_m[rows] = redefine_joints(layer, joints_m[rows], theta, betas, orient, tips, labelled)
    return moved_m


def label_files(root: Path) -> list[Path]:
    """The files `read_dexycb` takes labels from, sorted.

    Raises:
        DataError: there is none.
    """
    frames = sorted(root.glob("*/*/*/labels_*.npz"))
    if not frames:
        raise DataError("contains no <subject>/<recording>/<camera>/labels_*.npz", str(root), HELP)
    return [*_recordings(root), *sorted(root.glob("calibration/*/*.yml")), *frames]


def has_left_hands(root: Path) -> bool:
    """Whether any recording shows a left hand."""
    return any(_sides(meta) == "left" for meta in _recordings(root))


def _stack(cameras: list[_Frames]) -> _Stored:
    counts = [len(frames.pictures) for frames in cameras]

    def each(values: list[Any]) -> Any:
        return np.repeat(np.array(values), counts, axis=0)

    return _Stored(
        paths=[path for frames in cameras for path in frames.pictures],
        pose=np.concatenate([frames.pose for frames in cameras]),
        joints_m=np.concatenate([frames.joints_m for frames in cameras]),
        betas=each([frames.betas for frames in cameras]),
        intrinsics=each([frames.intrinsics for frames in cameras]),
        sizes=each([frames.size for frames in cameras]),
        left=each([frames.left for frames in cameras]),
        recording=each([frames.recording for frames in cameras]),
    )


def _recordings(root: Path) -> list[Path]:
    metas = sorted(root.glob("*/*/meta.yml"))
    if not metas:
        raise DataError("contains no <subject>/<recording>/meta.yml", str(root), HELP)
    return metas


def _read_recording(root: Path, meta: Path) -> list[_Frames]:
    content, left = _yaml(meta), _sides(meta) == "left"
    match content:
        case {"mano_calib": [str(calibration), *_], "num_frames": int(count)}:
            pass
        case _:
            raise DataError("has no mano_calib and num_frames", str(meta), HELP)
    shape_file = root / "calibration" / f"mano_{calibration}" / "mano.yml"
    betas = _numbers(_yaml(shape_file), ["betas"], (1, 10), shape_file)[0]
    folders = sorted(path for path in meta.parent.iterdir() if path.is_dir())
    return [_read_camera(root, folder, count, betas, left) for folder in folders]


def _read_camera(root: Path, folder: Path, count: int, betas: Array, left: bool) -> _Frames:
    files = sorted(folder.glob("labels_*.npz"))
    pictures = [path.with_name(f"color_{path.stem.removeprefix('labels_')}.jpg") for path in files]
    if len(files) != count:
        raise DataError(f"contains {len(files)} labels, but meta.yml says {count}", str(folder), HELP)
    for path in pictures:
        if not path.exists():
            raise DataError("no such image", str(path), HELP)
    width, height = picture_size(pictures[0])
    camera_file = root / "calibration" / "intrinsics" / f"{folder.name}_{width}x{height}.yml"
    fx, fy, px, py = _numbers(_yaml(camera_file).get("color"), ["fx", "fy", "ppx", "ppy"], (4,), camera_file)
    matrix = np.array([[fx, 0.0, px], [0.0, fy, py], [0.0, 0.0, 1.0]])
    check_cameras(matrix[None], np.array([[width, height]]), [camera_file])
    frames = [(picture, *_read_labels(path)) for picture, path in zip(pictures, files, strict=True)]
    seen = [item for item in frames if item[1].any() and not (item[2] == MISSING).all(axis=-1).any()]
    return _Frames(
        pictures=[picture for picture, _, _ in seen],
        pose=np.array([pose for _, pose, _ in seen]).reshape(-1, 51),
        joints_m=np.array([joints for _, _, joints in seen]).reshape(-1, 21, 3),
        betas=betas,
        intrinsics=matrix,
        size=(width, height),
        left=left,
        recording=str(folder.parent),
    )


def _read_labels(path: Path) -> tuple[Array, Array]:
    """Pose (51,) and joints (21, 3) of a frame."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in SHAPES}
    except KeyError as error:
        raise DataError(f"contains no {error}", str(path), HELP) from None
    except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged file
        raise DataError(f"cannot be read: {error}", str(path), HELP) from None
    for key, array in arrays.items():
        if array.dtype.kind != "f" or array.shape != SHAPES[key]:
            raise DataError(f"{key} is not an array of numbers of shape {SHAPES[key]}", str(path), HELP)
        if not np.isfinite(array).all():
            raise DataError(f"{key} is not finite", str(path), "delete the frame, or unpack the data set again")
    pose, joints_m = arrays["pose_m"][0].astype(np.float64), arrays["joint_3d"][0].astype(np.float64)
    if (joints_m != MISSING).all():
        check_metres(joints_m[None], path)
        check_in_front(joints_m[None], [path])
    return pose, joints_m


def _sides(meta: Path) -> str:
    match _yaml(meta):
        case {"mano_sides": ["left" | "right" as side]}:
            return str(side)
    raise DataError("mano_sides is neither [left] nor [right]", str(meta), HELP)


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such file", str(path), HELP) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot be read: {error}", str(path), HELP) from None
    if not isinstance(content, dict):
        raise DataError("contains no keys and values", str(path), HELP)
    return content


def _numbers(content: Any, keys: list[str], shape: tuple[int, ...], path: Path) -> Array:
    try:
        values = np.array([content[key] for key in keys], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"contains no numbers {', '.join(keys)}", str(path), HELP) from None
    if values.shape != shape or not np.isfinite(values).all():
        raise DataError(f"{', '.join(keys)} are not {shape[-1]} finite numbers", str(path), HELP)
    return values


def _pictures(paths: list[Path], kept: Integers, boxes: Integers, left: Flags) -> list[Picture]:
    cuts = zip(kept, map(tuple, boxes.tolist()), left.tolist(), strict=True)
    return [Picture(paths[index], box, mirrored) for index, box, mirrored in cuts]
