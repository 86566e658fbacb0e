"""Arguments and options that several verbs share, and what the shell completes them to. Imports nothing slow."""

import functools
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from sweeper.errors import UserError
from sweeper.lifecycle.options import RunOptions

DEFAULT_HOME: Final = Path(".sweeper")


class FiniteRange(click.FloatRange):
    """A number in a range. NaN is in no range, but click lets it pass: it compares as neither too small nor too
    large."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number but got {value}", param, ctx)
        return number


def prices_given(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """What an hour of each GPU costs, from `GPU=EUROS`.

    Raises:
        BadParameter: one is not that.
    """
    prices = {}
    for each in given:
        gpu, equals, amount = each.partition("=")
        if not (gpu and equals):
            raise click.BadParameter(f"expected GPU=EUROS, as in h100=2.5, but got {each}", context, parameter)
        prices[gpu] = FiniteRange(min=0).convert(amount, parameter, context)
    return prices


def home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="SWEEPER_HOME",
        show_envvar=True,
        default=DEFAULT_HOME,
        show_default=True,
        callback=_refuse_special,
        help="Folder of all studies and their records.",
    )(command)


def _refuse_special(_context: click.Context, _parameter: click.Parameter, home: Path) -> Path:
    """A pipe or a device, which `file_okay` lets pass."""
    if home.exists() and not home.is_dir():
        raise click.BadParameter(f"`{home}` is not a folder")
    return home


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option("--trials", type=click.IntRange(min=1), help="Number of trials, instead of the spec's."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the spec."),
        click.argument("spec", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


def address_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--address",
        metavar="HOST:PORT",
        envvar="SWEEPER_ADDRESS",
        show_envvar=True,
        help="Ray cluster to run the trials on, or `auto`; this machine without it.",
    )(command)


def sync_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option(
            "--sync-every",
            type=FiniteRange(min=0),
            default=0.0,
            metavar="SECONDS",
            help="Least time between two copies; without it, each evaluation is copied.",
        ),
        click.option(
            "--sync-to",
            metavar="DIR",
            envvar="SWEEPER_SYNC_TO",
            show_envvar=True,
            help="Keep a copy of the study in DIR, or in s3://BUCKET/PREFIX, to continue from elsewhere.",
        ),
    ):
        command = decorate(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def complete_study(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """Names of the studies that start with what was typed. Read from folders: a ledger takes too long for a press of
    Tab."""
    return [name for name in _study_folders(context) if name.startswith(typed)]


def complete_trial(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """`STUDY:best` and the IDs of trials and controls, by their folders; of a single study once its name is typed."""
    folders = _study_folders(context)
    named = [name for name in folders if typed.startswith((f"{name}-", f"{name}:"))]
    found = []
    for name in named or folders:
        trials = [f"{name}-{folder.name}" for folder in sorted((folders[name] / "trials").glob("*"))]
        found += [one for one in (f"{name}:best", *trials) if one.startswith(typed)]
    return found


def complete_study_or_trial(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Studies, and the trials of one whose name is typed."""
    return list(dict.fromkeys([*complete_study(context, parameter, typed), *complete_trial(context, parameter, typed)]))


def _study_folders(context: click.Context) -> dict[str, Path]:
    home = context.params.get("home") or os.environ.get("SWEEPER_HOME") or DEFAULT_HOME
    return {folder.name: folder for folder in sorted((Path(home) / "studies").glob("*")) if folder.is_dir()}


study_argument = click.argument("study", shell_complete=complete_study)
trial_argument = click.argument("trial", metavar="ID", shell_complete=complete_trial)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every verb that trains; the verb gets them as one argument, `options`."""

    @functools.wraps(command)
    def with_options(
        *,
        skip_preflight: str,
        accept_drift: bool,
        address: str | None,
        sync_to: str | None,
        sync_every: float,
        **arguments: Any,
    ) -> Any:
        options = RunOptions(skip_preflight, accept_drift, address, sync_to, sync_every)
        return command(options=options, **arguments)

    return accept_drift_option(skip_preflight_option(address_option(sync_options(with_options))))


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def confirmed(question: str, *, yes: bool, refusal: str) -> bool:
    """Whether the user agrees; with `--yes` they already have.

    Raises:
        UserError: nobody is there to answer; `refusal` says what is not done without an answer.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UserError(f"{refusal} without confirmation, and there is no terminal to ask on", help="add --yes")
    return click.confirm(question, err=True)


def reason_given(context: click.Context, parameter: click.Parameter, reason: str | None) -> str:
    """The reason of `--skip-preflight`, empty without the option.

    Raises:
        UserError: the option is given, but empty.
    """
    if reason is not None and not reason.strip():
        raise UserError("a reason is required; it is recorded", "--skip-preflight", "say why in a few words")
    return (reason or "").strip()


skip_preflight_option = click.option(
    "--skip-preflight",
    metavar="REASON",
    callback=reason_given,
    help="Do not check the pipeline first; the reason is recorded.",
)
accept_drift_option = click.option(
    "--accept-drift", is_flag=True, help="Continue although spec, code or data have changed; this is recorded."
)
