"""The verb that shows a study while it runs."""

from contextlib import suppress
from pathlib import Path

import click

from sweeper.cli.options import FiniteRange, home_option, json_option, study_argument
from sweeper.errors import EXIT_OK


@click.command()
@study_argument
@home_option
@click.option("--interval", type=FiniteRange(min=0.1), default=1.0, show_default=True, help="Seconds between looks.")
@json_option
def watch(study: str, home: Path, interval: float, as_json: bool) -> int:
    """Show STUDY while its driver runs: trials, rungs, best so far, time left, budget, last events.

    From any terminal that sees the study home. A live screen in a terminal, a line an event in a pipe, a JSON object
    an event with --json. Ends when the driver does.

    \b
    Example:
      sweeper watch loss_balance
    """
    from sweeper.views.watch import watch as follow

    with suppress(KeyboardInterrupt):  # ends the watching, not the study
        follow(home, study, as_json=as_json, interval_s=interval)
    return EXIT_OK
