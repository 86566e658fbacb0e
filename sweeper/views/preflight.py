"""`sweeper preflight`, and its table."""

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mano_trainers.report import CheckResult, CheckStatus
from sweeper.executor.cluster import machines
from sweeper.home import cache_of
from sweeper.preflight import run as preflight
from sweeper.preflight.run import PreflightOutcome
from sweeper.spec.lanes import with_usable_lanes
from sweeper.spec.resolve import SweepSpec

STYLES = {CheckStatus.PASS: "green", CheckStatus.WARN: "yellow", CheckStatus.FAIL: "bold red"}


def preflight_spec(spec: SweepSpec, home: Path, *, quiet: bool = False) -> PreflightOutcome:
    """Check the pipeline of a spec, whether it passed before or not; the table fills on stderr while it runs.

    Args:
        spec: the sweep.
        home: the study home; its data are used, and made if need be.
        quiet: print nothing.
    """
    home, spec = home.resolve(), with_usable_lanes(spec)
    console = Console(stderr=True, highlight=False, markup=False, quiet=quiet)
    results: list[CheckResult] = []
    began_s = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def tell(result: CheckResult) -> None:
            results.append(result)
            if console.is_terminal:
                live.update(result_table(results), refresh=True)
            else:
                console.print(f"[{time.monotonic() - began_s:5.1f} s] {result.status} {result.name}", markup=False)

        with machines(spec.resources, None, cache_of(home)) as here:
            child = preflight.start(spec, here)
            return preflight.finish(child, spec, home, tell, here, again=True)


def print_preflight(outcome: PreflightOutcome) -> None:
    """The table and its last line on stdout."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a pipe has no width; rich would fold the table at 80 columns
        console = Console(highlight=False, markup=False, width=220)
    console.print(result_table(outcome.results))
    counts = [(status, sum(result.status is status for result in outcome.results)) for status in CheckStatus]
    said = ", ".join(f"{count} {status}" for status, count in counts if count)
    console.print(f"\n{said}; checked in {outcome.seconds:.0f} s" + (" by an earlier run" if outcome.kept else ""))
    if outcome.failed:
        console.print("the pipeline is broken: fix the failed checks before you tune weights or learning rates")


def result_table(results: list[CheckResult] | tuple[CheckResult, ...]) -> Table:
    """Check, measured, expected, result, how to fix."""
    table = Table(box=None, pad_edge=False)
    for column in ("CHECK", "MEASURED", "EXPECTED", "RESULT", "HOW TO FIX"):
        table.add_column(column, overflow="fold")
    for result in results:
        style = STYLES[result.status]
        plain = [Text(each) for each in (result.name, result.measured, result.expected)]
        table.add_row(*plain, Text(result.status, style=style), Text(result.help))
    return table
