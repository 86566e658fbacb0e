"""How many digits the numbers of a column have: as many as distinguish them, and no more."""

import math
from collections.abc import Sequence
from typing import Any, Final

from sweeper.search_space.value_text import value_text

MOST_DECIMALS: Final = 6
LARGE: Final = 1e6
ABSENT: Final = "-"


def metric_texts(values: Sequence[float | None], unit_decimals: int | None = None) -> tuple[str, ...]:
    """The values of a metric, all with the decimals that show a hundredth of what most of them differ by.

    Args:
        values: a value per row; None where there is none.
        unit_decimals: what a unit is read with, millimetres with 2, unless values differ by less.
    """
    finite = sorted(value for value in values if value is not None and math.isfinite(value))
    spread = _spread(finite)
    decimals = 2 - math.floor(math.log10(spread)) if spread > 0 else 0
    if unit_decimals is not None and decimals <= unit_decimals + 1:
        decimals = unit_decimals
    largest = max(map(abs, finite), default=0.0)
    if decimals <= MOST_DECIMALS and largest < LARGE:
        return tuple(ABSENT if value is None else f"{value:.{max(0, decimals)}f}" for value in values)
    digits = max(4, min(9, decimals + math.floor(math.log10(largest)) + 1)) if largest > 0 else 4
    return tuple(ABSENT if value is None else f"{value:.{digits}g}" for value in values)


def param_texts(values: Sequence[Any]) -> tuple[str, ...]:
    """The values of a parameter: three digits of each number, or as many as tell different ones apart."""
    numbers = {value for value in values if isinstance(value, float)}
    digits = next((few for few in range(3, 9) if len({f"{value:.{few}g}" for value in numbers}) == len(numbers)), 9)
    return tuple(value_text(value, digits) for value in values)


def _spread(finite: Sequence[float]) -> float:
    """The spread of the middle half, which one diverged trial does not change; for equal values, their size."""
    if not finite:
        return 0.0
    quarter = len(finite) // 4
    middle, whole = finite[-1 - quarter] - finite[quarter], finite[-1] - finite[0]
    return middle or whole or abs(finite[0]) / 10
