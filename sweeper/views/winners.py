"""The second round as people and scripts read it, and the promotion of its winner."""

from dataclasses import asdict
from typing import Any

from rich.table import Table

from sweeper.analysis.replicates import interval_text
from sweeper.analysis.winners import WinnersResult
from sweeper.console import output_console


def winners_json(result: WinnersResult) -> dict[str, Any]:
    """The result as a script reads it."""
    data = asdict(result) | {"objective": result.objective.metric}
    for candidate, written in zip(result.candidates, data["candidates"], strict=True):
        written["estimate"] = asdict(candidate.runs.estimate)
    return data


def print_winners(result: WinnersResult) -> None:
    """Print the table of configurations and the verdict."""
    console = output_console()
    title = f"\nthe top {len(result.candidates)} of {result.source}, each with the seeds {_span(result.seeds)}"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for column in ("TRIAL", "WHEN SELECTED", "N", "MEAN", "95 % INTERVAL", "LEFT OUT"):
        table.add_column(column, justify="left" if column in ("TRIAL", "LEFT OUT") else "right")
    for candidate in result.candidates:
        found = candidate.runs.estimate
        table.add_row(
            candidate.trial,
            result.objective.format(candidate.selected),
            str(found.n),
            result.objective.format(found.mean) if found.n else "-",
            interval_text(found.low, found.high, result.objective) if found.n > 1 else "-",
            candidate.runs.losses_text,
            style="bold green" if candidate.trial == result.winner else "",
        )
    console.print(table)
    console.print()
    for line in result.verdict:
        console.print(line)


def _span(seeds: tuple[int, ...]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
