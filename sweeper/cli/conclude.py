"""The verbs that read results: which configuration is better, why a trial ended, what matters."""

from pathlib import Path
from typing import Literal

import click

from sweeper.cli.options import (
    address_option,
    complete_trial,
    home_option,
    json_option,
    reason_given,
    study_argument,
    trial_argument,
)
from sweeper.errors import EXIT_OK


@click.command()
@study_argument
@home_option
@click.option("--top", type=click.IntRange(min=2), default=3, show_default=True, help="Configurations to compare.")
@click.option("--seeds", type=click.IntRange(min=2), default=5, show_default=True, help="Fresh seeds for each.")
@click.option("--new", is_flag=True, help="Another round, with seeds that no earlier one had.")
@click.option("--promote", is_flag=True, help="Register the winner in MLflow as `winner`, if there is one.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of these runs' spec.")
@click.option("--skip-preflight", metavar="REASON", callback=reason_given, help="As of `run`.")
@click.option("--accept-drift", is_flag=True, help="As of `run`.")
@address_option
@json_option
def winners(
    study: str,
    home: Path,
    top: int,
    seeds: int,
    new: bool,
    promote: bool,
    overrides: tuple[str, ...],
    skip_preflight: str,
    accept_drift: bool,
    address: str | None,
    as_json: bool,
) -> int:
    """Train the best configurations of STUDY again with fresh seeds, and say which one is better by more than chance.

    The runs are a study of their own, STUDY-winners; said again, this continues or shows it. Exit code: as of `run`; 3
    too if nothing could be promoted.

    \b
    Example:
      sweeper winners loss_balance --top 3 --seeds 5
    """
    from sweeper.lifecycle.winners import train_and_compare

    return train_and_compare(
        home,
        study,
        top,
        seeds,
        promote=promote,
        as_json=as_json,
        new=new,
        overrides=overrides,
        skip_preflight=skip_preflight,
        accept_drift=accept_drift,
        address=address,
    )


@click.command()
@click.argument("trials", nargs=-1, required=True, metavar="ID...", shell_complete=complete_trial)
@home_option
@json_option
def compare(trials: tuple[str, ...], home: Path, as_json: bool) -> int:
    """Show side by side in what trials differ, their curves, and what they came to.

    An ID is that of a trial, of one study or of several, or STUDY:best.

    \b
    Example:
      sweeper compare loss_balance:best loss_balance-0007
    """
    from sweeper.analysis.compare import compare_trials
    from sweeper.console import to_json
    from sweeper.views.compare import print_comparison

    found = compare_trials(home, trials)
    if as_json:
        curves = [[{"epoch": epoch, "value": value} for epoch, value in curve.items()] for curve in found.curves]
        click.echo(to_json(vars(found) | {"curves": curves}))
    else:
        print_comparison(found)
    return EXIT_OK


@click.command()
@trial_argument
@home_option
@json_option
def explain(trial: str, home: Path, as_json: bool) -> int:
    """Say who proposed a trial, how it stood at each rung, why it ended, and what its neighbours came to.

    \b
    Example:
      sweeper explain loss_balance-0002
    """
    from dataclasses import asdict

    from sweeper.analysis.explain import explain as explained
    from sweeper.console import to_json
    from sweeper.views.explain import print_explanation

    found = explained(home, trial)
    if as_json:
        click.echo(to_json(asdict(found) | {"objective": found.objective.metric}))
    else:
        print_explanation(found)
    return EXIT_OK


@click.command()
@study_argument
@home_option
@click.option(
    "--evaluator",
    type=click.Choice(["ped-anova", "mdi", "fanova"]),
    default="ped-anova",
    show_default=True,
    help="Optuna's: what the best tenth has in common; or random forests, `fanova` slowly.",
)
@json_option
def importance(study: str, home: Path, evaluator: Literal["ped-anova", "mdi", "fanova"], as_json: bool) -> int:
    """Say which parameters of STUDY its objective depends on, and when there are too few trials to say.

    \b
    Example:
      sweeper importance loss_balance
    """
    from sweeper.analysis.importance import importances_of
    from sweeper.console import to_json
    from sweeper.ledger.studies import open_study
    from sweeper.views.importance import print_importances

    ledger, spec = open_study(home, study)
    found = importances_of(study, spec, ledger.trials(), evaluator)
    if as_json:
        click.echo(to_json(vars(found)))
    else:
        print_importances(found)
    return EXIT_OK
