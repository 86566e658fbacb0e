"""Shares of the parameters, as bars."""

from rich.table import Table

from sweeper.analysis.importance import Importances
from sweeper.console import output_console
from sweeper.samplers.importance import NOISE


def print_importances(found: Importances) -> None:
    """Print the shares as bars on stdout, and the warning."""
    console = output_console()
    at = "at the end" if found.epoch is None else f"up to epoch {found.epoch:g}"
    console.print(f"what {found.metric} {at} depends on: {found.evaluator} over {found.trials} trials of {found.study}")
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify)
    for path, share in found.shares.items():
        table.add_row(path, f"{share:.0%}", "█" * round(40 * share), style="" if share > found.noise else "dim")
    if found.shares:
        table.add_row(NOISE, f"{found.noise:.0%}", "█" * round(40 * found.noise), style="dim")
    console.print(table)
    if found.left_out:
        console.print(f"left out, because only some trials have them: {', '.join(found.left_out)}")
    if found.warning:
        console.print(f"warning: {found.warning}", style="yellow", markup=False)
