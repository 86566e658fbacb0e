"""Augmentation of what is behind a hand: if a mask marks the hand's pixels, the others may be another image's.

The background is that of another image of the batch, whose own hand, if it has a mask, is painted over with the mean
colour of the rest: with a second hand it would be unclear which one the labels mean. Nothing moves, so labels stay.
Shapes: M images of a data set, K masks, B batch, S side of the square images in pixels.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mano_trainers.arrays import Flags, Integers, Pixels
from mano_trainers.data.on_device import sent

SEED_OFFSET: Final = 0xBAC6
"""Draws come from a separate generator: asking for backgrounds does not change the rest of the augmentation."""
OPAQUE: Final = 255


@dataclass(frozen=True, eq=False)
class Masks:
    """Which pixels are the hand's.

    Attributes:
        alpha: (K, S, S) uint8, memory-mapped: 255 on the hand, 0 off it.
        row: (M,) the mask of each image; -1: none.
        exact: (M,) whether it fits to the pixel: in FreiHAND on the green screen; the other versions of a pose, which
            were retouched, at least show the hand in the same place.
    """

    alpha: Pixels
    row: Integers
    exact: Flags


@dataclass(frozen=True)
class Background:
    """What is put behind the hands of a batch.

    Attributes:
        donor: (B,) index in the batch of the image that provides the background.
        kept: (B,) 1 where an image stays as it is, else 0.
        masked: (B,) 1 where an image has a mask, else 0.
        alpha: (B, S, S) uint8 masks, or (B,) their rows among those that are on the device.
    """

    donor: Tensor
    kept: Tensor
    masked: Tensor
    alpha: Tensor


def draw_background(
    masks: Masks, alpha: Pixels | Tensor, indices: Integers, share: float, generator: torch.Generator
) -> Background:
    """Draw the backgrounds of a batch, on the CPU except for `alpha`.

    Args:
        masks: of the data set.
        alpha: its masks, as they are or from `on_device`.
        indices: (B,) images of the batch.
        share: of the images with an exact mask that get another background.
        generator: of the step; it is not drawn from.
    """
    count, rows = len(indices), masks.row[indices]
    own = torch.Generator().manual_seed((generator.initial_seed() + SEED_OFFSET) % 2**63)
    chosen = (torch.rand(count, generator=own) < share) & torch.from_numpy(masks.exact[indices])
    further = torch.randint(1, max(2, count), (1,), generator=own)  # with a single image, the background is its own
    some = rows.clip(min=0)
    return Background(
        donor=(torch.arange(count) + further) % count,
        kept=(~chosen).float(),
        masked=torch.from_numpy(rows >= 0).float(),
        alpha=torch.from_numpy(some) if isinstance(alpha, Tensor) else torch.from_numpy(alpha[some]),
    )


def background_on(background: Background, device: torch.device) -> Background:
    """The same on the device, without waiting for it."""
    return Background(*(sent(value, device) for value in vars(background).values()))


def put_behind(images: Tensor, background: Background) -> Tensor:
    """Put backgrounds behind the hands of normalised images (B, 3, S, S), on any device; `alpha` contains masks."""
    column = (-1, 1, 1, 1)
    cover = background.alpha.unsqueeze(1).float().div(OPAQUE) * background.masked.view(column)
    free = 1 - cover
    mean = (images * free).sum((2, 3), keepdim=True) / free.sum((2, 3), keepdim=True).clamp_min(1)
    bare = torch.lerp(images, mean, cover)
    return torch.lerp(bare[background.donor], images, torch.maximum(cover, background.kept.view(column)))


def composed(images: Pixels, indices: Integers, background: Background, rows: slice) -> Pixels:
    """Some images (n, S, S, 3) uint8 of a batch with their backgrounds, as `put_behind` makes them; on a CPU.

    Args:
        images: (M, S, S, 3) of the data set.
        indices: (B,) those of the batch.
        background: of the batch, with its masks.
        rows: which images of the batch.
    """
    made: Pixels = images[indices[rows]]
    covers, masked = background.alpha.numpy(), background.masked.numpy()
    for place, row in enumerate(np.arange(len(indices))[rows].tolist()):
        if background.kept[row]:
            continue
        donor = int(background.donor[row])
        behind = images[indices[donor]]
        if masked[donor]:
            cover, free = _parts(covers[donor])
            mean = free.reshape(1, -1) @ behind.reshape(-1, 3).astype(np.float32) / max(1.0, float(free.sum()))
            paint = np.broadcast_to(mean.round().astype(np.uint8), behind.shape)
            behind = cv2.blendLinear(behind, np.ascontiguousarray(paint), free, cover)
        cover, free = _parts(covers[row])
        made[place] = cv2.blendLinear(made[place], behind, cover, free)
    return made


def _parts(alpha: Pixels) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """How much of each pixel (S, S) is the hand, and how much is not."""
    cover = alpha.astype(np.float32) / np.float32(OPAQUE)
    return cover, 1 - cover
