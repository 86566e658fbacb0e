"""Numbers that were measured, beside what they should be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """A number, and what it should be: at least, or at most, the target."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        met = self.value >= self.target if self.at_least else self.value <= self.target
        return f"{'at least' if self.at_least else 'at most'} {self.target:g}: {'met' if met else 'MISSED'}"


def table(of: dict[str, Any], parts: dict[str, list[Figure]]) -> str:
    figures = [figure for part in parts.values() for figure in part]
    rows = [f"| {each.name} | {each.value:.3g} {each.unit} | {each.verdict} |" for each in figures]
    head = [f"{of['device']}, torch {of['torch']}", "", "| what | measured | target |", "|---|---|---|"]
    return "\n".join(head + rows)


def interval(statistic: Callable[[np.ndarray], float], count: int) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic, which gets the indices that were drawn of so many seeds."""
    rng = np.random.default_rng(0)
    drawn = [statistic(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    return float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))
