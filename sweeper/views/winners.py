"""The second round as people and scripts read it, and the promotion of its winner."""

import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from sweeper.analysis.replicates import interval_text
from sweeper.errors import EXIT_NO_SKILL, EXIT_SIGNAL
from sweeper.lifecycle.winners import WinnersResult, run_winners, winners_result
from sweeper.study.controls import amount
from sweeper.tracking import register_winner, tracking_uri
from sweeper.views.study import output_console, to_json


def train_and_compare(
    home: Path,
    study: str,
    top: int,
    seeds: int,
    *,
    promote: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run the second round of a study to its end, print what it says, and promote its winner if asked to.

    Args:
        home, study, top, seeds: as of `run_winners`, and so are all `options`.
        promote: register the winner in MLflow.
        as_json: print JSON.

    Returns:
        The exit code of the run; 3 where there is nothing to promote.
    """
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        code, name = run_winners(home, study, top, seeds, **options)
    if code > EXIT_SIGNAL:
        return code
    result = winners_result(home, study, name)
    print(to_json(winners_json(result))) if as_json else print_winners(result)
    if not promote:
        return code
    if code == EXIT_NO_SKILL:
        print("nothing is promoted: no run beats the controls", file=sys.stderr)
        return code
    if result.best_run is None:
        print("nothing is promoted: no configuration beats all the others", file=sys.stderr)
        return code or EXIT_NO_SKILL
    objective = result.objective
    registered = register_winner(tracking_uri(home), result.best_run, objective.metric, objective.mode)
    said = f"promoted {result.best_run}, {registered.checkpoint}: version {registered.version} of {registered.model}"
    print(f"{said} in MLflow, with the alias `winner`", file=sys.stderr)
    return code


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
    for column in ("TRIAL", "WHEN SELECTED", "N", "MEAN", "95 % INTERVAL", "NOT IN THE MEAN"):
        table.add_column(column, justify="left" if column in ("TRIAL", "NOT IN THE MEAN") else "right")
    for candidate in result.candidates:
        found = candidate.runs.estimate
        table.add_row(
            candidate.trial,
            amount(candidate.selected, result.objective),
            str(found.n),
            amount(found.mean, result.objective) if found.n else "-",
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
