"""Which parameters a trial has, which values they may take, and the points of a grid. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from random import Random

from sweeper.search_space.constraints import all_hold
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, FloatDimension, ParamValue, extremes

Space = Mapping[str, AnyDimension]
Params = dict[str, ParamValue]


def parents_first(space: Space) -> list[str]:
    """The parameters in written order, but each after those its `when` names."""
    order: dict[str, None] = {}
    visited: set[str] = set()
    for path in space:
        way = [path]
        while way:
            visited.add(way[-1])
            parents = (parent for parent in space[way[-1]].when if parent in space and parent not in visited)
            if (parent := next(parents, None)) is not None:
                way.append(parent)
            else:
                order.setdefault(way.pop())
    return list(order)


def same(one: object, other: object) -> bool:
    """Equality that tells `true` from 1, as the file does."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def exists(dimension: AnyDimension, params: Mapping[str, object]) -> bool:
    """Whether a trial with these parameters has the parameter of this dimension too."""
    return all(
        parent in params and any(same(params[parent], value) for value in allowed)
        for parent, allowed in dimension.when.items()
    )


def existing(space: Space, params: Mapping[str, object]) -> set[str]:
    """The parameters that a trial has which has drawn these so far."""
    return {path for path, dimension in space.items() if exists(dimension, params)}


def example(space: Space) -> Params:
    """Some point of the space, without the parameters that not every trial has."""
    return {path: extremes(dimension)[0][1] for path, dimension in space.items() if not dimension.when}


def listed(dimension: AnyDimension) -> Sequence[ParamValue] | None:
    """All values of a dimension in written order, or None where they are too many to write down."""
    match dimension:
        case CategoricalDimension():
            return dimension.choices
        case FloatDimension() if dimension.values:
            return dimension.values
        case FloatDimension() if dimension.step is None:
            return None
        case FloatDimension():
            assert dimension.step is not None
            steps = round((dimension.high - dimension.low) / dimension.step)
            return [dimension.low + index * dimension.step for index in range(steps)] + [dimension.high]
        case _:
            return range(dimension.low, dimension.high + 1, dimension.step)


def contains(dimension: AnyDimension, value: object) -> bool:
    """Whether the dimension may take the value."""
    if isinstance(dimension, CategoricalDimension):
        return any(same(value, choice) for choice in dimension.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(dimension, FloatDimension):
        values = listed(dimension)
        if values is None:
            return dimension.low <= value <= dimension.high
        return any(math.isclose(value, float(other), rel_tol=1e-9, abs_tol=1e-12) for other in values)
    return isinstance(value, int) and value in range(dimension.low, dimension.high + 1, dimension.step)


def value_at(dimension: AnyDimension, unit: float) -> ParamValue:
    """The value at a place of the dimension: `unit` in [0, 1) runs through it evenly, on a log scale if it has one."""
    values = listed(dimension)
    if isinstance(dimension, CategoricalDimension) or (values and not dimension.log):
        assert values is not None
        return values[min(int(unit * len(values)), len(values) - 1)]
    low, high = float(dimension.low), float(dimension.high)
    if values:  # whole numbers on a log scale: each has half a step on either side
        drawn = math.exp(math.log(low - 0.5) + unit * (math.log(high + 0.5) - math.log(low - 0.5)))
        return min(max(round(drawn), int(low)), int(high))
    if dimension.log:
        return min(max(math.exp(math.log(low) + unit * (math.log(high) - math.log(low))), low), high)
    return low + unit * (high - low)


def point(space: Space, units: Mapping[str, float], fixed: Mapping[str, ParamValue]) -> Params:
    """The parameters at a place of the unit cube; those of `fixed` have its values."""
    params: Params = {}
    for path in parents_first(space):
        if exists(space[path], params):
            params[path] = fixed[path] if path in fixed else value_at(space[path], units[path])
    return params


def can_be_met(space: Space, constraints: Sequence[str], fixed: Mapping[str, ParamValue], tries: int = 2000) -> bool:
    """Whether a random point of the space, of this many, meets the constraints; the points are always the same."""
    random = Random(0)
    return any(
        all_hold(constraints, point(space, {path: random.random() for path in space}, fixed)) for _ in range(tries)
    )
