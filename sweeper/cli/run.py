"""The verbs that run a study, and those that pause, end, continue and lengthen one."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from sweeper.cli.options import (
    accept_drift_option,
    complete_study_or_trial,
    confirmed,
    home_option,
    run_options,
    skip_preflight_option,
    spec_options,
    study_argument,
    yes_option,
)
from sweeper.errors import EXIT_OK, UserError
from sweeper.lifecycle.options import RunOptions


@click.command()
@spec_options
@home_option
@click.option("--new", is_flag=True, help="Start another study beside the one that exists, instead of continuing it.")
@click.option("--ledger", metavar="URL", envvar="SWEEPER_LEDGER", show_envvar=True, help="Database of the ledger.")
@run_options
def run(
    spec: Path,
    overrides: tuple[str, ...],
    trials: int | None,
    home: Path,
    new: bool,
    ledger: str | None,
    options: RunOptions,
) -> int:
    """Run the study of SPEC, or continue it where it stopped. Checks the pipeline first, if it has changed.

    Exit code: 0 done, 1 some trial failed, 2 bad input, 3 the preflight failed or no trial beats the controls (even if
    one failed too), 130 interrupted (run again to continue).

    \b
    Example:
      sweeper run search_spaces/loss_balance.yaml --trials 4 --set base.optim.epochs=3
    """
    from sweeper.spec.load import load_spec

    loaded = load_spec(spec, overrides, trials)  # before the slow imports: a misspelt key is reported immediately
    if sys.stderr.isatty():
        click.echo(f"{loaded.name}: starting", err=True)
    from sweeper.lifecycle.run import run_study

    return run_study(loaded, home, options, new=new, ledger_url=ledger)


@click.command()
@spec_options
@click.option(
    "--address",
    metavar="URL",
    envvar="RAY_API_SERVER_ADDRESS",
    show_envvar=True,
    required=True,
    help="The cluster's Jobs API, http://HOST:8265.",
)
@click.option("--home", required=True, metavar="DIR", help="Folder of all studies, as the cluster's head node sees it.")
@click.option("--new", is_flag=True, help="Start another study beside the one that exists, instead of continuing it.")
@skip_preflight_option
@accept_drift_option
@click.option("--no-wait", is_flag=True, help="Do not follow the run's output.")
def submit(
    spec: Path,
    overrides: tuple[str, ...],
    trials: int | None,
    address: str,
    home: str,
    new: bool,
    skip_preflight: str,
    accept_drift: bool,
    no_wait: bool,
) -> int:
    """Run SPEC as a job of a Ray cluster that this machine is not a node of. Exit code: as for `run`.

    Only the file is sent. Code, data and secrets (SWEEPER_LEDGER, MLFLOW_TRACKING_URI, ...) are those of the cluster's
    head node; this machine gives the token (RAY_AUTH_TOKEN).

    \b
    Example:
      sweeper submit search_spaces/loss_balance.yaml --address http://10.0.0.1:8265 --home /srv/sweeper
    """
    from sweeper.spec.load import load_spec

    loaded = load_spec(spec, overrides, trials)
    arguments = [text for override in overrides for text in ("--set", override)]
    arguments += ["--trials", str(trials)] if trials else []
    arguments += ["--new"] if new else []
    arguments += ["--skip-preflight", skip_preflight] if skip_preflight else []
    arguments += ["--accept-drift"] if accept_drift else []
    from sweeper.executor.jobs import submit as submit_spec

    return submit_spec(loaded, arguments, home, address, follow=not no_wait)


@click.command()
@study_argument
@home_option
@run_options
@click.option("--adopt", is_flag=True, help="Take STUDY over from a home that is lost, or of which this is a copy.")
@click.option("--fork", is_flag=True, help="Continue in this copy of a home as a separate study.")
@click.option(
    "--ledger", metavar="URL", envvar="SWEEPER_LEDGER", show_envvar=True, help="Database of its ledger, with --adopt."
)
@click.option("--from", "copy", metavar="DIR", help="Start from the copy that --sync-to has kept in DIR.")
def resume(
    study: str, home: Path, options: RunOptions, adopt: bool, fork: bool, ledger: str | None, copy: str | None
) -> int:
    """Continue STUDY where it was interrupted, paused or stopped. Exit code: as for `run`.

    With --adopt, STUDY's home may be lost: its ledger in PostgreSQL is enough. Trials resume from the checkpoints that
    this home can reach, the others start over. In a copy of a home that writes to the same MLflow, --adopt continues
    here instead of there, and --fork continues in both, with a second experiment in MLflow. With --from, STUDY starts
    from the copy that its lost home kept, and the copy is kept up to date.

    \b
    Example:
      sweeper resume loss_balance
      sweeper resume loss_balance --from /content/drive/MyDrive/sweeps
      sweeper resume loss_balance --adopt --ledger postgresql://user@host/database
    """
    from sweeper.lifecycle.resume import resume as continue_it

    if copy and (adopt or fork):
        raise click.UsageError("--from cannot be used together with --adopt or --fork")
    if copy and options.sync_to is None:
        options = replace(options, sync_to=copy)
    if adopt and fork:
        raise click.UsageError("--adopt and --fork cannot be used together: the study continues here, or in both homes")
    if adopt:
        from sweeper.lifecycle.adopt import adopt as take_over

        click.echo(take_over(home, study, ledger).sentence(), err=True)
    elif fork:
        from sweeper.lifecycle.adopt import fork as make_own

        click.echo(make_own(home, study), err=True)
    return continue_it(home, study, options, copy)


@click.command()
@study_argument
@home_option
def pause(study: str, home: Path) -> int:
    """Let the running trials of STUDY reach their next checkpoint, then end its driver, as Ctrl-C does there.

    \b
    Example:
      sweeper pause loss_balance
    """
    from sweeper.lifecycle.stop import pause as pause_it

    click.echo(pause_it(home, study))
    return EXIT_OK


@click.command()
@click.argument("target", metavar="STUDY|ID", shell_complete=complete_study_or_trial)
@home_option
def stop(target: str, home: Path) -> int:
    """End a study: its running trials are STOPPED at once, and none is started. Or end one trial, by its ID.

    \b
    Example:
      sweeper stop loss_balance
      sweeper stop loss_balance-0007
    """
    from sweeper.ledger.studies import study_dirs
    from sweeper.lifecycle.stop import stop as stop_it
    from sweeper.lifecycle.stop import stop_trial

    names = [folder.name for folder in study_dirs(home)]
    is_trial = target not in names and any(target.startswith((f"{name}-", f"{name}:")) for name in names)
    click.echo(stop_trial(home, target) if is_trial else stop_it(home, target))
    return EXIT_OK


@click.command()
@study_argument
@click.argument("settings", nargs=-1, metavar="KEY=VALUE...")
@click.option("--like", metavar="ID", help="Trial that supplies the values left out, or STUDY:best.")
@home_option
def enqueue(study: str, settings: tuple[str, ...], like: str | None, home: Path) -> int:
    """Add a configuration to STUDY, as one more trial: next, if the study is running; else trained by the next run.

    \b
    Example:
      sweeper enqueue loss_balance optim.lr=0.002 --like loss_balance:best
    """
    from sweeper.lifecycle.enqueue import enqueue as add

    click.echo(add(home, study, settings, like))
    return EXIT_OK


@click.command("rm")
@study_argument
@yes_option
@home_option
def remove(study: str, yes: bool, home: Path) -> int:
    """Remove STUDY: its trials, their checkpoints, and its runs in MLflow. Asks first.

    \b
    Example:
      sweeper rm loss_balance --yes
    """
    from sweeper.lifecycle.remove import remove as remove_it

    def confirm(what: str) -> bool:
        return confirmed(f"remove {what}?", yes=yes, refusal="nothing was removed")

    click.echo(remove_it(home, study, confirm))
    return EXIT_OK


@click.command()
@study_argument
@click.option("--trials", type=click.IntRange(min=1), help="How many more.")
@click.option("--seeds", type=click.IntRange(min=1), help="How many more seeds for each variant.")
@home_option
@run_options
def extend(study: str, trials: int | None, seeds: int | None, home: Path, options: RunOptions) -> int:
    """Add trials to STUDY, or seeds for each of its variants, and run them. Exit code: as for `run`.

    \b
    Example:
      sweeper extend loss_balance --trials 6
      sweeper extend alignment --seeds 2
    """
    if (trials is None) == (seeds is None):
        raise UserError("say what is added: `--trials N` to a search, or `--seeds N` to variants")
    from sweeper.lifecycle import resume as verbs

    if seeds is not None:
        return verbs.extend_seeds(home, study, seeds, options)
    assert trials is not None
    return verbs.extend(home, study, trials, options)


@click.command()
@study_argument
@click.option("--failed", is_flag=True, required=True, help="The trials that failed.")
@home_option
@run_options
def retry(study: str, failed: bool, home: Path, options: RunOptions) -> int:
    """Try failed trials and controls again, as new trials of STUDY. Exit code: as for `run`.

    \b
    Example:
      sweeper retry loss_balance --failed --accept-drift
    """
    from sweeper.lifecycle.resume import retry_failed

    return retry_failed(home, study, options)
