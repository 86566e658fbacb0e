"""The verb that looks for what is wrong, and mends it if asked."""

from pathlib import Path

import click

from sweeper.cli.options import home_option, json_option


@click.command()
@home_option
@click.option("--fix", is_flag=True, help="Fix what can be fixed without data loss.")
@json_option
def doctor(home: Path, fix: bool, as_json: bool) -> int:
    """Look for what is wrong with the installation, left-over processes, open ports and the studies.

    Without --fix nothing is changed. What a driver works on is never touched.
    Exit code: 0 nothing is left to be fixed, 1 something is, 5 only records that MLflow refused are.

    \b
    Example:
      sweeper doctor --fix
    """
    from sweeper.maintenance.doctor import doctor as examine

    return examine(home, fix=fix, as_json=as_json)
