"""The verbs that pause a study, and end it or one of its trials."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sweeper.analysis.trial_lookup import look_up
from sweeper.errors import UserError
from sweeper.home import command_line
from sweeper.ledger.studies import find_study, open_ledger, study_folder
from sweeper.ledger.study_lock import running_driver, study_lock
from sweeper.lifecycle.study_run import end_study, end_trial
from sweeper.search_space.dimensions import ParamValue
from sweeper.study import requests
from sweeper.study.controller import STOPPED_BY_USER


def pause(home: Path, study: str) -> str:
    """Ask the study's driver to let running trials reach their next checkpoint, and to end. Returns what happened.

    Raises:
        UserError: no driver runs the study, or it does not answer.
    """
    study_dir = study_folder(home, study)  # not its ledger, which may be what the driver is waiting for
    resume = command_line(home, "resume", study)
    if running_driver(study_dir) is None:
        raise UserError(f"the study `{study}` is not running", help=f"`{resume}` continues it")
    ask_driver(study_dir, "pause")
    return f"{study}: running trials continue to their next checkpoint; `{resume}` continues there"


def stop(home: Path, study: str) -> str:
    """End the study for good: running trials are STOPPED now, and none is started. Returns what happened.

    Raises:
        UserError: a driver runs the study, and does not answer.
    """
    study_dir = study_folder(home, study)
    if running_driver(study_dir) is not None:
        ask_driver(study_dir, "stop")
        return f"{study}: stopped"
    study_dir, spec = find_study(home, study)
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        ledger.attributes.stopped = True
        end_study(spec, home.resolve(), ledger, STOPPED_BY_USER)
    return f"{study}: stopped; it was not running"


def stop_trial(home: Path, trial_id: str) -> str:
    """Stop one trial for good; the study continues. Returns what happened.

    Raises:
        UserError: no such trial, it has ended, or the study's driver does not answer.
    """
    [found] = look_up(home, trial_id)
    if found.trial.state.is_finished:
        raise UserError(f"`{found.trial.id}` has ended: it is {found.trial.state}")
    study_dir, spec = find_study(home, found.ledger.study)
    if running_driver(study_dir) is not None:
        ask_driver(study_dir, "stop", trial=found.trial.id)
        return f"{found.trial.id}: stopped"
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        end_trial(spec, home.resolve(), ledger, found.trial.id)
    return f"{found.trial.id}: stopped; it was not running"


def ask_driver(
    study_dir: Path, request: requests.Request, *, trial: str = "", params: Mapping[str, ParamValue] | None = None
) -> None:
    """Ask the driver of a study for something; `trial`, `params`: as in `requests.Asked`.

    Raises:
        UserError: it does not answer.
    """
    if not requests.ask(study_dir, request, trial=trial, params=params):
        raise UserError(
            f"the driver of `{study_dir.name}` ({running_driver(study_dir) or 'gone'}) does not answer",
            help="it may be preparing data or be stopped itself; try again, or press Ctrl-C where it runs",
        )
