"""The verbs that stop a study, and continue or lengthen it without its file."""

from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.ledger.studies import find_study, open_ledger, study_folder, unretried_failures
from sweeper.ledger.study_lock import running_driver, study_lock
from sweeper.lifecycle.run import continue_study, end_study
from sweeper.spec.resolve import SweepSpec
from sweeper.study import requests
from sweeper.study.controller import STOPPED_BY_USER
from sweeper.study.next_trial import TrialsToCome


def resume(
    home: Path, study: str, *, accept_drift: bool = False, skip_preflight: str = "", address: str | None = None
) -> int:
    """Continue a study that was interrupted, paused or stopped; returns the exit code of `run`.

    Raises:
        UserError: no such study, another driver runs it, or code or data have changed since.
    """
    study_dir, spec = find_study(home, study)
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        if ledger.attributes.stopped:
            ledger.attributes.stopped = False
        return continue_study(
            spec, home.resolve(), ledger, skip_preflight=skip_preflight, accept_drift=accept_drift, address=address
        )


def extend(
    home: Path,
    study: str,
    trials: int,
    *,
    accept_drift: bool = False,
    skip_preflight: str = "",
    address: str | None = None,
) -> int:
    """Add trials to a study, and run them.

    Raises:
        UserError: as `resume`; or the study's grid has no more points.
    """
    study_dir, spec = find_study(home, study)
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        more = ledger.attributes.extended + trials
        try:
            SweepSpec.model_validate(spec.effective | {"trials": spec.trials + more})
        except ValidationError as error:
            raise UserError(f"the study `{study}` cannot be extended: {error.errors()[0]['msg']}") from error
        ledger.attributes.extended = more
        ledger.attributes.stopped = False
        return continue_study(
            spec, home.resolve(), ledger, skip_preflight=skip_preflight, accept_drift=accept_drift, address=address
        )


def retry_failed(
    home: Path, study: str, *, accept_drift: bool = False, skip_preflight: str = "", address: str | None = None
) -> int:
    """Try every failed trial and control again, each as a new trial; what failed stays in the record.

    Raises:
        UserError: as `resume`; or the study has trials to come, or none that failed.
    """
    study_dir, spec = find_study(home, study)
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        if not TrialsToCome(spec, ledger).has_all_candidates:
            raise UserError(f"the study `{study}` has trials to come", help=f"first `sweeper resume {study}`")
        failed, controls = unretried_failures(ledger.trials()), unretried_failures(ledger.controls())
        if not failed and not controls:
            raise UserError(f"no trial of the study `{study}` has failed")
        for control in controls:
            ledger.add_control(control.control or "", control)
        for trial in failed:
            ledger.add_retry(trial, spec)
        return continue_study(
            spec, home.resolve(), ledger, skip_preflight=skip_preflight, accept_drift=accept_drift, address=address
        )


def pause(home: Path, study: str) -> str:
    """Ask the study's driver to let running trials reach their next checkpoint, and to end. Returns what happened.

    Raises:
        UserError: no driver runs the study, or it does not answer.
    """
    study_dir = study_folder(home, study)  # not its ledger, which may be what the driver waits for
    if running_driver(study_dir) is None:
        raise UserError(f"the study `{study}` is not running", help=f"`sweeper resume {study}` continues it")
    _request(study_dir, "pause")
    return f"{study}: running trials go on to their next checkpoint; `sweeper resume {study}` continues there"


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
