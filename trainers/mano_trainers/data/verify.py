"""Checks a whole data set: is every file there and undamaged, and do labels, hand, cameras and pictures agree?"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from mano_trainers.arrays import Array, Integers
from mano_trainers.config.data import Format
from mano_trainers.data.cache import Progress, decode
from mano_trainers.data.readers import freihand
from mano_trainers.data.readers.crop import picture_size, project
from mano_trainers.data.readers.labels import Labels, Picture, check_metres
from mano_trainers.data.readers.read import read_set, right_hand
from mano_trainers.errors import DataError
from mano_trainers.hand.definitions import freihand_joints
from mano_trainers.hand.layer import HandLayer

LARGEST_ERROR_MM: Final = 5.0
"""Of a joint against forward kinematics. Rounding is far below; a wrong hand, order, flip or mean pose is far above."""
LEAST_INSIDE: Final = 0.8
LEAST_ON_MASK: Final = 0.5
"""Shares of all joints. FreiHAND's mask leaves out what an object hides."""
LEAST_INSIDE_OF_LABEL: Final = 0.5
LARGEST_OFF_CENTRE: Final = 0.15
"""Of the camera's centre from the middle of FreiHAND's pictures, as a share of their side."""
VERSIONS: Final = (1, 4)
"""Images of a pose: FreiHAND shows each in front of four backgrounds."""
DECODED_SIZE: Final = 32


@dataclass(frozen=True)
class Verified:
    """What was found in a sound data set.

    Attributes:
        images: decoded.
        poses: labels.
        groups: recordings or single poses, which a split keeps whole.
        error_mean_mm: of joints against forward kinematics, wrist at the origin.
        error_max_mm: the largest of any joint.
        inside: share of the joints that lie in their picture.
        on_mask: share of the joints that lie on their mask; None if there are no masks.
        egocentric: share of the poses with that viewpoint tag.
        left_out: frames that show no hand, or one that is mostly outside the picture.
        evaluation: what FreiHAND's evaluation split is: empty if there is none.
    """

    images: int
    poses: int
    groups: int
    error_mean_mm: float
    error_max_mm: float
    inside: float
    on_mask: float | None
    egocentric: float
    left_out: int
    evaluation: str

    def __str__(self) -> str:
        masks = "" if self.on_mask is None else f", {self.on_mask:.1%} on the mask"
        return (
            f"{self.images} images of {self.poses} poses in {self.groups} groups; joints match the parameters to "
            f"{self.error_mean_mm:.2g} mm (at most {self.error_max_mm:.2g}), {self.inside:.1%} of them in the "
            f"picture{masks}; {self.egocentric:.0%} egocentric views"
            + (f"; {self.left_out} frames left out: no hand in the picture" if self.left_out else "")
            + (f"; evaluation: {self.evaluation}" if self.evaluation else "")
        )


def verify_set(root: Path, format: Format, hand_name: str, progress: Progress | None = None) -> Verified:
    """Check a data set; the first error is raised.

    Args:
        root: its folder.
        format: its layout.
        hand_name: `embedded`, or the path of MANO_RIGHT.pkl.
        progress: called with images decoded and images in total.

    Raises:
        DataError: it names the file, and the label if one file contains many.
    """
    labels, pictures, files = read_set(root, format, hand_name)
    where = files[2] if format == "freihand" else None  # xyz; elsewhere each pose has a picture of its own
    check_metres(labels.joints_m, where or root)
    errors_mm = _checked_errors_mm(labels, pictures, hand_name, where)
    shown = _pixels(labels, pictures)
    inside = _share_inside(shown, pictures, where)
    on_mask = None
    if format == "freihand":
        _check_layout(labels, pictures, files[0])
        on_mask = _share_on_mask(root, shown)
    _decode_all(pictures, progress)
    frames = sum(path.suffix in (".pkl", ".npz") for path in files)
    return Verified(
        images=len(pictures),
        poses=len(labels.theta),
        groups=len(np.unique(labels.group)),
        error_mean_mm=float(errors_mm.mean()),
        error_max_mm=float(errors_mm.max()),
        inside=inside,
        on_mask=on_mask,
        egocentric=float((labels.viewpoint == "egocentric").mean()),
        left_out=max(0, frames - len(labels.theta)),
        evaluation=_verify_evaluation(root, hand_name) if format == "freihand" else "",
    )


def _verify_evaluation(root: Path, hand_name: str) -> str:
    """Check FreiHAND's other split if it is there, and its labels if they are; describes it."""
    if not (root / "evaluation").is_dir():
        return ""
    if not freihand.has_labels(root, "evaluation"):
        pictures = freihand.list_images(root, "evaluation")
        _decode_all(pictures, None)
        return f"{len(pictures)} images without labels"
    labels, pictures = freihand.read_freihand(root, "evaluation")
    where = freihand.label_files(root, "evaluation")[2]
    _checked_errors_mm(labels, pictures, hand_name, where)
    _share_inside(_pixels(labels, pictures), pictures, where)
    _decode_all(pictures, None)
    return f"{len(pictures)} images"


def _checked_errors_mm(labels: Labels, pictures: list[Picture], hand_name: str, where: Path | None) -> Array:
    """`_kinematic_errors_mm`, none of which is large."""
    errors_mm = _kinematic_errors_mm(labels, hand_name)
    worst = int(errors_mm.max(axis=1).argmax())
    if errors_mm.max() > LARGEST_ERROR_MM:
        first = int((errors_mm.max(axis=1) > LARGEST_ERROR_MM).argmax())
        raise DataError(
            f"joints of label {first} are up to {errors_mm[first].max():.1f} mm from those of its parameters "
            f"(worst: {errors_mm.max():.1f} mm, label {worst})",
            str(where or pictures[first].path),
            "is --hand the MANO file that the labels were made with? if so, the labels are damaged",
        )
    return errors_mm


