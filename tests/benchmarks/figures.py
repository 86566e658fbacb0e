"""Numbers that were measured, beside what they should be."""

from dataclasses import dataclass
from typing import Any


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
