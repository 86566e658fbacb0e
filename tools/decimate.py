"""Mesh decimation that keeps original vertices, so that whatever hangs on them is inherited exactly."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

import numpy as np

from mano_trainers.arrays import Array, Integers

LENGTH_COST: Final = 1e-9
FEATURE_COST: Final = 3e-9
LARGEST_TURN_COSINE: Final = 0.2
"""A collapse that turns a triangle's normal by more than this cosine allows would fold the surface."""
THINNEST: Final = 0.08
"""Least twice-the-area over squared longest side of a triangle."""


def boundary(triangles: Iterable[Iterable[int]]) -> set[int]:
    """Vertices on edges that only one triangle has."""
    edges = Counter(edge for triangle in triangles for edge in _edges(list(triangle)))
    return {vertex for edge, uses in edges.items() if uses == 1 for vertex in edge}


def decimate(
    points: Array, triangles: Integers, keep: int, protected: Iterable[int], features: Array
) -> tuple[list[int], list[list[int]]]:
    """Collapse half-edges, cheapest first, until `keep` vertices are left.

    The cost is the quadric error of Garland and Heckbert, "Surface Simplification Using Quadric Error Metrics", 1997,
    plus a little for long edges and for the difference in features, so that places where the features change keep
    their vertices.

    Args:
        points: (V, 3), metres.
        triangles: (F, 3).
        keep: vertices to leave.
        protected: vertices that stay; those of the boundary stay too.
        features: (V, D) compared along a collapsed edge.

    Returns:
        The vertices left, sorted, and the triangles over the original indices.
    """
    mesh = _Mesh(points, triangles, boundary(triangles.tolist()) | set(protected), features)
    heap = [mesh.candidate(u, v) for u in range(len(points)) if u not in mesh.fixed for v in mesh.neighbours(u)]
    heapq.heapify(heap)
    left = len(points)
    while left > keep and heap:
        cost, u, v = heapq.heappop(heap)
        if u not in mesh.around or v not in mesh.neighbours(u):
            continue
        now = mesh.candidate(u, v)
        if now[0] > cost * 1.0001 + 1e-18:  # a neighbour has changed since this entry was made
            heapq.heappush(heap, now)
            continue
        if len(mesh.neighbours(u) & mesh.neighbours(v)) != 2 or not mesh.stays_sound(u, v):
            continue
        mesh.collapse(u, v)
        left -= 1
        for w in mesh.neighbours(v):
            for pair in ((w, v), (v, w)):
                if pair[0] not in mesh.fixed:
                    heapq.heappush(heap, mesh.candidate(*pair))
    return sorted(mesh.around), list(mesh.triangles.values())


class _Mesh:
    """Triangles that change, with the triangles around each vertex and its error quadric."""

    def __init__(self, points: Array, triangles: Integers, fixed: set[int], features: Array) -> None:
        self.points, self.fixed, self.features = points, fixed, features
        self.triangles = dict(enumerate(triangles.tolist()))
        self.around: dict[int, set[int]] = defaultdict(set)
        for index, triangle in self.triangles.items():
            for vertex in triangle:
                self.around[vertex].add(index)
        self.quadrics = np.zeros((len(points), 4, 4))
        for triangle in self.triangles.values():
            normal, doubled_area = self._normal(triangle)
            if doubled_area > 1e-14:
                plane = np.append(normal / doubled_area, -(normal / doubled_area) @ points[triangle[0]])
                self.quadrics[triangle] += np.outer(plane, plane) * doubled_area

    def neighbours(self, vertex: int) -> set[int]:
        return {other for index in self.around[vertex] for other in self.triangles[index]} - {vertex}

    def candidate(self, u: int, v: int) -> tuple[float, int, int]:
        """Cost of moving u onto v, and the pair: an entry of the heap."""
        place = np.append(self.points[v], 1.0)
        quadric = place @ (self.quadrics[u] + self.quadrics[v]) @ place
        length = np.linalg.norm(self.points[u] - self.points[v])
        crowding = np.sqrt(len(self.around[u]) + len(self.around[v]))
        change = np.abs(self.features[u] - self.features[v]).sum()
        return float(quadric + LENGTH_COST * length * crowding + FEATURE_COST * change), u, v

    def stays_sound(self, u: int, v: int) -> bool:
        """Would no triangle fold over or become a sliver if u moved onto v?"""
        for index in self.around[u]:
            before = self.triangles[index]
            if v in before:
                continue
            after = [v if vertex == u else vertex for vertex in before]
            (old, old_area), (new, new_area) = self._normal(before), self._normal(after)
            if new_area < 1e-12 or (old_area > 1e-12 and old @ new < LARGEST_TURN_COSINE * old_area * new_area):
                return False
            longest = max(np.linalg.norm(self.points[a] - self.points[b]) for a, b in _edges(after))
            if new_area / longest**2 < THINNEST:
                return False
        return True

    def collapse(self, u: int, v: int) -> None:
        for index in list(self.around[u]):
            triangle = self.triangles[index]
            if v in triangle:
                for vertex in triangle:
                    self.around[vertex].discard(index)
                del self.triangles[index]
            else:
                self.triangles[index] = [v if vertex == u else vertex for vertex in triangle]
                self.around[v].add(index)
        del self.around[u]
        self.quadrics[v] += self.quadrics[u]

    def _normal(self, triangle: list[int]) -> tuple[Array, float]:
        a, b, c = self.points[triangle]
        normal = np.cross(b - a, c - a)
        return normal, float(np.linalg.norm(normal))


def _edges(triangle: list[int]) -> list[tuple[int, int]]:
    a, b, c = triangle
    return [(min(pair), max(pair)) for pair in ((a, b), (b, c), (c, a))]
