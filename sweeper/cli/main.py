"""The command line: one short function per verb. Slow modules are imported inside the verb that needs them."""

import errno
import os
import sys
from typing import Final

import click

from mano_trainers.errors import TrainerError
from sweeper import __version__
from sweeper.cli import before, conclude, look, maintain, run
from sweeper.cli.convert import convert
from sweeper.cli.data import data
from sweeper.cli.group import SectionedGroup
from sweeper.cli.init import init
from sweeper.cli.slurm import slurm
from sweeper.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, Problem, UserError
from sweeper.redaction import redact_tracebacks

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)

PRIVATE: Final = 0o077
"""The umask: a home contains what belongs to its team. `chmod -R g+rX` shares it."""


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
        help = "the ledger is safe: free some space and run the study again"
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


for verb in (
    *(init, before.check, before.plan, before.preflight, convert, data),
    *(run.run, run.submit, slurm, run.resume, run.pause, run.stop, run.enqueue, run.extend, run.retry),
    *(look.list_, look.status, look.show, look.config, look.watch, look.logs, look.report, look.ui, look.dashboard),
    *(conclude.winners, conclude.ablate, conclude.compare, conclude.explain, conclude.importance, conclude.reproduce),
    *(maintain.doctor, maintain.sync, maintain.gc, run.remove),
):
    sweeper.add_command(verb)


if __name__ == "__main__":
    sys.exit(main())
