"""Where the configurations of a search space lie in a unit cube, for distances between them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from sweeper.search_space.conditions import Params
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, ParamValue
from sweeper.search_space.unit import listed, unit_of
from sweeper.spec.model import SEED

APART: Final = 0.5**0.5
"""Coordinate of a category among its own, so that two categories lie 1 apart."""
ABSENT: Final = 0.5


def places_of(space: Mapping[str, AnyDimension], trials: Sequence[Params]) -> tuple[tuple[float, ...], ...]:
    """A row of coordinates, 0 to 1, for the parameters of each trial, without the seed.

    A number is one coordinate, on its log scale if it has one; a category is one for each of its values. A parameter
    that only some trials have is in the middle for the others, and another coordinate says whether it is there.
    """
    columns = [
        column for path, dimension in space.items() if path != SEED for column in _columns(path, dimension, trials)
    ]
    varied = [column for column in columns if len(set(column)) > 1] or [[0.0] * len(trials)]
    return tuple(zip(*varied, strict=True))


def _columns(path: str, dimension: AnyDimension, trials: Sequence[Params]) -> list[list[float]]:
    there = [[APART if path in params else 0.0 for params in trials]] if dimension.when else []
    if isinstance(dimension, CategoricalDimension):
        return there + [
            [APART if path in params and params[path] == choice else 0.0 for params in trials]
            for choice in dimension.choices
        ]
    return [*there, [_unit(dimension, params[path]) if path in params else ABSENT for params in trials]]


def _unit(dimension: AnyDimension, value: ParamValue) -> float:
    assert not isinstance(dimension, CategoricalDimension)
    assert value is not None
    values = listed(dimension)
    if values is not None and not dimension.log:
        return sum(float(other) < float(value) for other in values if other is not None) / max(1, len(values) - 1)
    return min(max(unit_of(dimension, float(value)), 0.0), 1.0)
