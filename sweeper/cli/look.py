"""The verbs that show studies: in a terminal, as a report, in MLflow's UI."""

import signal
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sweeper.cli.options import FiniteRange, complete_study, home_option, json_option, study_argument, trial_argument
from sweeper.errors import EXIT_BAD_INPUT, EXIT_NOT_RECORDED, EXIT_OK, UserError

if TYPE_CHECKING:
    from sweeper.views.export import Form


@click.command("list")
@home_option
@json_option
def list_(home: Path, as_json: bool) -> int:
    """List the studies.

    Exit code: 0, or 2 where one cannot be read.

    \b
    Example:
      sweeper list --json
    """
    from sweeper.console import to_json
    from sweeper.views import study as views

    unread: list[UserError] = []
    if as_json:
        click.echo(to_json(views.list_studies(home, unread)))
    else:
        views.print_list(home, unread)
    for error in unread:
        click.echo(error.render(), err=True)
    return EXIT_BAD_INPUT if unread else EXIT_OK


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


@click.command()
@study_argument
@home_option
@click.option("--wide", is_flag=True, help="Every column in full, whatever the width of the terminal.")
@json_option
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "parquet"]), help="One row per trial.")
@click.option("--sort", metavar="COLUMN", help="Ascending, or best first for an objective; -COLUMN reverses the order.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="N trials: the best, or the first by --sort.")
@click.option("--columns", metavar="A,B,...", help="Only these, in this order.")
def show(
    study: str,
    home: Path,
    wide: bool,
    as_json: bool,
    form: "Form | None",
    sort: str | None,
    top: int | None,
    columns: str | None,
) -> int:
    """Show the trials of STUDY, with the reason of every stop.

    With --format, --sort, --top or --columns: its trials as rows, for a spreadsheet or a script. A column may be named
    by its end: `lr` for `params.optim.lr`.

    \b
    Example:
      sweeper show loss_balance
      sweeper show loss_balance --top 5 --columns id,lr,val/pa_mpjpe_mm
      sweeper show loss_balance --format csv > trials.csv
    """
    from sweeper.views import study as views

    if form or sort or top or columns is not None:
        if as_json:
            raise UserError("`--json` is the whole study", help="`--format json` is its trials as rows")
        from sweeper.views.export import export_trials

        named = [name for name in map(str.strip, (columns or "").split(",")) if name]
        click.echo(export_trials(home, study, form or "table", sort, top, named), nl=False)
    elif as_json:
        from sweeper.console import to_json

        click.echo(to_json(views.show_study(home, study)))
    else:
        views.print_study(home, study, wide=wide)
    return EXIT_OK


@click.command()
@trial_argument
@home_option
@click.option("--base", "as_base", is_flag=True, help="As the section `base` of another sweep file.")
@json_option
def config(trial: str, home: Path, as_base: bool, as_json: bool) -> int:
    """Print the whole configuration that the trial ID is trained with, as YAML.

    It is a config file for `python -m mano_trainers` or another trainer, and with --base the start of another sweep.

    \b
    Example:
      sweeper config loss_balance:best > best.yaml
      sweeper config loss_balance:best --base >> next.yaml
    """
    import yaml

    from sweeper.analysis.trial_lookup import look_up, nested_configuration
    from sweeper.console import to_json

    [found] = look_up(home, trial)
    settings = nested_configuration(found.spec, found.trial)
    settings = {"base": settings} if as_base else settings
    if as_json:
        click.echo(to_json(settings))
    else:
        click.echo(f"# {found.trial.id}")
        click.echo(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), nl=False)
    return EXIT_OK


@click.command()
@study_argument
@home_option
@click.option("--interval", type=FiniteRange(min=0.1), default=1.0, show_default=True, help="Seconds between updates.")
@json_option
def watch(study: str, home: Path, interval: float, as_json: bool) -> int:
    """Show STUDY while its driver runs: trials, rungs, best so far, time left, budget, last events.

    From any terminal that sees the study home. A live screen in a terminal, a line per event in a pipe, a JSON object
    per event with --json. Ends when the driver does.

    \b
    Example:
      sweeper watch loss_balance
    """
    from sweeper.views.live.watch import watch as follow

    with suppress(KeyboardInterrupt):  # ends watching, not the study
        follow(home, study, as_json=as_json, interval_s=interval)
    return EXIT_OK


@click.command()
@trial_argument
@home_option
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the trial ends.")
def logs(trial: str, home: Path, follow: bool) -> int:
    """Print what the trial ID has written to stdout and stderr, over all its attempts.

    \b
    Example:
      sweeper logs loss_balance-0007 -f
    """
    from sweeper.views.logs import print_log

    with suppress(KeyboardInterrupt):
        print_log(home, trial, follow=follow)
    return EXIT_OK


@click.command()
@study_argument
@home_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default: in the study's folder."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md"]),
    default="html",
    show_default=True,
    help="Format of the report.",
)
@click.option("--open", "opened", is_flag=True, help="Show it in the browser.")
def report(study: str, home: Path, out: Path | None, form: Literal["html", "md"], opened: bool) -> int:
    """Write what STUDY found as one HTML file that needs no network, and print where.

    \b
    Example:
      sweeper report loss_balance --out report.html
    """
    from sweeper.html_report import write_report

    path = write_report(home, study, out, form)
    click.echo(path)
    if opened:
        webbrowser.open(path.resolve().as_uri())
    return EXIT_OK


@click.command()
@click.argument("study", required=False, shell_complete=complete_study)
@home_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on this machine.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
def ui(study: str | None, home: Path, port: int, open_browser: bool) -> int:
    """Serve the MLflow UI on this machine, and print its address: of STUDY's candidates, best first, or of all studies.

    The address contains a token, without which access is denied. Ctrl-C ends the server.

    \b
    Example:
      sweeper ui loss_balance --open
    """
    with _killed_by_ctrl_c():
        from sweeper.tracking import serve_ui

        return serve_ui(home, port, study, open_browser=open_browser)


@click.command()
@click.argument("study", required=False, shell_complete=complete_study)
@home_option
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port on this machine.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
def dashboard(study: str | None, home: Path, port: int, open_browser: bool) -> int:
    """Serve optuna-dashboard on this machine, and print its address: of STUDY, or of all studies.

    It shows a copy of the trials as they stand now, with state and reason; nothing done there reaches a study. The
    address contains a token, without which access is denied. Ctrl-C ends the server. Needs the extra `dashboard`.

    \b
    Example:
      sweeper dashboard loss_balance --open
    """
    with _killed_by_ctrl_c():
        from sweeper.tracking import serve_dashboard

        return serve_dashboard(home, port, study, open_browser=open_browser)


@contextmanager
def _killed_by_ctrl_c() -> Iterator[None]:
    """Until there is a server to end: as an exception, Ctrl-C is lost in an import that catches everything, or in a
    callback of the garbage collector. If it is ignored, in the background of a script, it stays ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
