"""The command line: one short function a verb. Slow modules are imported inside the verb that needs them."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Final

import click

from mano_trainers.errors import TrainerError
from sweeper import __version__
from sweeper.cli.ablate import ablate
from sweeper.cli.conclude import compare, explain, importance, winners
from sweeper.cli.convert import convert
from sweeper.cli.data import data
from sweeper.cli.doctor import doctor
from sweeper.cli.group import SectionedGroup
from sweeper.cli.maintain import gc, sync
from sweeper.cli.options import (
    FiniteRange,
    address_option,
    home_option,
    json_option,
    reason_given,
    spec_options,
    study_argument,
    trial_argument,
)
from sweeper.cli.report import report
from sweeper.cli.study import extend, pause, plan, resume, retry, status, stop
from sweeper.cli.submit import submit
from sweeper.cli.watch import watch
from sweeper.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_NO_SKILL, EXIT_OK, LedgerLost, Problem, UserError
from sweeper.redaction import redact_tracebacks

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)

PRIVATE: Final = 0o077
"""The umask: a home holds what belongs to its team. `chmod -R g+rX` shares it."""


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code; errors of the user are printed without a traceback.

    What is written meanwhile, a study home above all, is for this user alone.
    """
    redact_tracebacks()
    umask = os.umask(PRIVATE)
    try:
        code = sweeper.main(args, prog_name="sweeper", standalone_mode=False)
    except UserError as error:
        click.echo(error.render(), err=True)
    except TrainerError as error:
        click.echo(Problem(error.what, error.where, error.help).render(), err=True)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
    except click.ClickException as error:
        click.echo(_usage_problem(error).render(), err=True)
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        help = "what is in the ledger is safe: make room, and run the study again"
        click.echo(Problem(f"cannot write: {error.strerror}", error.filename, help).render(), err=True)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    else:
        return code if isinstance(code, int) else EXIT_OK
    finally:
        os.umask(umask)
    return EXIT_BAD_INPUT


def _usage_problem(error: click.ClickException) -> Problem:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sweeper"
    close = getattr(error, "possibilities", None)  # of an unknown option or command
    what = (error.message if close else error.format_message()).rstrip(".").replace("'", "`")
    help = f"did you mean `{close[0]}`?" if close else f"see `{command} --help`"
    return Problem(f"{what[:1].lower()}{what[1:]}", help=help)


@click.group(cls=SectionedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def sweeper() -> None:
    """Sweep and ablate the training of hand-pose models: every trial recorded, every stop explained.

    \b
    Example:
      sweeper run search_spaces/loss_balance.yaml

    \b
    Completion of verbs, studies and trials by Tab (bash; zsh_source and fish_source too):
      eval "$(_SWEEPER_COMPLETE=bash_source sweeper)"
    """


@sweeper.command()
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


@sweeper.command()
@spec_options
@home_option
@click.option("--new", is_flag=True, help="Start another study beside the one that exists, instead of continuing it.")
@click.option("--ledger", metavar="URL", envvar="SWEEPER_LEDGER", show_envvar=True, help="Database of the ledger.")
@click.option(
    "--skip-preflight",
    metavar="REASON",
    callback=reason_given,
    help="Do not check the pipeline first; the reason is recorded.",
)
@click.option("--accept-drift", is_flag=True, help="Continue although spec, code or data have changed; it is recorded.")
@address_option
def run(
    spec: Path,
    overrides: tuple[str, ...],
    trials: int | None,
    home: Path,
    new: bool,
    ledger: str | None,
    skip_preflight: str,
    accept_drift: bool,
    address: str | None,
) -> int:
    """Run the study of SPEC, or continue it where it stopped. Checks the pipeline first, if it has changed.

    Exit code: 0 done, 1 some trial failed, 2 bad input, 3 the preflight failed or no trial beats the controls (even if
    one failed too), 130 interrupted (run again to continue).

    \b
    Example:
      sweeper run search_spaces/loss_balance.yaml --trials 4 --set base.optim.epochs=3
    """
    from sweeper.spec.load import load_spec

    loaded = load_spec(spec, overrides, trials)  # before the slow imports: a misspelt key is told at once
    from sweeper.lifecycle.run import run_study

    return run_study(
        loaded,
        home,
        new=new,
        ledger_url=ledger,
        skip_preflight=skip_preflight,
        accept_drift=accept_drift,
        address=address,
    )


@sweeper.command()
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


@sweeper.command("list")
@home_option
@json_option
def list_(home: Path, as_json: bool) -> int:
    """List the studies.

    \b
    Example:
      sweeper list --json
    """
    from sweeper.console import to_json
    from sweeper.views import study as views

    lost: list[LedgerLost] = []
    if as_json:
        click.echo(to_json(views.list_studies(home, lost)))
    else:
        views.print_list(home, lost)
    for error in lost:
        click.echo(error.render(), err=True)
    return EXIT_BAD_INPUT if lost else EXIT_OK


@sweeper.command()
@study_argument
@home_option
@json_option
def show(study: str, home: Path, as_json: bool) -> int:
    """Show the trials of STUDY, with the reason of every stop.

    \b
    Example:
      sweeper show loss_balance
    """
    from sweeper.console import to_json
    from sweeper.views import study as views

    if as_json:
        click.echo(to_json(views.show_study(home, study)))
    else:
        views.print_study(home, study)
    return EXIT_OK


@sweeper.command()
@trial_argument
@home_option
@click.option("--until", type=FiniteRange(min=0, min_open=True), metavar="EPOCH", help="Stop at this epoch.")
@click.option(
    "--from-checkpoint",
    type=FiniteRange(min=0),
    metavar="EPOCH",
    help="Go on from this epoch, and compare what follows.",
)
@click.option("--at-commit", is_flag=True, help="Run the recorded commit and changes: code from the MLflow store.")
@json_option
def reproduce(
    trial: str, home: Path, until: float | None, from_checkpoint: float | None, at_commit: bool, as_json: bool
) -> int:
    """Run a trial again from its record and compare every metric.

    ID is that of a trial, the unique start of one, or STUDY:best. All it needs is in MLflow.
    Exit code: 0 BIT-EXACT or WITHIN TOLERANCE, 4 DIFFERS, 2 bad input.

    \b
    Example:
      sweeper reproduce loss_balance:best --until 2
    """
    if until is not None and from_checkpoint is not None and until <= from_checkpoint:
        what = f"nothing lies between --from-checkpoint {from_checkpoint:g} and --until {until:g}"
        raise UserError(what, "--until", "name a later epoch, or leave it out")
    from sweeper.reproducibility.reproduce import reproduce as rerun

    return rerun(trial, home, until, from_checkpoint=from_checkpoint, at_commit=at_commit, as_json=as_json)


@sweeper.command()
@home_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on this machine.")
def ui(home: Path, port: int) -> int:
    """Open the MLflow UI of all studies, on this machine only.

    Ctrl-C ends it.

    \b
    Example:
      sweeper ui --port 5001
    """
    from sweeper.tracking import serve_ui

    return serve_ui(home, port)


for verb in (
    convert,
    data,
    doctor,
    extend,
    gc,
    pause,
    plan,
    report,
    resume,
    retry,
    status,
    stop,
    submit,
    sync,
    watch,
    ablate,
    winners,
    compare,
    explain,
    importance,
):
    sweeper.add_command(verb)


if __name__ == "__main__":
    sys.exit(main())
