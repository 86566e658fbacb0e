"""The points of a grid, in written order. Pure functions."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from sweeper.search_space.conditions import Params, Space, exists, parents_first
from sweeper.search_space.constraints import all_hold
from sweeper.search_space.unit import listed

LARGEST_GRID: Final = 100_000


def grid_points(space: Space, constraints: Sequence[str]) -> Iterator[Params]:
    """Every combination of listed values that meets the constraints, once: the product in written order, the last
    parameter changing fastest, without the parameters that do not exist beside the others."""
    order = parents_first(space)
    levels: list[Iterator[Params]] = [iter([{}])]  # one per parameter: a space may have more than Python can recurse
    while levels:
        params = next(levels[-1], None)
        if params is None:
            levels.pop()
        elif len(levels) <= len(order):
            levels.append(_extended(space, order[len(levels) - 1], params))
        elif all_hold(constraints, params):
            yield params


def _extended(space: Space, path: str, params: Params) -> Iterator[Params]:
    """The parameters with each value of one more; unchanged if it does not exist with them."""
    if not exists(space[path], params):
        yield params
        return
    values = listed(space[path])
    assert values is not None, f"{path} has no list of values"
    for value in values:
        yield params | {path: value}


def grid_size(space: Space, constraints: Sequence[str]) -> int:
    """How many points the grid has; one more than LARGEST_GRID if there are more than that."""
    return sum(1 for _ in islice(grid_points(space, constraints), LARGEST_GRID + 1))


def small_grid(space: Space, constraints: Sequence[str], most: int) -> list[Params] | None:
    """All points of a space; None if a parameter has no list of values, or the lists combine to more than `most`."""
    size = 1
    for dimension in space.values():
        values = listed(dimension)
        size *= most + 1 if values is None else len(values)
        if size > most:
            return None
    return list(grid_points(space, constraints))
