"""Which of several points is better where each has several losses: non-dominated sorting, as in NSGA-II (Deb et al.,
"A fast and elitist multiobjective genetic algorithm", IEEE Trans. Evol. Comput. 6(2), 2002). Pure functions of the
points, whatever their order."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial

Point = tuple[float, ...]
"""The loss of each objective, finite: less is better."""


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether a point is at least as good in every loss and better in one."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def fronts(points: Iterable[Point]) -> list[list[Point]]:
    """The distinct points, dealt to fronts: the first holds those that none dominates, the next those that only points
    of earlier fronts do, and so on. Each front is sorted by its losses, the first objective's first."""
    found: list[list[Point]] = []
    for point in sorted(set(points)):  # no later point dominates an earlier one
        place = bisect_left(found, True, key=partial(_is_free, point))
        if place == len(found):
            found.append([])
        found[place].append(point)
    return found


def _is_free(point: Point, front: Sequence[Point]) -> bool:
    """Whether no point of a front dominates this one, which is sorted after them all. Of two losses the last of a front
    has the least second one: if that one does not, none does."""
    return not any(dominates(other, point) for other in (front[-1:] if len(point) <= 2 else front))


def order(points: Iterable[Point]) -> dict[Point, tuple[float, ...]]:
    """A key to sort by for each distinct point, the best least: its front (from 1), the negative crowding distance in
    it, its losses. So of one front the ends come first, that of the first objective before all others, then what has
    the most room around it."""
    keys: dict[Point, tuple[float, ...]] = {}
    for number, front in enumerate(fronts(points), start=1):
        room = _crowding(front)
        keys |= {point: (number, -room[point], *point) for point in front}
    return keys


def _crowding(front: Sequence[Point]) -> dict[Point, float]:
    """The crowding distance of each point of a front: the gap between its neighbours in each loss, as part of what the
    front spans there, summed; infinite at the ends."""
    room = dict.fromkeys(front, 0.0)
    for place in range(len(front[0])):
        along = sorted(front, key=lambda point: (point[place], point))
        span = along[-1][place] - along[0][place]
        room[along[0]] = room[along[-1]] = math.inf
        if span > 0:
            for before, point, after in zip(along, along[1:], along[2:], strict=False):
                room[point] += (after[place] - before[place]) / span
    return room
