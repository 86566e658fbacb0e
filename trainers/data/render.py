"""A small software renderer of one hand: depth buffer, smooth shading, numpy only.

Imported by rendering processes, so it stays light: numpy, nothing else.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

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
        ambient: share of light that comes from everywhere.
    """

    skin: Array
    palm: Array
    light: Array
    ambient: float


def render_hand(
    vertices_m: Array, faces: Integers, palm_share: Array, intrinsics: Array, size: int, look: Look
) -> tuple[Array, Array]:
    """Picture of a closed mesh.

    Args:
        vertices_m: (V, 3) in the camera's frame (x right, y down, z away).
        faces: (F, 3) triangles, counter-clockwise seen from outside in a right-handed frame.
        palm_share: (V,) 1 where the skin is the palm's, 0 on the back.
        intrinsics: (3, 3) camera matrix.
        size: side of the picture in pixels.
        look: light and colours.

    Returns:
        The colours times alpha (size, size, 3) and alpha (size, size), both in [0, 1].
    """
    side = size * SUPERSAMPLING
    pixels = vertices_m @ intrinsics.T
    points = SUPERSAMPLING * pixels[:, :2] / pixels[:, 2:]
    where, face, bary = _visible(points, 1.0 / vertices_m[:, 2], faces, side)
    corners = faces[face]
    normals = (_vertex_normals(vertices_m, faces)[corners] * bary[..., None]).sum(1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    palm = (palm_share[corners] * bary).sum(1)[:, None]
    diffuse = look.ambient + (1 - look.ambient) * (normals @ look.light).clip(0.0)
    halfway = look.light + np.array([0.0, 0.0, -1.0])
    shine = SPECULAR * (normals @ (halfway / np.linalg.norm(halfway))).clip(0.0) ** SHININESS
    colour = (look.skin + palm * (look.palm - look.skin)) * diffuse[:, None] + shine[:, None]
    canvas = np.zeros((side * side, 4))
    canvas[where, :3] = colour.clip(0.0, 1.0)
    canvas[where, 3] = 1.0
    block = canvas.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 4).mean(axis=(1, 3))
    return block[..., :3], block[..., 3]


def close_wrist(faces: Integers) -> Integers:
    """Triangles of a mesh with one hole, the hole closed by a fan around one of its vertices.

    Without the lid one looks through the wrist at the inside of the fingers, or through it.
    """
    edges = {(int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)}
    rim = {b: a for a, b in edges if (b, a) not in edges}  # runs against the faces' direction: the lid's own
    hub = min(rim)
    fan, vertex = [], rim[hub]
    while rim[vertex] != hub:
        fan.append((hub, vertex, rim[vertex]))
        vertex = rim[vertex]
    return np.concatenate([faces, np.asarray(fan)])


def _vertex_normals(vertices: Array, faces: Integers) -> Array:
    """Outward normals (V, 3), area-weighted over the faces of each vertex, not of unit length."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    of_face = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], of_face)
    return normals


def _visible(points: Array, inverse_depth: Array, faces: Integers, side: int) -> tuple[Integers, Integers, Array]:
    """The samples a mesh covers: index into the flat (side, side) picture, face, and barycentric weights (n, 3).

    All triangles at once: every sample of every bounding box of a front face is tested, then the nearest kept. Inverse
    depth, unlike depth, is linear in the picture. Colours are interpolated linearly too: triangles are a few
    millimetres wide.
    """
    a, b, c = points[faces].transpose(1, 0, 2)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    front = np.flatnonzero(area < 0)  # y runs down, so what faces the camera runs clockwise on paper
    a, b, c, area = a[front], b[front], c[front], area[front]
    lowest = np.ceil(np.minimum(np.minimum(a, b), c) - 0.5).clip(0, side).astype(np.int64)
    highest = np.floor(np.maximum(np.maximum(a, b), c) - 0.5).clip(-1, side - 1).astype(np.int64)
    width, height = (highest - lowest + 1).clip(0).T
    boxes = width * height
    face = np.repeat(np.arange(len(front)), boxes)
    row, column = np.divmod(np.arange(len(face)) - np.repeat(boxes.cumsum() - boxes, boxes), width[face])
    x, y = lowest[face, 0] + column, lowest[face, 1] + row
    # barycentric weights are linear in x and y: value at the box's own origin plus slopes
    ca, ab = (c - a) / area[:, None], (b - a) / area[:, None]
    px, py = x + 0.5, y + 0.5
    second = ca[face, 1] * px - ca[face, 0] * py - (ca[:, 1] * a[:, 0] - ca[:, 0] * a[:, 1])[face]
    third = ab[face, 0] * py - ab[face, 1] * px - (ab[:, 0] * a[:, 1] - ab[:, 1] * a[:, 0])[face]
    inside = np.flatnonzero((second >= 0) & (third >= 0) & (second + third <= 1))
    face, second, third, place = face[inside], second[inside], third[inside], (y * side + x)[inside]
    bary = np.stack([1 - second - third, second, third], axis=1)
    nearness = (inverse_depth[faces[front[face]]] * bary).sum(1)
    nearest = np.zeros(side * side)
    np.maximum.at(nearest, place, nearness)
    seen = np.flatnonzero(nearness == nearest[place])
    return place[seen], front[face[seen]], bary[seen]
