"""The verbs around the life of a study: what it will cost, and how it is stopped and continued."""

from pathlib import Path

import click

from sweeper.cli_options import home_option, json_option, spec_options
from sweeper.errors import EXIT_BAD_INPUT, EXIT_OK, Problem


@click.command()
@spec_options
@home_option
@click.option("--measure", is_flag=True, help="Time one epoch, if no earlier trial in this home shows the pace.")
@json_option
def plan(spec: Path, overrides: tuple[str, ...], trials: int | None, home: Path, measure: bool, as_json: bool) -> int:
    """Say what the study of SPEC will cost, and refuse what cannot fit its budget or the disk.

    Exit code: 0 it fits as far as is known, 2 it does not.

    \b
    Example:
      sweeper plan search_spaces/loss_balance.yaml --measure
    """
    from sweeper.plan import plan_json, plan_study, plan_text
    from sweeper.spec import load_spec
    from sweeper.views import to_json

    loaded = load_spec(spec, overrides, trials)
    made = plan_study(loaded, home, measure=measure)
    click.echo(to_json(plan_json(made)) if as_json else plan_text(loaded, made))
    for problem in made.problems:
        click.echo(Problem(problem, where=str(spec)).render(), err=True)
    return EXIT_BAD_INPUT if made.problems else EXIT_OK
