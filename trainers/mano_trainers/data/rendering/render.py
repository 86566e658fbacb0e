"""A small software renderer of one hand: depth buffer, smooth shading, numpy only.

Imported by rendering processes, so it imports nothing but numpy.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from mano_trainers.arrays import Array, Integers, Pixels

SUPERSAMPLING: Final = 2
"""Samples per pixel along each side."""
SPECULAR: Final = 0.12
SHININESS: Final = 12


@dataclass(frozen=True)
class Look:
    """How a hand is lit and coloured.

    Attributes:
        skin: RGB of the back of the hand in [0, 1].
        palm: RGB of the palm.
        light: unit vector towards the lamp in the camera's frame.
        ambient: share of the light that comes from all directions.
    """

    skin: Array
    palm: Array
    light: Array
    ambient: float


def render_hand(
    vertices_m: Array, faces: Integers, palm_share: Array, intrinsics: Array, size: int, look: Look
) -> tuple[Pixels, Pixels]:
    """Picture of a closed mesh.

    Args:
        vertices_m: (V, 3) in the camera's frame (x right, y down, z away).
        faces: (F, 3) triangles, counter-clockwise seen from outside in a right-handed frame.
        palm_share: (V,) 1 on the palm, 0 on the back of the hand.
        intrinsics: (3, 3) camera matrix.
        size: side of the picture in pixels.
        look: light and colours.

    Returns:
        Colours (size, size, 3), black off the hand, and how much of each pixel it covers (size, size).
    """
    side = size * SUPERSAMPLING
    pixels = vertices_m @ intrinsics.T
    points = SUPERSAMPLING * pixels[:, :2] / pixels[:, 2:]
    where, face, bary = _visible(points, 1.0 / vertices_m[:, 2], faces, side)
    colours = _shade(vertex_normals(vertices_m, faces), palm_share, look)
    row, column = np.divmod(where, side)
    pixel = row // SUPERSAMPLING * size + column // SUPERSAMPLING
    covered = np.bincount(pixel, minlength=size * size)
    picture = np.zeros((size * size, 3), dtype=np.uint8)
    corners = faces[face]
    for channel in range(3):
        samples = np.einsum("nk,nk->n", colours[:, channel][corners], bary)
        picture[:, channel] = 255.0 * np.bincount(pixel, samples, size * size) / covered.clip(1)
    alpha = (255.0 / SUPERSAMPLING**2 * covered).astype(np.uint8)
    return picture.reshape(size, size, 3), alpha.reshape(size, size)


def close_wrist(faces: Integers) -> Integers:
    """Triangles of a mesh with one hole, with the hole closed by a fan around one of its vertices.

    Without the lid one would look through the wrist at the inside of the fingers, or right through it.
    """
    edges = {(int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)}
    rim = {b: a for a, b in edges if (b, a) not in edges}  # runs against the faces' direction: the lid's own
    hub = min(rim)
    fan, vertex = [], rim[hub]
    while rim[vertex] != hub:
        fan.append((hub, vertex, rim[vertex]))
        vertex = rim[vertex]
    return np.concatenate([faces, np.asarray(fan)])


def vertex_normals(vertices: Array, faces: Integers) -> Array:
    """Outward unit normals (V, 3), area-weighted over the faces of each vertex."""
    a, b, c = vertices[faces].transpose(1, 2, 0)
    (ux, uy, uz), (vx, vy, vz) = b - a, c - a
    corners = faces.ravel()
    normals = np.stack(
        [
            np.bincount(corners, np.repeat(of_face, 3), len(vertices))
            for of_face in (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
        ],
        axis=1,
    )
    unit: Array = normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)
    return unit


def _shade(normals: Array, palm_share: Array, look: Look) -> Array:
    """Colours of vertices (V, 3): Lambert, ambient light and a faint Blinn highlight."""
    diffuse = look.ambient + (1 - look.ambient) * (normals @ look.light).clip(0.0)
    halfway = look.light + np.array([0.0, 0.0, -1.0])
    shine = SPECULAR * (normals @ (halfway / np.linalg.norm(halfway))).clip(0.0) ** SHININESS
    skin = look.skin + palm_share[:, None] * (look.palm - look.skin)
    colours: Array = (skin * diffuse[:, None] + shine[:, None]).clip(0.0, 1.0)
    return colours


def _visible(points: Array, inverse_depth: Array, faces: Integers, side: int) -> tuple[Integers, Integers, Array]:
    """The samples a mesh covers: index into the flat (side, side) picture, face, and barycentric weights (n, 3).

    All triangles at once: every sample of every bounding box of a front face is tested, then the nearest is kept.
    Inverse depth, unlike depth, is linear in the picture. Colours are interpolated linearly too: triangles are a few
    millimetres wide.
    """
    a, b, c = points[faces].transpose(1, 0, 2)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    front = np.flatnonzero(area < 0)  # y points down, so faces towards the camera are clockwise on paper
    a, b, c, area = a[front], b[front], c[front], area[front]
    lowest = np.ceil(np.minimum(np.minimum(a, b), c) - 0.5).clip(0, side).astype(np.int64)
    highest = np.floor(np.maximum(np.maximum(a, b), c) - 0.5).clip(-1, side - 1).astype(np.int64)
    width, height = (highest - lowest + 1).clip(0).T
    boxes = width * height
    # weights of the second and third corner, linear in the picture: value at the box's first sample, slopes in x and y
    ac, ab, start = (c - a) / area[:, None], (b - a) / area[:, None], lowest + 0.5 - a
    second = np.stack([start[:, 0] * ac[:, 1] - start[:, 1] * ac[:, 0], ac[:, 1], -ac[:, 0]])
    third = np.stack([start[:, 1] * ab[:, 0] - start[:, 0] * ab[:, 1], -ab[:, 1], ab[:, 0]])
    linear = np.repeat(np.concatenate([second, third]).astype(np.float32), boxes, axis=1)
    row, column = np.divmod(np.arange(boxes.sum()) - np.repeat(boxes.cumsum() - boxes, boxes), np.repeat(width, boxes))
    second = linear[0] + linear[1] * column.astype(np.float32) + linear[2] * row.astype(np.float32)
    third = linear[3] + linear[4] * column.astype(np.float32) + linear[5] * row.astype(np.float32)
    inside = np.flatnonzero((second >= 0) & (third >= 0) & (second + third <= 1))
    face = np.repeat(np.arange(len(front)), boxes)[inside]
    place = (lowest[face, 1] + row[inside]) * side + lowest[face, 0] + column[inside]
    bary = np.stack([1 - second[inside] - third[inside], second[inside], third[inside]], axis=1)
    nearness = np.einsum("nk,nk->n", inverse_depth[faces[front[face]]], bary)
    nearest = np.zeros(side * side)
    np.maximum.at(nearest, place, nearness)
    seen = np.flatnonzero(nearness == nearest[place])
    return place[seen], front[face[seen]], bary[seen]
