"""Augmentation. What rotates the pixels rotates the labels.

There is no flip: it would make a left hand. `normalise` and `augment` work on a whole batch, on any device; on a CPU
`fill_normalised` and `fill_augmented` do the same image by image, so that each stays in the processor's cache.
Shapes: B batch, M images of a data set, S side of the square images in pixels.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mano_trainers.arrays import Pixels
from mano_trainers.config import AugmentConfig
from mano_trainers.data.appearance import Appearance, change_batch, change_one, draw_appearance
from mano_trainers.data.background import Background, put_behind
from mano_trainers.data.on_device import sent
from mano_trainers.rotations import axis_angle_from_quaternion, quaternion_from_axis_angle, quaternion_multiply

DEFAULT = AugmentConfig()
MAX_ANGLE = math.radians(DEFAULT.rotate_deg)
BRIGHTNESS, CONTRAST, NOISE = DEFAULT.brightness, DEFAULT.contrast, DEFAULT.noise
HALF_WHITE = 127.5
"""Grey level that is 0 in normalised images, where black is -1 and white 1."""
GREY = (128, 128, 128, 128)


@dataclass(frozen=True)
class Draw:
    """What is done to each image of a batch.

    Attributes:
        angle: (B,) rad, from the image's x axis towards its y axis.
        contrast: (B,) factor.
        brightness: (B,) added, as a share of white.
        noise: (B,) standard deviation, as a share of white.
        pattern: (1, 3, S, S) standard normal noise, one for the whole batch: drawing it for each image would cost as
            much as the rotation. (K, 3, S, S) where the batch is K batches in turn.
        zoom: (B,) factor of the scale about the centre; None: 1.
        shift: (B, 2) along x and y as shares of the side, after rotation and zoom; None: 0.
        appearance: colours, blur and occluders; None for none.
        background: what is put behind the hands first; None: it stays as it is.
    """

    angle: Tensor
    contrast: Tensor
    brightness: Tensor
    noise: Tensor
    pattern: Tensor
    zoom: Tensor | None = None
    shift: Tensor | None = None
    appearance: Appearance | None = None
    background: Background | None = None

    def part(self, rows: slice) -> "Draw":
        """The part for some images of the batch, without the backgrounds, which are the whole batch's (`composed`)."""
        return Draw(
            self.angle[rows],
            self.contrast[rows],
            self.brightness[rows],
            self.noise[rows],
            self.pattern,
            None if self.zoom is None else self.zoom[rows],
            None if self.shift is None else self.shift[rows],
            None if self.appearance is None else self.appearance.part(rows),
        )


def draw(
    count: int,
    size: int,
    generator: torch.Generator,
    device: torch.device,
    strengths: AugmentConfig = DEFAULT,
) -> Draw:
    """Draw the augmentation of `count` images, as strong as `strengths` says.

    `generator` is on the CPU, so rotation and shading are the same on all devices; the noise is drawn on the device
    itself, since drawing and sending so many numbers would take longer than the rest of the data path on an H100.
    """
    noise_generator = generator
    if device.type == "cuda":
        noise_generator = torch.Generator(device).manual_seed(generator.initial_seed())
    uniform = sent(torch.rand(4, count, generator=generator).mul_(2).sub_(1), device)
    zoom = shift = None
    if strengths.zoom or strengths.shift:
        placed = sent(torch.rand(3, count, generator=seeded_beside(generator)).mul_(2).sub_(1), device)
        zoom, shift = (1 + strengths.zoom) ** placed[0], strengths.shift * placed[1:].T
    return Draw(
        angle=uniform[0] * math.radians(strengths.rotate_deg),
        contrast=1 + uniform[1] * strengths.contrast,
        brightness=uniform[2] * strengths.brightness,
        noise=uniform[3] * strengths.noise,
        pattern=torch.randn(1, 3, size, size, generator=noise_generator, device=device),
        zoom=zoom,
        shift=shift,
        appearance=draw_appearance(count, size, strengths, generator, device),
    )


def seeded_beside(generator: torch.Generator) -> torch.Generator:
    """A generator for what is not always drawn, so that requesting it does not change any other draw."""
    return torch.Generator().manual_seed((generator.initial_seed() + 1) % 2**63)


