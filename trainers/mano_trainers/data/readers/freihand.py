"""Reader of FreiHAND's layout, real or rendered (Zimmermann et al., "FreiHAND", ICCV 2019).

`training/rgb/%08d.jpg` contains every pose in several image versions: image i shows pose i % N. The labels are JSON
lists over the N poses: K (3, 3), mano (1, 61), xyz (21, 3) in metres. The 61 MANO values are 3 global rotation, 45
theta (axis-angle, mean pose excluded), 10 shape, 2 root uv, 1 scale.
"""

import json
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from mano_trainers.arrays import Array
from mano_trainers.data.readers.crop import picture_size
from mano_trainers.data.readers.labels import Labels, Picture, check_cameras, check_in_front, check_metres, viewpoints
from mano_trainers.errors import DataError

Split = Literal["training", "evaluation"]
IN_PART: Final = (
    "if the archive was only partly unpacked, unpack it again; for a smaller set, cut images and labels together with "
    "`sweeper data subset DIR OUT --count N`"
)


def read_freihand(root: Path, split: Split = "training", name: str = "") -> tuple[Labels, list[Picture]]:
    """Read the labels of a split and list its images.

    Args:
        root: the folder that contains `training/` and the JSON files.
        split: `training`, or `evaluation` (one version of each image).
        name: of the set, for the labels.

    Returns:
        The labels, and the M pictures in the order of `pose_index`.

    Raises:
        DataError: something is missing, has another shape, is not finite or in millimetres, or counts differ; or a
            camera is impossible, or a hand is behind it.
    """
    if not root.is_dir():
        raise DataError(
            "no such folder", str(root), "data.root is the folder that contains FreiHAND's training/ and JSONs"
        )
    mano, joints_m, intrinsics = _read_labels(root, split)
    images = list_images(root, split)
    if len(images) % len(mano):
        raise DataError(
            f"contains {len(images)} images for {len(mano)} labels; a whole number of versions of each is expected",
            str(root / split / "rgb"),
            IN_PART,
        )
    sizes = np.tile(picture_size(images[0].path), (len(mano), 1))
    check_cameras(intrinsics, sizes, root / f"{split}_K.json")
    check_in_front(joints_m, root / f"{split}_xyz.json")
    return Labels(
        theta=mano[:, 3:48],
        global_orient=mano[:, :3],
        betas=mano[:, 48:58],
        joints_m=joints_m,
        intrinsics=intrinsics,
        pose_index=np.arange(len(images)) % len(mano),
        viewpoint=viewpoints(joints_m),
        set_name=np.full(len(mano), name),
        group=np.arange(len(mano)),
        definition=np.full(len(mano), "freihand"),
    ), images


def has_labels(root: Path, split: Split) -> bool:
    """Whether the pictures have labels of hands: those of FreiHAND's evaluation split are a separate download."""
    return any((root / f"{split}_{name}.json").exists() for name in ("mano", "xyz"))


def label_files(root: Path, split: Split = "training") -> list[Path]:
    """The files `read_freihand` takes labels from."""
    return [root / f"{split}_{name}.json" for name in ("K", "mano", "xyz")]


def _read_labels(root: Path, split: Split) -> tuple[Array, Array, Array]:
    """MANO values (N, 61), joints (N, 21, 3) in metres and camera matrices (N, 3, 3)."""
    mano = _read(root / f"{split}_mano.json", (1, 61))[:, 0]
    joints_m = _read(root / f"{split}_xyz.json", (21, 3))
    intrinsics = _read(root / f"{split}_K.json", (3, 3))
    for kind, array in (("xyz", joints_m), ("K", intrinsics)):
        if len(array) != len(mano):
            raise DataError(
                f"contains {len(array)} labels, but {split}_mano.json contains {len(mano)}",
                str(root / f"{split}_{kind}.json"),
                "unpack the data set again",
            )
    check_metres(joints_m, root / f"{split}_xyz.json")
    return mano, joints_m, intrinsics


def _read(path: Path, shape: tuple[int, ...]) -> Array:
    try:
        content: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError("no such file", str(path), "FreiHAND's labels are next to its training/ folder") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", str(path), "unpack the data set again") from None
    except (ValueError, RecursionError) as error:  # damage, numbers with thousands of digits, or deep nesting
        raise DataError(
            f"not valid JSON: {error}", str(path), "the file is cut off or damaged: unpack it again"
        ) from None
    try:
        array = np.asarray(content, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError("not a list of equally shaped lists of numbers", str(path), f"each label is {shape}") from None
    if array.ndim == 0 or array.shape[1:] != shape or len(array) < 2:
        raise DataError(f"has shape {array.shape}, but (N, {', '.join(map(str, shape))}) is expected", str(path))
    if not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0, 0])
        raise DataError(f"label {bad} is not finite", str(path), "delete the sample, or unpack the data set again")
    return array


def list_images(root: Path, split: Split) -> list[Picture]:
    """The images of a split, by number.

    Raises:
        DataError: there is none, or a number is missing.
    """
    folder = root / split / "rgb"
    if not folder.is_dir():
        raise DataError("no such folder", str(folder), "data.root is the folder that contains training/rgb")
    count = sum(1 for entry in folder.iterdir() if entry.suffix == ".jpg")
    if count == 0:
        raise DataError("contains no image NNNNNNNN.jpg", str(folder), "unpack the data set again")
    paths = [folder / f"{index:08d}.jpg" for index in range(count)]
    for path in paths:
        if not path.exists():
            raise DataError(f"no such image among {count}; they are numbered without gaps", str(path), IN_PART)
    return [Picture(path) for path in paths]
