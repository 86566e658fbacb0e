"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="SWEEPER_HOME",
        show_envvar=True,
        default=Path(".sweeper"),
        show_default=True,
        help="Folder of all studies and their records.",
    )(command)


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option("--trials", type=click.IntRange(min=1), help="Number of trials, instead of the spec's."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the spec."),
        click.argument("spec", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
