"""Backgrounds, occluders and camera noise of the rendered pictures, for rendering processes: imports numpy and PIL."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from mano_trainers.arrays import Array, Pixels

GREEN_SCREEN: Final = (45, 150, 70)
MOST_OBJECTS: Final = 4
OCCLUDED_SHARE: Final = 0.3
"""Share of the pictures, green screen aside, in which something covers part of the hand."""
NOISE: Final = 6
"""Half the range of the camera's noise, in grey levels of 255."""


def green_screen(size: int, generator: np.random.Generator) -> Image.Image:
    """A studio's green cloth, lit a little unevenly."""
    return _clouds(size, 3, GREEN_SCREEN, 25.0, generator)


def scenery(size: int, generator: np.random.Generator) -> Image.Image:
    """Blurred colours of any scale with objects in front of them."""
    colour = tuple(generator.integers(30, 226, 3))
    grid = int(generator.integers(2, 15))
    image = _clouds(size, grid, colour, generator.uniform(15.0, 80.0), generator)
    draw = ImageDraw.Draw(image)
    for _ in range(generator.integers(MOST_OBJECTS + 1)):
        _draw_object(draw, generator.uniform(0.0, size, 2), generator.uniform(0.08, 0.3, 2) * size, generator)
    return image


def occlude(picture: Image.Image, generator: np.random.Generator) -> None:
    """Sometimes put an object over the middle of a picture, where the hand is."""
    if generator.random() < OCCLUDED_SHARE:
        centre, extent = generator.uniform(0.25, 0.75, 2), generator.uniform(0.04, 0.1, 2)
        _draw_object(ImageDraw.Draw(picture), centre * picture.width, extent * picture.width, generator)


def composite(
    hand: Pixels, alpha: Pixels, background: Image.Image, exposure: float, generator: np.random.Generator
) -> Image.Image:
    """Put a hand over a background, with camera noise.

    Args:
        hand: (S, S, 3).
        alpha: (S, S) how much of each pixel the hand covers.
        background: of the same size.
        exposure: factor on the hand's colours, which differs between versions.
        generator: source of randomness.
    """
    exposed = (np.float32(exposure) * hand).clip(0, 255).astype(np.uint8)
    picture = np.asarray(Image.composite(Image.fromarray(exposed), background, Image.fromarray(alpha)))
    noise = generator.integers(-NOISE, NOISE + 1, picture.shape, dtype=np.int8)
    return Image.fromarray((picture + noise.astype(np.int16)).clip(0, 255).astype(np.uint8))


def _clouds(
    size: int, grid: int, colour: tuple[int, ...], contrast: float, generator: np.random.Generator
) -> Image.Image:
    """Smooth random colours around one colour; `grid` blobs along each side."""
    coarse = (np.asarray(colour) + generator.normal(0.0, contrast, (grid, grid, 3))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def _draw_object(draw: ImageDraw.ImageDraw, centre: Array, extent: Array, generator: np.random.Generator) -> None:
    """An ellipse or a rotated rectangle of one colour; centre and half extents in pixels."""
    colour = tuple(int(value) for value in generator.integers(0, 256, 3))
    if generator.random() < 0.5:
        draw.ellipse([*(centre - extent), *(centre + extent)], fill=colour)
        return
    angle = generator.uniform(0.0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = centre + (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * extent) @ turn.T
    draw.polygon([(x, y) for x, y in corners.tolist()], fill=colour)