def normalise(images: Tensor) -> Tensor:
    """uint8 images (B, S, S, 3) -> float32 (B, 3, S, S) in [-1, 1], channels_last."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last).div_(HALF_WHITE).sub_(1)


def augment(images: Tensor, drawn: Draw) -> Tensor:
    """Rotate normalised images (B, 3, S, S) about their centre, change contrast and brightness, add noise.

    What comes from outside the image is grey. Values are not clipped at black and white: a network does not need it,
    and on a CPU clipping took a fifth of the time of the whole data path.
    """
    if drawn.background is not None:
        images = put_behind(images, drawn.background)
    cos, sin, zero = drawn.angle.cos(), drawn.angle.sin(), torch.zeros_like(drawn.angle)
    # affine_grid maps output to input: the inverse rotation.
    inverse = torch.stack((cos, sin, zero, -sin, cos, zero), dim=-1).view(-1, 2, 3)
    if drawn.zoom is not None and drawn.shift is not None:
        linear = inverse[:, :, :2] / drawn.zoom.view(-1, 1, 1)
        moved = linear @ (2 * drawn.shift).unsqueeze(-1)  # affine_grid's side is 2 long
        inverse = torch.cat((linear, -moved), dim=-1)
    turned = F.grid_sample(
        images, _grid(inverse, images.shape[-1]), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    # White is 2 above black in normalised images.
    turned.mul_(drawn.contrast.view(-1, 1, 1, 1)).add_(2 * drawn.brightness.view(-1, 1, 1, 1))
    batches = torch.unflatten(turned, 0, (len(drawn.pattern), -1))
    batches.addcmul_(drawn.pattern.unsqueeze(1), drawn.noise.view(len(batches), -1, 1, 1, 1), value=2)
    if drawn.appearance is not None:
        return change_batch(turned, drawn.appearance)
    return turned.contiguous(memory_format=torch.channels_last)


def _grid(inverse: Tensor, size: int) -> Tensor:
    """`affine_grid` of maps (B, 2, 3): (B, S, S, 2). Not as a matrix product: with a side of 3 it costs a GPU more than
    all the rest of an image's augmentation."""
    centres = (2 * torch.arange(size, device=inverse.device, dtype=inverse.dtype) + 1) / size - 1
    along_x = inverse[:, None, None, :, 0] * centres.view(1, 1, -1, 1)
    return along_x + (inverse[:, None, None, :, 1] * centres.view(1, -1, 1, 1) + inverse[:, None, None, :, 2])


def fill_normalised(out: Tensor, images: Pixels, indices: npt.NDArray[np.int64]) -> None:
    """Put `normalise(images[indices])` into `out` (B, 3, S, S), the same bits.

    Args:
        out: float32, channels_last, on the CPU.
        images: (M, S, S, 3) uint8, memory-mapped or not.
        indices: (B,) rows of `images`.
    """
    levels = torch.arange(256, dtype=torch.float32).div_(HALF_WHITE).sub_(1).numpy()
    for row, index in zip(out.permute(0, 2, 3, 1), indices, strict=True):
        cv2.LUT(images[index], levels, dst=row.numpy())


def fill_augmented(out: Tensor, images: Pixels, indices: npt.NDArray[np.int64], drawn: Draw) -> None:
    """Put `augment(normalise(images[indices]), drawn)` into `out`; arguments as for `fill_normalised`.

    The rotated image is rounded to whole grey levels, which is the only difference. OpenCV interpolates four channels
    at more than twice the speed of three.
    """
    size = out.shape[-1]
    four, turned = np.empty((2, size, size, 4), np.uint8)
    three = np.empty((size, size, 3), np.uint8)
    pattern = np.ascontiguousarray(drawn.pattern[0].permute(1, 2, 0).numpy())
    columns = (drawn.angle, drawn.contrast, 2 * drawn.brightness, 2 * drawn.noise)  # white is 2 above black
    values = zip(*(column.tolist() for column in columns), strict=True)
    rows = out.permute(0, 2, 3, 1).numpy()
    places = _inverse_maps(drawn, size)
    for number, (row, index, (_, contrast, brightness, noise)) in enumerate(zip(rows, indices, values, strict=True)):
        cv2.cvtColor(images[index], cv2.COLOR_RGB2RGBA, dst=four)
        cv2.warpAffine(
            four,
            places[number],
            (size, size),
            dst=turned,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=GREY,
        )
        cv2.cvtColor(turned, cv2.COLOR_RGBA2RGB, dst=three)
        # The only pass from bytes to floats: contrast * (byte / 127.5 - 1) + brightness + noise * pattern.
        cv2.addWeighted(three, contrast / HALF_WHITE, pattern, noise, brightness - contrast, dst=row, dtype=cv2.CV_32F)
        if drawn.appearance is not None:
            change_one(row, drawn.appearance, number)


