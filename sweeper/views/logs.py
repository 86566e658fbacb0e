"""`sweeper logs`: what a trial has written to stdout and stderr."""

import sys
import time
from pathlib import Path

from sweeper.analysis.trial_lookup import look_up
from sweeper.entrypoint.trial.log import EARLIER, LOG
from sweeper.errors import UserError
from sweeper.files import inside
from sweeper.ledger.study_lock import running_driver
from sweeper.redaction import plain

LOOK_S = 0.5


def print_log(home: Path, trial_id: str, *, follow: bool) -> None:
    """Print the log of a trial, from its start; with `follow` what comes too, until the trial has ended.

    Raises:
        UserError: there is no such trial, or it has no log.
    """
    found = look_up(home, trial_id)[0]
    study_dir = found.ledger.study_dir
    folder = study_dir / "trials" / found.trial.folder
    log = folder / LOG
    if not inside(study_dir, log) or not (log.is_file() or follow):
        raise UserError(f"the trial `{trial_id}` has no log", help="it was not started yet, or by an earlier version")
    if (folder / EARLIER).is_file() and inside(study_dir, folder / EARLIER):
        _print((folder / EARLIER).read_bytes())
    place = _print_from(log, 0)
    while follow and not look_up(home, trial_id)[0].trial.state.is_finished and running_driver(study_dir):
        time.sleep(LOOK_S)
        place = _print_from(log, place)
    _print_from(log, place)


def _print_from(log: Path, place: int) -> int:
    """Print what follows this position; returns the new one."""
    if not log.is_file():
        return place
    if log.stat().st_size < place:  # restarted
        place = 0
    with log.open("rb") as file:
        file.seek(place)
        data = file.read()
    _print(data)
    return place + len(data)


def _print(data: bytes) -> None:
    text = data.decode(errors="replace")
    sys.stdout.write(plain(text, len(text) + 1))
    sys.stdout.flush()