def _kinematic_errors_mm(labels: Labels, hand_name: str) -> Array:
    """(N, 21) distances of the joints from those of theta, betas and global rotation, wrist at the origin."""
    layer = HandLayer(right_hand(hand_name), torch.float64)
    computed = freihand_joints(layer, labels.theta, labels.betas, labels.global_orient)
    difference = (computed - computed[:, :1]) - (labels.joints_m - labels.joints_m[:, :1])
    errors: Array = 1000.0 * np.linalg.norm(difference, axis=-1)
    return errors


def _pixels(labels: Labels, pictures: list[Picture]) -> Array:
    """(N, 21, 2) joints in the files' own pixels, crop and mirroring undone; of each pose's first picture."""
    pixels = project(labels.intrinsics, labels.joints_m)
    for pose, picture in enumerate(pictures[: len(pixels)]):
        if picture.box is not None:
            left, top, right, _ = picture.box
            if picture.mirrored:
                pixels[pose, :, 0] = right - left - pixels[pose, :, 0]
            pixels[pose] += (left, top)
    return pixels


def _share_inside(pixels: Array, pictures: list[Picture], where: Path | None) -> float:
    sizes = np.array([picture_size(picture.path) for picture in pictures[: len(pixels)]])
    inside: Array = ((pixels >= 0) & (pixels < sizes[:, None])).all(axis=-1).mean(axis=1)
    if inside.mean() < LEAST_INSIDE:
        worst = int(inside.argmin())
        raise DataError(
            f"only {inside.mean():.0%} of the joints lie in their pictures; of label {worst} {inside[worst]:.0%}",
            str(where or pictures[worst].path),
            "camera matrices and joints do not match each other, or these pictures",
        )
    for row in np.flatnonzero(inside < LEAST_INSIDE_OF_LABEL)[:1] if where else ():
        raise DataError(
            f"only {inside[row]:.0%} of the joints of label {row} lie in its picture",
            str(where),
            "the label, or its camera matrix, is damaged: unpack the data set again",
        )
    return float(inside.mean())


def _check_layout(labels: Labels, pictures: list[Picture], cameras: Path) -> None:
    """Labels and pictures of FreiHAND's layout belong to one set, uncut and not resized.

    In a subset made by hand the number of images may be a multiple by chance, and all but the first then have the
    labels of another pose.
    """
    first, poses = pictures[0].path, len(labels.theta)
    versions = len(pictures) // poses
    if versions not in VERSIONS:
        raise DataError(
            f"contains {len(pictures)} images for {poses} labels, {versions} of each; FreiHAND has 4, or 1",
            str(first.parent),
            "image i shows label i modulo the number of labels: labels and images are not from the same set",
        )
    size = picture_size(first)
    for picture in pictures:
        if (other := picture_size(picture.path)) != size:
            raise DataError(
                f"{other[0]} x {other[1]} pixels, but {first.name} has {size[0]} x {size[1]}",
                str(picture.path),
                "the camera matrices belong to pictures of one size",
            )
    off = np.abs(labels.intrinsics[:, :2, 2] / size - 0.5).max(axis=1)
    for row in np.flatnonzero(off > LARGEST_OFF_CENTRE)[:1]:
        centre = labels.intrinsics[row, :2, 2].round(1).tolist()
        raise DataError(
            f"the camera of label {row} has its centre at {centre} in a picture of {size[0]} x {size[1]} pixels",
            str(cameras),
            "the camera matrices belong to pictures of another size: unpack the data set again",
        )


def _share_on_mask(root: Path, pixels: Array) -> float | None:
    """Share of joints on the hand in `training/mask`, if there are masks."""
    masks = [root / "training" / "mask" / f"{index:08d}.jpg" for index in range(len(pixels))]
    if not masks[0].parent.is_dir():
        return None
    count = sum(1 for entry in masks[0].parent.iterdir() if entry.suffix == ".jpg")
    if count > len(masks):
        raise DataError(
            f"contains {count} masks for {len(masks)} labels",
            str(masks[0].parent),
            "there is one for each label: labels and images are not from the same set",
        )
    hits: list[Array] = []
    for path, points in zip(masks, pixels, strict=True):
        if not path.exists():
            raise DataError("no such image", str(path), "there is one mask for each label: unpack the data set again")
        hits.append(on_mask(path, points))
    share = float(np.mean(hits))
    if share < LEAST_ON_MASK:
        raise DataError(
            f"only {share:.0%} of the joints lie on the hand", str(masks[0].parent), "masks and labels do not match"
        )
    for row in np.flatnonzero(~np.any(hits, axis=1))[:1]:
        raise DataError(
            f"no joint of label {row} lies on the hand", str(masks[row]), "the mask or camera matrix is another label's"
        )
    return share


def on_mask(path: Path, points: Array) -> Array:
    mask = _read_mask(path)
    column, row = np.floor(points).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
    on_hand: Array = np.zeros(len(points))
    on_hand[inside] = mask[row[inside], column[inside]] > 127
    return on_hand


def _read_mask(path: Path) -> Integers:
    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            return np.asarray(image.convert("L")).astype(np.int64)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded: {error}", str(path), "the file is damaged: unpack it again") from None


def _decode_all(pictures: list[Picture], progress: Progress | None) -> None:
    """Decode every picture, several at once, in order: the first damaged one is named."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # PIL decodes without the interpreter's lock
        for start in range(0, len(pictures), 256):
            some: Iterator[Picture] = islice(pictures, start, start + 256)
            for _ in pool.map(lambda picture: decode(picture, DECODED_SIZE), some):
                pass
            if progress is not None:
                progress(min(start + 256, len(pictures)), len(pictures))
