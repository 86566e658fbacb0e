"""The verbs before a run: what a sweep file says, what it will cost, and whether the pipeline works."""

import json
from pathlib import Path

import click

from sweeper.cli.options import home_option, json_option, prices_given, spec_options
from sweeper.errors import EXIT_BAD_INPUT, EXIT_NO_SKILL, EXIT_OK, Problem


@click.command()
@spec_options
@json_option
def check(spec: Path, overrides: tuple[str, ...], trials: int | None, as_json: bool) -> int:
    """Say what SPEC will do, or everything that is wrong with it. Starts nothing.

    \b
    Example:
      sweeper check search_spaces/loss_balance.yaml --set search_space.optim.lr.high=0.01
    """
    from sweeper.spec.load import load_spec
    from sweeper.views.spec import describe

    loaded = load_spec(spec, overrides, trials)
    notes: list[str] = []
    if loaded.sampler.is_custom:
        from sweeper.samplers.custom import check_sampler  # imports optuna, over a second

        notes = check_sampler(loaded)
    click.echo(json.dumps(loaded.effective, indent=2) if as_json else describe(loaded))
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return EXIT_OK


@click.command()
@spec_options
@home_option
@click.option("--measure", is_flag=True, help="Time one epoch, if no earlier trial in this home shows the pace.")
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="GPU=EUROS",
    callback=prices_given,
    help="What an hour of a GPU costs: h100=2.5.",
)
@json_option
def plan(
    spec: Path,
    overrides: tuple[str, ...],
    trials: int | None,
    home: Path,
    measure: bool,
    prices: dict[str, float],
    as_json: bool,
) -> int:
    """Say what the study of SPEC will cost, here and on rented GPUs; refuse what cannot fit its budget or the disk.

    Exit code: 0 it fits as far as is known, 2 it does not.

    \b
    Example:
      sweeper plan search_spaces/loss_balance.yaml --measure
    """
    from sweeper.analysis.cost import plan_json, plan_study, plan_text
    from sweeper.console import to_json
    from sweeper.spec.load import load_spec

    loaded = load_spec(spec, overrides, trials)
    made = plan_study(loaded, home, measure=measure, prices=prices)
    written, text = plan_json(made), plan_text(loaded, made)
    if loaded.variants and loaded.seeds:
        from sweeper.analysis.design_power import design_power, design_power_text

        sight = design_power(loaded, home)
        written, text = written | {"sight": vars(sight)}, f"{text}\n{design_power_text(loaded, sight)}"
    click.echo(to_json(written) if as_json else text)
    for problem in made.problems:
        click.echo(Problem(problem, where=str(spec)).render(), err=True)
    return EXIT_BAD_INPUT if made.problems else EXIT_OK


@click.command()
@spec_options
@home_option
@json_option
def preflight(spec: Path, overrides: tuple[str, ...], trials: int | None, home: Path, as_json: bool) -> int:
    """Check data, labels, metric, losses and machine before SPEC is run: is the pipeline sound?

    Exit code: 0 nothing failed, 2 bad input, 3 a check failed.

    \b
    Example:
      sweeper preflight search_spaces/loss_balance.yaml
    """
    from sweeper.spec.load import load_spec

    loaded = load_spec(spec, overrides, trials)
    from sweeper.console import to_json
    from sweeper.views.preflight import preflight_spec, print_preflight

    outcome = preflight_spec(loaded, home, quiet=as_json)
    if as_json:
        click.echo(to_json(outcome.to_json()))
    else:
        print_preflight(outcome)
    return EXIT_NO_SKILL if outcome.failed else EXIT_OK
