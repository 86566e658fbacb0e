"""Draws and writes the pictures of a batch of poses: what a rendering process does. Imports only numpy and PIL."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from mano_trainers.arrays import Array, Integers
from mano_trainers.data.rendering.backdrop import composite, green_screen, occlude, scenery
from mano_trainers.data.rendering.render import Look, render_hand

JPEG_QUALITY: Final = 90
LIGHTEST_SKIN: Final = np.array([0.96, 0.80, 0.69])
DARKEST_SKIN: Final = np.array([0.29, 0.18, 0.12])
PALEST_PALM: Final = np.array([0.98, 0.76, 0.66])


@dataclass(frozen=True, eq=False)
class Batch:
    """Poses to draw; sent to a rendering process.

    Attributes:
        folder: contains `rgb/`, and `mask/` if masks are to be written.
        first: index of the first pose.
        count: poses of the whole split; version v of pose i is image i + v * count.
        versions: pictures of each pose; version 0 has a green screen.
        seed: of the split; each pose draws from (seed, its index), so how poses are batched does not matter.
        size: side of a picture in pixels.
        vertices_m: (B, V, 3) in the camera's frame.
        intrinsics: (B, 3, 3).
        faces: (F, 3) of a closed mesh.
        palm_share: (V,) 1 on the palm, 0 on the back of the hand.
    """

    folder: Path
    first: int
    count: int
    versions: int
    seed: tuple[int, ...]
    size: int
    vertices_m: Array
    intrinsics: Array
    faces: Integers
    palm_share: Array


def draw_batch(batch: Batch) -> int:
    """Write the JPEGs of a batch; returns the number of its poses."""
    masks = (batch.folder / "mask").is_dir()
    for offset, (vertices_m, intrinsics) in enumerate(zip(batch.vertices_m, batch.intrinsics, strict=True)):
        pose = batch.first + offset
        generator = np.random.default_rng([*batch.seed, pose])
        look = sample_look(generator)
        hand, alpha = render_hand(vertices_m, batch.faces, batch.palm_share, intrinsics, batch.size, look)
        if masks:
            Image.fromarray(alpha).save(batch.folder / "mask" / f"{pose:08d}.jpg", quality=JPEG_QUALITY)
        for version in range(batch.versions):
            background = scenery(batch.size, generator) if version else green_screen(batch.size, generator)
            picture = composite(hand, alpha, background, generator.uniform(0.8, 1.15), generator)
            if version:
                occlude(picture, generator)
            path = batch.folder / "rgb" / f"{pose + version * batch.count:08d}.jpg"
            picture.save(path, quality=JPEG_QUALITY)
    return len(batch.vertices_m)


def sample_look(generator: np.random.Generator) -> Look:
    """A skin between dark and light, a palm no darker than it, and a lamp on the camera's side."""
    skin = DARKEST_SKIN + generator.random() * (LIGHTEST_SKIN - DARKEST_SKIN)
    skin = (skin * generator.uniform(0.93, 1.07, 3)).clip(0.0, 1.0)
    light = generator.normal(0.0, 0.6, 3)
    light[2] = -1.0
    return Look(
        skin=skin,
        palm=0.65 * skin + 0.35 * PALEST_PALM,
        light=light / np.linalg.norm(light),
        ambient=generator.uniform(0.2, 0.45),
    )
