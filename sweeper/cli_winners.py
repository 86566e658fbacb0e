"""The verbs that read results: which configuration is better, why a trial ended, what matters."""

from pathlib import Path

import click

from sweeper.cli_options import home_option, json_option


@click.command()
@click.argument("study")
@home_option
@click.option("--top", type=click.IntRange(min=2), default=3, show_default=True, help="Configurations to compare.")
@click.option("--seeds", type=click.IntRange(min=2), default=5, show_default=True, help="Fresh seeds for each.")
@click.option("--promote", is_flag=True, help="Register the winner in MLflow as `winner`, if there is one.")
@click.option("--skip-preflight", metavar="REASON", default="", help="As of `run`.")
@click.option("--accept-drift", is_flag=True, help="As of `run`.")
@json_option
def winners(
    study: str,
    home: Path,
    top: int,
    seeds: int,
    promote: bool,
    skip_preflight: str,
    accept_drift: bool,
    as_json: bool,
) -> int:
    """Train the best configurations of STUDY again with fresh seeds, and say which one is better by more than chance.

    The runs are a study of their own, STUDY-winners; said again, this continues it. Exit code: as of `run`; 3 too if
    nothing could be promoted.

    \b
    Example:
      sweeper winners loss_balance --top 3 --seeds 5
    """
    from sweeper.winners_view import train_and_compare

    return train_and_compare(
        home,
        study,
        top,
        seeds,
        promote=promote,
        skip_preflight=skip_preflight,
        accept_drift=accept_drift,
        as_json=as_json,
    )
