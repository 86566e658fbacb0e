"""Which parameters a trial has, which values they may take, and the points of a grid. Pure functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random

from sweeper.search_space.constraints import all_hold
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, FloatDimension, ParamValue, extremes
from sweeper.search_space.unit import listed, value_at

Space = Mapping[str, AnyDimension]
Params = dict[str, ParamValue]


def parents_first(space: Space) -> list[str]:
    """The parameters in written order, but each after those its `when` names."""
    if not any(dimension.when for dimension in space.values()):
        return list(space)
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
    """Equality that distinguishes `true` from 1, as the file does."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def exists(dimension: AnyDimension, params: Mapping[str, object]) -> bool:
    """Whether a trial with these parameters has the parameter of this dimension too."""
    return all(
        parent in params and any(same(params[parent], value) for value in allowed)
        for parent, allowed in dimension.when.items()
    )


def existing(space: Space, params: Mapping[str, object]) -> set[str]:
    """The parameters of a trial that has drawn these so far."""
    return {path for path, dimension in space.items() if exists(dimension, params)}


def example(space: Space) -> Params:
    """Some point of the space, without the parameters that not every trial has."""
    return {path: extremes(dimension)[0][1] for path, dimension in space.items() if not dimension.when}


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
        numbers = [other for other in values if isinstance(other, int | float)]
        return any(math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12) for other in numbers)
    return isinstance(value, int) and value in range(dimension.low, dimension.high + 1, dimension.step)


def point(
    space: Space,
    units: Mapping[str, float],
    fixed: Mapping[str, ParamValue],
    at: Callable[[AnyDimension, float], ParamValue] = value_at,
) -> Params:
    """The parameters at a point of the unit cube; those in `fixed` have its values. `at`: the value of a dimension at a
    point of the unit interval."""
    params: Params = {}
    for path in parents_first(space):
        if exists(space[path], params):
            params[path] = fixed[path] if path in fixed else at(space[path], units[path])
    return params


def can_be_met(space: Space, constraints: Sequence[str], fixed: Mapping[str, ParamValue], tries: int = 2000) -> bool:
    """Whether any of this many random points of the space meets the constraints; the points are always the same."""
    random = Random(0)
    return any(
        all_hold(constraints, point(space, {path: random.random() for path in space}, fixed)) for _ in range(tries)
    )


def next_enqueued(entries: Sequence[Params], tried: Sequence[Mapping[str, object]]) -> Params:
    """The first known configuration that no trial has used yet: in order, each tried trial uses the first remaining one
    that it fits. Not the one with a trial's number: the spec may get more later."""
    left = list(entries)
    for params in tried:
        fitting = (index for index, entry in enumerate(left) if fits(entry, params))
        if (index := next(fitting, None)) is not None:
            del left[index]
    return left[0] if left else {}


def fits(entry: Mapping[str, object], params: Mapping[str, object]) -> bool:
    """Whether a trial with these parameters has every value of the entry."""
    return all(path in params and same(params[path], value) for path, value in entry.items())
