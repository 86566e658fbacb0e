"""The verb that starts a run on a Ray cluster from outside."""

from pathlib import Path

import click

from sweeper.cli.options import reason_given, spec_options


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
@click.option("--skip-preflight", metavar="REASON", callback=reason_given, help="As of `run`.")
@click.option("--accept-drift", is_flag=True, help="As of `run`.")
@click.option("--no-wait", is_flag=True, help="Do not follow what the run says.")
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
    """Run SPEC as a job of a Ray cluster that this machine is no node of. Exit code: as of `run`.

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
