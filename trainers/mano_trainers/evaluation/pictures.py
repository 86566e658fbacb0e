"""A picture of some predictions on validation images, for people."""

import cv2
import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Array, Integers, Pixels, evenly
from mano_trainers.data.load import LoadedData
from mano_trainers.data.on_device import gather
from mano_trainers.data.readers.crop import project
from mano_trainers.evaluation.evaluate import Outputs
from mano_trainers.evaluation.procrustes import aligned_distances
from mano_trainers.evaluation.reference import Reference, joints_of

SAMPLES, COLUMNS, TILE_PX, HEADER_PX = 8, 4, 192, 20
TRUE, PREDICTED = (0, 200, 255), (255, 60, 60)
FINGERS = [[0, *range(first, first + 4)] for first in range(1, 21, 4)]
FRACTION_BITS = 4
"""OpenCV takes whole numbers; this many of their bits are a fraction of a pixel."""
JPEG_QUALITY = 85


def draw_samples(
    data: LoadedData, images: Pixels | Tensor, reference: Reference, shown: Integers, outputs: Outputs
) -> bytes:
    """A JPEG of up to 8 validation images, evenly spaced, with the true skeleton and the predicted one on it.

    The predicted fingers are rotated by the true rotation of the wrist, unless the model predicts that too, and placed
    at the true wrist: what is visible is the error of the pose. Below each is its aligned error.

    Args:
        data: as the pipeline reads them.
        images: of `data`.
        reference: of the validation images.
        shown: (N,) validation images.
        outputs: the model's predictions for them. What is not finite is not drawn.
    """
    rows = evenly(np.arange(len(shown)), SAMPLES)
    labels, of = data.labels, data.labels.pose_index[shown[rows]]
    theta = outputs.theta[rows]
    betas = np.zeros((len(rows), 10)) if outputs.betas is None else outputs.betas[rows]
    joints_m = joints_of(reference.hand, theta, betas)
    orient = reference.orient[rows] if outputs.orient is None else outputs.orient[rows]
    in_camera_m = joints_m @ orient.transpose(0, 2, 1) + labels.joints_m[of][:, :1]
    scale = (TILE_PX / data.sides_px[of])[:, None, None]
    true_px = project(labels.intrinsics[of], labels.joints_m[of]) * scale
    predicted_px = project(labels.intrinsics[of], in_camera_m) * scale
    errors_mm, finite = np.full(len(rows), np.nan), np.isfinite(joints_m).all((1, 2))
    distances_m = aligned_distances(joints_m[finite], reference.aligned_to_m[rows][finite], reference.align)
    errors_mm[finite] = 1000.0 * distances_m.mean(1)
    pixels = gather(images, shown[rows], torch.device("cpu")).cpu().numpy()
    tiles = [_tile(*each) for each in zip(pixels, true_px, predicted_px, errors_mm, strict=True)]
    return _jpeg(tiles)


def _tile(image: Pixels, true_px: Array, predicted_px: Array, error_mm: float) -> Pixels:
    tile = np.asarray(cv2.resize(image, (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC), np.uint8)
    for points, colour in ((true_px, TRUE), (predicted_px, PREDICTED)):
        if np.isfinite(points).all():
            fixed = np.round(points.clip(-TILE_PX, 2 * TILE_PX) * 2**FRACTION_BITS).astype(np.int32)
            lines = [fixed[finger].reshape(-1, 1, 2) for finger in FINGERS]
            cv2.polylines(tile, lines, False, colour, 1, cv2.LINE_AA, FRACTION_BITS)
    _write(tile, f"{error_mm:.1f} mm", (4, TILE_PX - 6), (255, 255, 255))
    return tile


def _jpeg(tiles: list[Pixels]) -> bytes:
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.zeros((HEADER_PX + rows * TILE_PX, COLUMNS * TILE_PX, 3), np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, COLUMNS)
        top, left = HEADER_PX + row * TILE_PX, column * TILE_PX
        sheet[top : top + TILE_PX, left : left + TILE_PX] = tile
    _write(sheet, "true", (4, 14), TRUE)
    _write(sheet, "predicted", (44, 14), PREDICTED)
    _write(sheet, "mean error of joints after alignment", (128, 14), (255, 255, 255))
    encoded, buffer = cv2.imencode(".jpg", sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded, "OpenCV writes JPEG"
    return buffer.tobytes()


def _write(image: Pixels, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    for shade, width in (((0, 0, 0), 3), (colour, 1)):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, shade, width, cv2.LINE_AA)
