"""Backgrounds, occluders and camera noise of the rendered pictures. Light, for rendering processes: numpy and PIL."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

GREEN_SCREEN: Final = (45, 150, 70)
MOST_OBJECTS: Final = 4
OCCLUDED_SHARE: Final = 0.3
"""Share of the pictures, green screen aside, in which something lies over the hand."""
NOISE: Final = 6
"""Half the range of the camera's noise, of 255 grey levels."""


def green_screen(size: int, generator: np.random.Generator) -> Pixels:
    """A studio's green cloth (size, size, 3), lit a little unevenly."""
    return _clouds(size, 3, GREEN_SCREEN, 25.0, generator)


def scenery(size: int, generator: np.random.Generator) -> Pixels:
    """Blurred colours of any scale with objects in front of them (size, size, 3)."""
    colour = tuple(generator.integers(30, 226, 3))
    grid = int(generator.integers(2, 15))
    image = Image.fromarray(_clouds(size, grid, colour, generator.uniform(15.0, 80.0), generator))
    draw = ImageDraw.Draw(image)
    for _ in range(generator.integers(MOST_OBJECTS + 1)):
        _draw_object(draw, size, generator.uniform(0.0, size, 2), generator.uniform(0.08, 0.3, 2) * size, generator)
    return np.asarray(image)


def occlude(picture: Pixels, generator: np.random.Generator) -> Pixels:
    """Sometimes lay an object over the middle of a picture (size, size, 3), where the hand is."""
    if generator.random() > OCCLUDED_SHARE:
        return picture
    size = len(picture)
    image = Image.fromarray(picture)
    centre, extent = generator.uniform(0.25, 0.75, 2) * size, generator.uniform(0.04, 0.1, 2) * size
    _draw_object(ImageDraw.Draw(image), size, centre, extent, generator)
    return np.asarray(image)


def composite(hand: Pixels, alpha: Pixels, background: Pixels, gain: Array, generator: np.random.Generator) -> Pixels:
    """Lay a hand over a background, with camera noise.

    Args:
        hand: (S, S, 3).
        alpha: (S, S) how much of each pixel the hand covers.
        background: (S, S, 3).
        gain: (3,) factor on the hand's colours: white balance and exposure differ between versions.
        generator: source of randomness.
    """
    table = (gain[:, None] * np.arange(256)).clip(0, 255).astype(np.uint8)
    front = Image.fromarray(hand).point(table.ravel().tolist())
    picture = np.asarray(Image.composite(front, Image.fromarray(background), Image.fromarray(alpha)))
    noise = generator.integers(-NOISE, NOISE + 1, picture.shape, dtype=np.int8)
    return (picture.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)


def _clouds(size: int, grid: int, colour: tuple[int, ...], contrast: float, generator: np.random.Generator) -> Pixels:
    """Smooth random colours around one colour; `grid` blobs along each side."""
    coarse = (np.asarray(colour) + generator.normal(0.0, contrast, (grid, grid, 3))).clip(0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def _draw_object(
    draw: ImageDraw.ImageDraw, size: int, centre: Array, extent: Array, generator: np.random.Generator
) -> None:
    """An ellipse or a turned rectangle of one colour; centre and half extents in pixels."""
    colour = tuple(int(value) for value in generator.integers(0, 256, 3))
    if generator.random() < 0.5:
        draw.ellipse([*(centre - extent), *(centre + extent)], fill=colour)
        return
    angle = generator.uniform(0.0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = centre + (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * extent) @ turn.T
    draw.polygon([(float(x), float(y)) for x, y in corners], fill=colour)
