"""The verbs that pause a study, and end it."""

from contextlib import closing
from pathlib import Path

from sweeper.errors import UserError
from sweeper.home import command_line
from sweeper.ledger.studies import find_study, open_ledger, study_folder
from sweeper.ledger.study_lock import running_driver, study_lock
from sweeper.lifecycle.study_run import end_study
from sweeper.study import requests
from sweeper.study.controller import STOPPED_BY_USER


def pause(home: Path, study: str) -> str:
    """Ask the study's driver to let running trials reach their next checkpoint, and to end. Returns what happened.

    Raises:
        UserError: no driver runs the study, or it does not answer.
    """
    study_dir = study_folder(home, study)  # not its ledger, which may be what the driver waits for
    resume = command_line(home, "resume", study)
    if running_driver(study_dir) is None:
        raise UserError(f"the study `{study}` is not running", help=f"`{resume}` continues it")
    _request(study_dir, "pause")
    return f"{study}: running trials go on to their next checkpoint; `{resume}` continues there"


def stop(home: Path, study: str) -> str:
    """End the study for good: running trials are STOPPED now, and none is started. Returns what happened.

    Raises:
        UserError: a driver runs the study, and does not answer.
    """
    study_dir = study_folder(home, study)
    if running_driver(study_dir) is not None:
        _request(study_dir, "stop")
        return f"{study}: stopped"
    study_dir, spec = find_study(home, study)
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        ledger.attributes.stopped = True
        end_study(spec, home.resolve(), ledger, STOPPED_BY_USER)
    return f"{study}: stopped; it was not running"


def _request(study_dir: Path, request: requests.Request) -> None:
    if not requests.ask(study_dir, request):
        raise UserError(
            f"the driver of `{study_dir.name}` ({running_driver(study_dir) or 'gone'}) does not answer",
            help="it may be preparing data or be stopped itself; try again, or press Ctrl-C where it runs",
        )
