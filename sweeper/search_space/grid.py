"""The points of a grid, in written order. Pure functions."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from sweeper.search_space.conditions import Params, Space, exists, listed, parents_first
from sweeper.search_space.constraints import all_hold

LARGEST_GRID: Final = 100_000


def grid_points(space: Space, constraints: Sequence[str]) -> Iterator[Params]:
    """Every combination of listed values that meets the constraints, once: the product in written order, the last
    parameter changing fastest, without the parameters that do not exist beside the others."""
    order = parents_first(space)

    def extend(params: Params, rest: Sequence[str]) -> Iterator[Params]:
        if not rest:
            if all_hold(constraints, params):
                yield params
            return
        path, *others = rest
        if not exists(space[path], params):
            yield from extend(params, others)
            return
        values = listed(space[path])
        assert values is not None, f"{path} has no list of values"
        for value in values:
            yield from extend(params | {path: value}, others)

    yield from extend({}, order)


def grid_size(space: Space, constraints: Sequence[str]) -> int:
    """How many points the grid has; one more than LARGEST_GRID where there are more than that."""
    return sum(1 for _ in islice(grid_points(space, constraints), LARGEST_GRID + 1))
