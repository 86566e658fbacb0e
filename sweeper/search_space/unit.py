"""A dimension as an interval from 0 to 1: what lies where, for draws and for searches that walk in the unit cube."""

import math
from collections.abc import Sequence
from statistics import NormalDist

from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, FloatDimension, IntDimension, ParamValue


def listed(dimension: AnyDimension) -> Sequence[ParamValue] | None:
    """All values of a dimension in written order, or None if there are too many to list."""
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


def unit_of(dimension: FloatDimension | IntDimension, value: float) -> float:
    """Where a value lies in the unit interval: the inverse of `value_at`."""
    low, high = float(dimension.low), float(dimension.high)
    values = listed(dimension)
    if values and not dimension.log:
        return (round((value - low) / (high - low) * (len(values) - 1)) + 0.5) / len(values)
    if values:
        low, high = low - 0.5, high + 0.5
    if dimension.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (value - low) / (high - low)


def prior_at(dimension: AnyDimension, unit: float) -> ParamValue:
    """The value at a place of the dimension where its prior spreads the unit interval: the quantile of a normal
    distribution, of the logarithm on a log scale, that ends at the bounds. Without a prior as `value_at`."""
    if isinstance(dimension, CategoricalDimension) or dimension.prior is None:
        return value_at(dimension, unit)
    scale = math.log if dimension.log else float
    normal = NormalDist(scale(dimension.prior.center), scale(dimension.prior.spread))
    below, above = normal.cdf(scale(dimension.low)), normal.cdf(scale(dimension.high))
    share = min(max(below + unit * (above - below), 1e-12), 1 - 1e-12)
    drawn = normal.inv_cdf(share)
    value = min(max(math.exp(drawn) if dimension.log else drawn, float(dimension.low)), float(dimension.high))
    if listed(dimension) is None:
        return value
    return value_at(dimension, min(max(unit_of(dimension, value), 0.0), math.nextafter(1.0, 0.0)))
