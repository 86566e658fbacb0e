"""The verbs around the life of a study: what it will cost, and how it is stopped and continued."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sweeper.cli.options import address_option, home_option, json_option, reason_given, spec_options, study_argument
from sweeper.errors import EXIT_BAD_INPUT, EXIT_NOT_RECORDED, EXIT_OK, Problem


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
    from sweeper.analysis.cost import plan_json, plan_study, plan_text
    from sweeper.console import to_json
    from sweeper.spec.load import load_spec

    loaded = load_spec(spec, overrides, trials)
    made = plan_study(loaded, home, measure=measure)
    written, text = plan_json(made), plan_text(loaded, made)
    if loaded.variants and loaded.seeds:
        from sweeper.analysis.power import design_power, design_power_text

        sight = design_power(loaded, home)
        written, text = written | {"sight": vars(sight)}, f"{text}\n{design_power_text(loaded, sight)}"
    click.echo(to_json(written) if as_json else text)
    for problem in made.problems:
        click.echo(Problem(problem, where=str(spec)).render(), err=True)
    return EXIT_BAD_INPUT if made.problems else EXIT_OK


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    drift = "Continue although code or data have changed; the study remembers it."
    skip = "Do not check the pipeline first; the reason is recorded."
    command = click.option("--skip-preflight", metavar="REASON", callback=reason_given, help=skip)(command)
    command = address_option(command)
    return click.option("--accept-drift", is_flag=True, help=drift)(command)


@click.command()
@study_argument
@home_option
@_run_options
@click.option("--adopt", is_flag=True, help="Take STUDY over from a home that is lost.")
@click.option(
    "--ledger", metavar="URL", envvar="SWEEPER_LEDGER", show_envvar=True, help="Database of its ledger, with --adopt."
)
def resume(
    study: str,
    home: Path,
    accept_drift: bool,
    skip_preflight: str,
    address: str | None,
    adopt: bool,
    ledger: str | None,
) -> int:
    """Continue STUDY where it was interrupted, paused or stopped. Exit code: as of `run`.

    With --adopt, a study whose home is lost: its ledger in PostgreSQL is enough. Trials go on from the checkpoints that
    this home reaches, the others anew.

    \b
    Example:
      sweeper resume loss_balance
      sweeper resume loss_balance --adopt --ledger postgresql://user@host/database
    """
    from sweeper.lifecycle import resume as life

    if adopt:
        from sweeper.lifecycle.adopt import adopt as take_over

        click.echo(take_over(home, study, ledger).sentence(), err=True)
    return life.resume(home, study, accept_drift=accept_drift, skip_preflight=skip_preflight, address=address)


@click.command()
@study_argument
@click.option("--trials", type=click.IntRange(min=1), required=True, help="How many more.")
@home_option
@_run_options
def extend(study: str, trials: int, home: Path, accept_drift: bool, skip_preflight: str, address: str | None) -> int:
    """Add trials to STUDY and run them. Exit code: as of `run`.

    \b
    Example:
      sweeper extend loss_balance --trials 6
    """
    from sweeper.lifecycle import resume as life

    return life.extend(home, study, trials, accept_drift=accept_drift, skip_preflight=skip_preflight, address=address)


@click.command()
@study_argument
@click.option("--failed", is_flag=True, required=True, help="The trials that failed.")
@home_option
@_run_options
def retry(study: str, failed: bool, home: Path, accept_drift: bool, skip_preflight: str, address: str | None) -> int:
    """Try failed trials and controls again, as new trials of STUDY. Exit code: as of `run`.

    \b
    Example:
      sweeper retry loss_balance --failed --accept-drift
    """
    from sweeper.lifecycle import resume as life

    return life.retry_failed(home, study, accept_drift=accept_drift, skip_preflight=skip_preflight, address=address)


@click.command()
@study_argument
@home_option
def pause(study: str, home: Path) -> int:
    """Let the running trials of STUDY reach their next checkpoint, then end its driver, as Ctrl-C does there.

    \b
    Example:
      sweeper pause loss_balance
    """
    from sweeper.lifecycle import resume as life

    click.echo(life.pause(home, study))
    return EXIT_OK


@click.command()
@study_argument
@home_option
def stop(study: str, home: Path) -> int:
    """End STUDY: running trials are STOPPED at once, and none is started.

    \b
    Example:
      sweeper stop loss_balance
    """
    from sweeper.lifecycle import resume as life

    click.echo(life.stop(home, study))
    return EXIT_OK


@click.command()
@study_argument
@home_option
@json_option
def status(study: str, home: Path, as_json: bool) -> int:
    """Say where STUDY stands: whether a driver runs it, its trials by state, what it has used, and what MLflow lacks.

    Exit code: 0, or 5 where MLflow refused records of it for good.

    \b
    Example:
      sweeper status loss_balance
    """
    from sweeper.console import to_json
    from sweeper.views.status import status as standing_of
    from sweeper.views.status import status_text

    standing = standing_of(home, study)
    click.echo(to_json(standing) if as_json else status_text(standing))
    return EXIT_NOT_RECORDED if standing["refused"] else EXIT_OK
