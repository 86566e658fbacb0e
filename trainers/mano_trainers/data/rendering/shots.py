"""What the generators of HO-3D's and DexYCB's layouts share: hands somewhere in pictures that are wider than high."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mano_trainers.arrays import Array
from mano_trainers.data.rendering.backdrop import composite, occlude, scenery
from mano_trainers.data.rendering.draw import sample_look
from mano_trainers.data.rendering.freihand import forward, palm_share_of, sample_scenes
from mano_trainers.data.rendering.render import close_wrist, render_hand
from mano_trainers.hand.mirror import POSITION
from mano_trainers.hand.model import load_embedded_hand


@dataclass(frozen=True, eq=False)
class Shots:
    """N right hands in front of cameras.

    Attributes:
        theta: (N, 45) rad, mean excluded.
        betas: (N, 10).
        orient: (N, 3) rad, camera frame with y down.
        shift_m: (N, 3) by how much the hand layer's joints and vertices are moved.
        vertices_m: (N, 778, 3) in the camera's frame.
        intrinsics: (N, 3, 3).
    """

    theta: Array
    betas: Array
    orient: Array
    shift_m: Array
    vertices_m: Array
    intrinsics: Array


def picture_width(size: int) -> int:
    """Width of a picture of height `size`: about 4 : 3, as for the cameras of both sets."""
    return size + 2 * (size // 6)


def take_shots(
    count: int, size: int, generator: np.random.Generator, theta: Array | None = None, betas: Array | None = None
) -> Shots:
    """Draw hands and cameras; poses (N, 45) and one shape (10,) may be given."""
    scenes = sample_scenes(count, size, generator)
    orient = scenes.mano[:, :3]
    theta = scenes.mano[:, 3:48] if theta is None else theta
    shape = scenes.mano[:, 48:58] if betas is None else np.tile(betas, (count, 1))
    joints_m, vertices_m = forward(load_embedded_hand(), theta, shape, orient)
    shift_m = scenes.joints_m[:, 9] - joints_m[:, 9]
    intrinsics = scenes.intrinsics.copy()
    intrinsics[:, 0, 2] += (picture_width(size) - size) / 2
    return Shots(theta, shape, orient, shift_m, vertices_m + shift_m[:, None], intrinsics)


def draw_shot(shots: Shots, index: int, size: int, generator: np.random.Generator, left: bool = False) -> Image.Image:
    """The picture of one hand, (size, width) pixels; with `left` its mirror image, drawn as a left hand."""
    hand, width = load_embedded_hand(), picture_width(size)
    faces, vertices_m, intrinsics = close_wrist(hand.f), shots.vertices_m[index], shots.intrinsics[index].copy()
    if left:
        faces, vertices_m = faces[:, ::-1], vertices_m * POSITION
        intrinsics[0, 2] = width - intrinsics[0, 2]
    above = (width - size) // 2
    intrinsics[1, 2] += above  # the renderer draws squares; the excess above and below is cut off
    colours, alpha = render_hand(vertices_m, faces, palm_share_of(hand), intrinsics, width, sample_look(generator))
    picture = composite(colours, alpha, scenery(width, generator), generator.uniform(0.8, 1.15), generator)
    occlude(picture, generator)
    return picture.crop((0, above, width, above + size))


def draw_nothing(size: int, generator: np.random.Generator) -> Image.Image:
    """A picture without a hand."""
    width = picture_width(size)
    return scenery(width, generator).crop((0, 0, width, size))