def _inverse_maps(drawn: Draw, size: int) -> list[npt.NDArray[np.float64]]:
    """For each image, the affine map (2, 3) from pixels of the changed image to pixels of the image."""
    maps = [_inverse_turn(angle, size) for angle in drawn.angle.tolist()]
    if drawn.zoom is None or drawn.shift is None:
        return maps
    centre = np.full(2, (size - 1) / 2)
    placed = []
    for turn, zoom, shift in zip(maps, drawn.zoom.tolist(), drawn.shift.double().numpy(), strict=True):
        linear = turn[:, :2] / zoom
        placed.append(np.column_stack((linear, centre - linear @ (centre + size * shift))))
    return placed


def _inverse_turn(angle: float, size: int) -> npt.NDArray[np.float64]:
    """Affine map (2, 3) from pixels of the rotated image to pixels of the image, about its centre."""
    cos, sin, centre = math.cos(angle), math.sin(angle), (size - 1) / 2
    return np.array([[cos, sin, centre * (1 - cos - sin)], [-sin, cos, centre * (1 + sin - cos)]])


def turn_labels(
    angle: Tensor,
    global_orient: Tensor,
    joints_m: Tensor,
    intrinsics: Tensor,
    size: int,
    zoom: Tensor | None = None,
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels in the camera's frame for images rotated about their centre; theta, in the wrist's frame, does not change.

    A zoom and a shift of the image are another focal length and principal point: they change only the camera matrix.

    The rotated image H x of a camera K is that of a camera K' rotated by R, where K' R = H K. K' and R come from an
    RQ decomposition of the upper left 2x2 of H K, so projecting the new joints with K' lands exactly on the rotated
    pixels, whatever the focal lengths and the principal point.

    Args:
        angle: (B,) rad, as in `Draw`.
        global_orient: (B, 3) axis-angle, rad.
        joints_m: (B, J, 3) metres.
        intrinsics: (B, 3, 3) pixels, pixel centres at whole numbers.
        size: S.
        zoom: (B,) as in `Draw`.
        shift: (B, 2) as in `Draw`.

    Returns:
        The new global_orient, joints_m and intrinsics.
    """
    turn = _turn(angle.cos(), angle.sin())
    centre = (size - 1) / 2
    focal = turn @ intrinsics[:, :2, :2]
    roll = camera_roll(angle, intrinsics)
    turned_intrinsics = intrinsics.clone()
    turned_intrinsics[:, :2, :2] = focal @ roll.mT
    turned_intrinsics[:, :2, 2] = (turn @ (intrinsics[:, :2, 2] - centre).unsqueeze(-1)).squeeze(-1) + centre
    if zoom is not None:
        scale = zoom.view(-1, 1, 1)
        turned_intrinsics[:, :2] = scale * turned_intrinsics[:, :2]
        turned_intrinsics[:, :2, 2] += (1 - zoom).unsqueeze(-1) * centre
    if shift is not None:
        turned_intrinsics[:, :2, 2] += size * shift
    turned_joints = torch.cat((joints_m[..., :2] @ roll.mT, joints_m[..., 2:]), dim=-1)
    roll_angle = torch.atan2(roll[:, 1, 0], roll[:, 0, 0])
    about_z = torch.stack((torch.zeros_like(roll_angle), torch.zeros_like(roll_angle), roll_angle), dim=-1)
    orientation = quaternion_multiply(quaternion_from_axis_angle(about_z), quaternion_from_axis_angle(global_orient))
    return axis_angle_from_quaternion(orientation), turned_joints, turned_intrinsics


def camera_roll(angle: Tensor, intrinsics: Tensor) -> Tensor:
    """Rotation (B, 2, 2) of x and y in the camera's frame that belongs to a rotation of the image by `angle` (B,).

    It is the same rotation unless the focal lengths differ; only their ratio matters, so the intrinsics (B, 3, 3) may
    be those of the image at any size.
    """
    lower = (_turn(angle.cos(), angle.sin()) @ intrinsics[:, :2, :2])[:, 1]
    sin, cos = (lower / lower.norm(dim=-1, keepdim=True)).unbind(-1)
    return _turn(cos, sin)


def _turn(cos: Tensor, sin: Tensor) -> Tensor:
    return torch.stack((cos, -sin, sin, cos), dim=-1).view(-1, 2, 2)
