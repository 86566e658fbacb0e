"""The verb that writes a study's report."""

import webbrowser
from pathlib import Path
from typing import Literal

import click

from sweeper.cli.options import home_option, study_argument
from sweeper.errors import EXIT_OK


@click.command()
@study_argument
@home_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default: in the study.")
@click.option(
    "--format", "form", type=click.Choice(["html", "md"]), default="html", show_default=True, help="Its form."
)
@click.option("--open", "opened", is_flag=True, help="Show it in the browser.")
def report(study: str, home: Path, out: Path | None, form: Literal["html", "md"], opened: bool) -> int:
    """Write what STUDY found as one HTML file that needs no network, and print where.

    \b
    Example:
      sweeper report loss_balance --out report.html
    """
    from sweeper.html_report import write_report

    path = write_report(home, study, out, form)
    click.echo(path)
    if opened:
        webbrowser.open(path.resolve().as_uri())
    return EXIT_OK
