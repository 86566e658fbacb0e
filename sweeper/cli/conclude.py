"""The verbs that read results: which configuration is better, why a trial ended, what matters, and whether a rerun
gives the same."""

from pathlib import Path
from typing import Literal

import click

from sweeper.cli.options import (
    FiniteRange,
    complete_study,
    complete_trial,
    confirmed,
    home_option,
    json_option,
    run_options,
    study_argument,
    trial_argument,
    yes_option,
)
from sweeper.errors import EXIT_OK, UserError
from sweeper.lifecycle.options import RunOptions


@click.command()
@study_argument
@home_option
@click.option("--top", type=click.IntRange(min=2), default=3, show_default=True, help="Configurations to compare.")
@click.option("--seeds", type=click.IntRange(min=2), default=5, show_default=True, help="Fresh seeds for each.")
@click.option("--new", is_flag=True, help="Another round, with seeds that no earlier round used.")
@click.option("--promote", is_flag=True, help="Register the winner in MLflow as `winner`, if there is one.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of these runs' spec.")
@run_options
@json_option
def winners(
    study: str,
    home: Path,
    top: int,
    seeds: int,
    new: bool,
    promote: bool,
    overrides: tuple[str, ...],
    options: RunOptions,
    as_json: bool,
) -> int:
    """Train the best configurations of STUDY again with fresh seeds, and say which one is better by more than chance.

    The runs are a separate study, STUDY-winners; the same command again continues or shows it. Exit code: as for `run`;
    3 too if nothing could be promoted.

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
        options=options,
    )


@click.command()
@click.argument("study", metavar="STUDY|SPEC", shell_complete=complete_study)
@home_option
@click.option("--baseline", metavar="VARIANT", help="Compare with this one, instead of the spec's baseline.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "csv", "json"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
@json_option
def ablate(
    study: str,
    home: Path,
    baseline: str | None,
    form: Literal["table", "markdown", "latex", "csv", "json"],
    as_json: bool,
) -> int:
    """Compare the variants of STUDY (or of the study of SPEC) with the baseline, over the seeds they share.

    First what these seeds can show; then for each the mean with its 95 % interval, the paired difference with p and
    effect size, and how many runs collapsed; of factorial designs the main effects and interactions too. All p-values
    are corrected together (Holm). `sweeper run SPEC` trains the variants.

    \b
    Example:
      sweeper ablate alignment --format latex
    """
    if as_json and form not in ("table", "json"):
        raise UserError(f"--json and --format {form} cannot be used together", help="leave one of them out")
    from sweeper.analysis.ablation import ablation_result
    from sweeper.console import output_console
    from sweeper.ledger.studies import open_study
    from sweeper.spec.load import load_spec
    from sweeper.views.ablation import render

    name = load_spec(Path(study)).name if study.endswith((".yaml", ".yml")) else study
    ledger, spec = open_study(home, name)
    result = ablation_result(name, spec, ledger.trials(), baseline, ledger.controls())
    console = output_console()
    click.echo(render(result, "json" if as_json else form, console.width if console.is_terminal else None))
    return EXIT_OK


@click.command()
@click.argument("trials", nargs=-1, required=True, metavar="ID...", shell_complete=complete_trial)
@home_option
@json_option
def compare(trials: tuple[str, ...], home: Path, as_json: bool) -> int:
    """Show side by side how trials differ, their curves, and their results.

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
    """Say who proposed a trial, its rank at each rung, why it ended, and how its neighbours did.

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
    help="Optuna's: what the best tenth has in common; or random forests (`fanova` is slow).",
)
@json_option
def importance(study: str, home: Path, evaluator: Literal["ped-anova", "mdi", "fanova"], as_json: bool) -> int:
    """Say which parameters of STUDY its objective depends on, or that there are too few trials to tell.

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


@click.command()
@trial_argument
@home_option
@click.option("--until", type=FiniteRange(min=0, min_open=True), metavar="EPOCH", help="Stop at this epoch.")
@click.option(
    "--from-checkpoint",
    type=FiniteRange(min=0),
    metavar="EPOCH",
    help="Continue from this epoch and compare what follows.",
)
@click.option("--at-commit", is_flag=True, help="Run the recorded commit: code that MLflow names. Asks first.")
@yes_option
@json_option
def reproduce(
    trial: str,
    home: Path,
    until: float | None,
    from_checkpoint: float | None,
    at_commit: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Run a trial again from its record and compare every metric.

    ID is that of a trial, the unique start of one, or STUDY:best. All it needs is in MLflow.
    Exit code: 0 BIT-EXACT or WITHIN TOLERANCE, 4 another verdict or a rerun that did not finish, 2 bad input.

    \b
    Example:
      sweeper reproduce loss_balance:best --until 2
    """
    if until is not None and from_checkpoint is not None and until <= from_checkpoint:
        what = f"there is nothing between --from-checkpoint {from_checkpoint:g} and --until {until:g}"
        raise UserError(what, "--until", "name a later epoch, or leave it out")
    from sweeper.reproducibility.reproduce import reproduce as rerun

    def confirm(warning: str) -> bool:
        click.echo(f"warning: {warning}", err=True)
        return confirmed("run it?", yes=yes, refusal="recorded code is not run")

    return rerun(
        trial, home, until, from_checkpoint=from_checkpoint, at_commit=confirm if at_commit else None, as_json=as_json
    )
