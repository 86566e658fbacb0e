"""The verbs around what MLflow holds of a study."""

from pathlib import Path

import click

from sweeper.cli_options import home_option, json_option
from sweeper.errors import EXIT_OK, EXIT_TRIAL_FAILED


@click.command()
@click.argument("study")
@home_option
@json_option
def sync(study: str, home: Path, as_json: bool) -> int:
    """Ship what MLflow has not got of STUDY: after the server was down, or MLFLOW_TRACKING_URI was wrong.

    Exit code: 0 MLflow is up to date, 1 records still wait, 2 bad input.

    \b
    Example:
      sweeper sync loss_balance
    """
    from sweeper.sync import sync_study
    from sweeper.views import to_json

    synced = sync_study(home, study)
    click.echo(to_json(vars(synced)) if as_json else synced.sentence())
    return EXIT_TRIAL_FAILED if synced.left else EXIT_OK
