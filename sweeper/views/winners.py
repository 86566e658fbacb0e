"""The second round as people and scripts read it, and the promotion of its winner."""

from dataclasses import asdict
from typing import Any

from sweeper.analysis.replicates import mean_interval_text
from sweeper.analysis.winners import WinnersResult
from sweeper.console import output_console
from sweeper.views.ablation import markdown_table
from sweeper.views.tables.columns import Column, fitted, lines_of


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
    rows = [(candidate, candidate.runs.estimate) for candidate in result.candidates]
    form = result.objective.format
    columns = [
        Column("TRIAL", tuple(candidate.trial for candidate, _ in rows), "left"),
        Column(
            "WHEN SELECTED", tuple(form(candidate.selected) for candidate, _ in rows), short_head="SELECTED", dropped=2
        ),
        Column("N", tuple(str(found.n) for _, found in rows)),
        Column("MEAN", tuple(form(found.mean) if found.n else "-" for _, found in rows)),
        Column(
            "95 % INTERVAL",
            tuple(mean_interval_text(found, result.objective) for _, found in rows),
            dropped=1,
        ),
        Column("LEFT OUT", tuple(candidate.runs.losses_text for candidate, _ in rows), "left", dropped=3),
    ]
    head, *lines = lines_of(fitted(columns, console.width if console.is_terminal else None)[0])
    console.print(title, *result.opening, head, sep="\n", soft_wrap=True)
    for line, (candidate, _) in zip(lines, rows, strict=True):
        console.print(line, style="bold green" if candidate.trial == result.winner else "", soft_wrap=True)
    console.print()
    for line in result.verdict:
        console.print(line)


def winners_markdown(result: WinnersResult) -> str:
    """The table of configurations and the verdict, for the description of the study's run."""
    form = result.objective
    header = ("configuration", "when selected", "n", "mean ± sd", "95 % interval", "left out")
    rows = []
    for candidate in result.candidates:
        found = candidate.runs.estimate
        mean = form.format(found.mean) if found.n else "-"
        sd = "" if found.n < 2 else f" ± {form.number(found.sd)}"
        cells = (form.format(candidate.selected), str(found.n), mean + sd, mean_interval_text(found, form))
        rows.append((candidate.trial, *cells, candidate.runs.losses_text))
    title = f"## The top {len(rows)} of {result.source}, each with the seeds {_span(result.seeds)}"
    return "\n".join([title, "", *(f"- {line}" for line in result.verdict), "", *markdown_table(header, rows)])


def _span(seeds: tuple[int, ...]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
