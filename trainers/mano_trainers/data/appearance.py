"""Augmentation of how an image looks, besides what `augment` does to every image: colours, blur and occluders.

None of it moves anything, so labels do not change. Shapes: B batch, S side of the square images in pixels.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mano_trainers.config import AugmentConfig
from mano_trainers.data.on_device import sent

SEED_OFFSET = 0x5EED
"""Draws come from a separate generator: asking for more augmentation does not change the rotations."""
LUMA = (0.299, 0.587, 0.114)
"""Share of each channel in a grey image (ITU-R BT.601)."""
KERNEL_SIGMAS = 3.0


@dataclass(frozen=True)
class Appearance:
    """What is done to each image of a batch; None for what is not requested.

    Attributes:
        colour: (B, 3, 3) matrix of the channels, which leaves greys as they are.
        sigma_px: (B,) standard deviation of the Gaussian blur, on the CPU.
        kernels: (B, 2 R + 1) of that blur, on the device; R is the largest that may be drawn, so that all batches have
            the same shape.
        hole: (B, 4) left, top, right and bottom of the occluder as shares of the side; empty if there is none.
        paint: (B, 3) its colour, as normalised pixels.
    """

    colour: Tensor | None
    sigma_px: Tensor | None
    kernels: Tensor | None
    hole: Tensor | None
    paint: Tensor | None

    def part(self, rows: slice) -> "Appearance":
        """That of some images of the batch."""
        return Appearance(*(None if value is None else value[rows] for value in vars(self).values()))


def draw_appearance(
    count: int, size: int, strengths: AugmentConfig, generator: torch.Generator, device: torch.device
) -> Appearance | None:
    """Draw the changes to `count` images; None if none are requested. `generator` is not drawn from."""
    if not (strengths.colour or strengths.grayscale or strengths.blur or strengths.erase):
        return None
    own = torch.Generator().manual_seed((generator.initial_seed() + SEED_OFFSET) % 2**63)
    uniform = torch.rand(11, count, generator=own)
    colour = sigma_px = kernels = hole = paint = None
    if strengths.colour or strengths.grayscale:
        hue = (2 * uniform[0] - 1) * strengths.colour * math.pi / 4
        saturation = 1 + (2 * uniform[1] - 1) * strengths.colour
        saturation[uniform[2] < strengths.grayscale] = 0.0
        colour = sent(_colour_matrices(hue, saturation), device)
    if strengths.blur:
        sigma_px = uniform[3] * strengths.blur * size
        made = gaussians(sigma_px.numpy(), size, strengths.blur * size)
        kernels = sent(torch.from_numpy(made), device)
    if strengths.erase:
        side = (0.15 + 0.3 * uniform[4:6]) * (uniform[6] < strengths.erase)  # of the picture's
        corner = uniform[7:9] * (1 - side)
        hole = sent(torch.cat((corner, corner + side)).T.contiguous(), device)
        paint = sent(2 * torch.rand(count, 3, generator=own) - 1, device)
    return Appearance(colour, sigma_px, kernels, hole, paint)


def _colour_matrices(hue: Tensor, saturation: Tensor) -> Tensor:
    """(B, 3, 3): a rotation about the grey axis by `hue` rad, with the distance to grey scaled by `saturation`."""
    grey = torch.tensor(LUMA).expand(3, 3)
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    third = torch.full((3, 3), 1 / 3)
    cos, sin = hue.cos().view(-1, 1, 1), hue.sin().view(-1, 1, 1)
    turn = third + cos * (torch.eye(3) - third) + sin * axis
    return grey + saturation.view(-1, 1, 1) * (turn - grey)


def change_batch(images: Tensor, drawn: Appearance) -> Tensor:
    """Change normalised images (B, 3, S, S), on any device."""
    if drawn.colour is not None:
        images = torch.einsum("bij,bjyx->biyx", drawn.colour, images)
    if drawn.kernels is not None:
        images = _blurred(images, drawn.kernels)
    if drawn.hole is not None and drawn.paint is not None:
        edges = (drawn.hole * images.shape[-1]).round()
        along = torch.arange(images.shape[-1], device=images.device)
        inside = [(along >= edges[:, axis, None]) & (along < edges[:, axis + 2, None]) for axis in (0, 1)]
        covered = inside[1][:, None, :, None] & inside[0][:, None, None, :]
        images = torch.where(covered, drawn.paint[:, :, None, None], images)
    return images.contiguous(memory_format=torch.channels_last)


def _blurred(images: Tensor, kernels: Tensor) -> Tensor:
    count, channels, size, _ = images.shape
    radius = kernels.shape[1] // 2
    flat = images.reshape(1, count * channels, size, size)
    per_channel = kernels.repeat_interleave(channels, 0)[:, None]
    groups = count * channels
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), mode="reflect"), per_channel[:, :, None, :], groups=groups)
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), mode="reflect"), per_channel[:, :, :, None], groups=groups)
    return flat.view(count, channels, size, size)


def change_one(image: npt.NDArray[np.float32], drawn: Appearance, row: int) -> None:
    """Change one normalised image (S, S, 3) in place, as `change_batch` does, on a CPU."""
    size = len(image)
    if drawn.colour is not None:
        cv2.transform(image, drawn.colour[row].numpy(), dst=image)
    if drawn.sigma_px is not None:
        sigma_px = drawn.sigma_px[row : row + 1].numpy()
        kernel = gaussians(sigma_px, size, float(sigma_px[0]))[0]
        cv2.sepFilter2D(image, -1, kernel, kernel, dst=image, borderType=cv2.BORDER_REFLECT_101)
    if drawn.hole is not None and drawn.paint is not None:
        left, top, right, bottom = (drawn.hole[row] * size).round().int().tolist()
        image[top:bottom, left:right] = drawn.paint[row].numpy()


def gaussians(sigma_px: npt.NDArray[np.float32], size: int, widest_px: float) -> npt.NDArray[np.float32]:
    """Kernels (B, 2 R + 1) of unit sum, all with the radius of the widest, which is less than an image of `size` px."""
    radius = max(1, min(size - 1, math.ceil(KERNEL_SIGMAS * widest_px)))
    offsets = np.arange(-radius, radius + 1)
    sigma = np.maximum(sigma_px.astype(np.float64), 1e-3)[:, None]
    kernels = np.exp(-0.5 * np.square(offsets / sigma))
    unit: npt.NDArray[np.float32] = (kernels / kernels.sum(axis=1, keepdims=True)).astype(np.float32)
    return unit
