"""Square crops around hands, for pictures that show more than a hand, and the camera matrices that belong to them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from mano_trainers.arrays import Array, Flags, Integers
from mano_trainers.data.readers.labels import Labels, Picture
from mano_trainers.errors import DataError

MARGIN: Final = 1.5
"""`data.crop` if a config leaves it out and pictures show a whole scene: joints lie inside the skin, and a hand
rotated by augmentation must stay in the picture."""
SMALLEST_SIDE: Final = 16
SHARE_INSIDE: Final = 0.5


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels; nothing is decoded.

    Raises:
        DataError: the file is neither JPEG nor PNG, or its header is damaged.
    """
    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded: {error}", str(path), "the file is damaged: unpack it again") from None


def square_side(path: Path) -> int:
    """Side of a square picture in pixels.

    Raises:
        DataError: the picture is not square; or as `picture_size`.
    """
    width, height = picture_size(path)
    if width != height:
        raise DataError(f"{width} x {height} pixels; a square is expected", str(path), "crop it to the hand")
    return width


def project(intrinsics: Array, points_m: Array) -> Array:
    """Pixels (N, P, 2) of points (N, P, 3) in the frames of cameras (N, 3, 3)."""
    pixels = np.einsum("nij,npj->npi", intrinsics, points_m)
    flat: Array = pixels[..., :2] / pixels[..., 2:]
    return flat


def mostly_inside(pixels: Array, sizes: Integers) -> Flags:
    """(N,) whether at least half of the points (N, P, 2) lie in their picture; its width and height are (N, 2)."""
    inside = (pixels >= 0).all(axis=-1) & (pixels < sizes[:, None]).all(axis=-1)
    enough: Flags = inside.mean(axis=1) >= SHARE_INSIDE
    return enough


def square_boxes(pixels: Array, margin: float) -> Integers:
    """Squares (N, 4) around points (N, P, 2), in whole pixels: left, top, right, bottom.

    `margin` is a square's side as a multiple of the longer side of the bounding box of its points.
    """
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    side = np.ceil(margin * (high - low).max(axis=1)).clip(SMALLEST_SIDE).astype(np.int64)
    corner = np.round((low + high) / 2 - side[:, None] / 2).astype(np.int64)
    return np.concatenate([corner, corner + side[:, None]], axis=1)


def inside(boxes: Integers, size_px: int) -> Integers:
    """Squares (N, 4) made smaller and moved until they lie in a square picture."""
    side = (boxes[:, 2] - boxes[:, 0]).clip(max=size_px)
    middle = (boxes[:, :2] + boxes[:, 2:]) // 2
    corner = (middle - side[:, None] // 2).clip(0, size_px - side[:, None])
    return np.concatenate([corner, corner + side[:, None]], axis=1)


def median_share(boxes: Integers, size_px: int) -> float:
    """Median side of squares (N, 4) by the side of their pictures: what is cut out of pictures whose labels are not to
    be used. MobRecon evaluates FreiHAND like that, with a square of 130 of 224 pixels (Chen et al., CVPR 2022)."""
    return float(np.median(boxes[:, 2] - boxes[:, 0])) / size_px


def centred_box(size_px: int, share: float) -> tuple[int, int, int, int]:
    """The square in the middle of a square picture whose side is this share of the picture's."""
    side = min(size_px, max(SMALLEST_SIDE, round(share * size_px)))
    corner = (size_px - side) // 2
    return corner, corner, corner + side, corner + side


def cut_out(
    labels: Labels, pictures: Sequence[Picture], boxes: Integers, whole_px: int
) -> tuple[Labels, list[Picture]]:
    """Labels and pictures with squares (N, 4) cut out, one per pose; every file is a square of `whole_px`."""
    cuts = [(left, top, right, bottom) for left, top, right, bottom in boxes.tolist()]
    poses = labels.pose_index.tolist()
    shown = [replace(each, box=cuts[pose], whole_px=whole_px) for each, pose in zip(pictures, poses, strict=True)]
    return replace(labels, intrinsics=cut_intrinsics(labels.intrinsics, boxes)), shown


def cut_intrinsics(intrinsics: Array, boxes: Integers) -> Array:
    """Camera matrices (N, 3, 3) of the cut-out squares (N, 4)."""
    cut = intrinsics.copy()
    cut[:, :2, 2] -= boxes[:, :2]
    return cut


def mirror_intrinsics(intrinsics: Array, widths: Array) -> Array:
    """Camera matrices (N, 3, 3) of mirrored pictures, for points whose x is negated.

    Args:
        intrinsics: (N, 3, 3) of the picture as it was; without skew.
        widths: (N,) of the picture, in pixels.
    """
    mirrored = intrinsics.copy()
    mirrored[:, 0, 2] = widths - intrinsics[:, 0, 2]
    return mirrored
