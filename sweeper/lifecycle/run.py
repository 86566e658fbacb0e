"""`sweeper run`: open or continue a study, prepare its data, execute it, say how it ended."""

import contextlib
import math
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sweeper.checkpoints.locate import open_store
from sweeper.entrypoint.mlflow_run import write_run_file
from sweeper.entrypoint.source_hashes import code_sums, counted
from sweeper.errors import EXIT_NO_SKILL, EXIT_OK, EXIT_SIGNAL, EXIT_TRIAL_FAILED, LedgerLost
from sweeper.executor.cluster import machines
from sweeper.executor.monitor import Machines, Workers
from sweeper.executor.node_check import expectation
from sweeper.html_report.artifacts import study_artifacts
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import unretried_failures
from sweeper.ledger.study_lock import study_lock
from sweeper.lifecycle import notifications as notify
from sweeper.lifecycle.change import StudyChange
from sweeper.lifecycle.options import RunOptions
from sweeper.lifecycle.warm_start import record_warm_start
from sweeper.preflight import run as preflight
from sweeper.preflight.run import PreflightFailed
from sweeper.redaction import redact
from sweeper.reproducibility import drift, provenance
from sweeper.reproducibility.drift import spec_drift
from sweeper.samplers.custom import check_sampler
from sweeper.spec.resolve import SweepSpec
from sweeper.study import requests
from sweeper.study.controller import STOPPED_BY_USER, StudyController
from sweeper.study.controls import final_word
from sweeper.study.next_trial import TrialsToCome
from sweeper.tracking import Tracker
from sweeper.tracking.callback import MLflowCallback
from sweeper.tracking.client import tracking_uri
from sweeper.tracking.standing import standing_of
from sweeper.tracking.study_tracker import open_tracker, refuse_copy_of_home, refuse_other_ledger
from sweeper.views.preflight import print_preflight
from sweeper.views.progress import Progress
from sweeper.views.study import print_study

FLUSH_INTERRUPTED_S = 10.0
STALLED_S = 10.0


def run_study(
    spec: SweepSpec, home: Path, options: RunOptions, *, new: bool = False, ledger_url: str | None = None
) -> int:
    """Run the spec's study to its end; continue it where an earlier run stopped.

    Args:
        spec: the validated spec.
        home: the study home.
        options: how it is run.
        new: if the study exists, start another one beside it (`name-2`).
        ledger_url: the database of the ledger, before that of the spec; without both it is a file.

    Returns:
        The exit code: 0 done, 3 the preflight failed or the final word is that the trials have learned nothing, or
        else 1 some trial or control failed, or else 5 MLflow refused records for good; 130 interrupted, 143 terminated.

    Raises:
        UserError: another driver runs it, the spec, code or data have changed since, or the data cannot be prepared.
    """
    home = home.resolve()
    tracking_uri(home)  # refuses a path that MLflow cannot have, before anything is written there
    study = _free_name(home, spec.name) if new else spec.name
    study_dir = home / "studies" / study
    url, modes = ledger_url or spec.ledger, [one.mode for one in spec.objectives]
    with (
        study_lock(study_dir, url),
        closing(Ledger.create(study_dir, study, modes=modes, url=url)) as ledger,
    ):
        if options.accept_drift:
            drift.refuse_other_choices(ledger, spec)
            drift.refuse_other_objective(ledger, spec)
        drift.refuse_or_record(ledger, "another spec", spec_drift(ledger, spec), str(spec.path), options.accept_drift)
        return continue_study(spec, home, ledger, options)


def continue_study(
    spec: SweepSpec, home: Path, ledger: Ledger, options: RunOptions, change: StudyChange | None = None
) -> int:
    """Run what is left of a study whose lock is held and whose spec is settled. Else as `run_study`.

    `change`: what the verb changes of the study; not even that a stopped one goes on, if None.
    """
    refuse_other_ledger(ledger)
    refuse_copy_of_home(home, ledger.study_dir)
    study, spec = ledger.study, extended(spec, ledger, change.trials if change else 0)
    if ledger.attributes.stopped and change is None:
        end_study(spec, home, ledger, STOPPED_BY_USER)
        print(f"the study `{study}` was stopped; `sweeper resume {study}` continues it", file=sys.stderr)
        interrupted = 0
    elif (opened := StudyController(spec, ledger, [])).is_done and not (change and change.retried):
        if change and ledger.attributes.stopped:
            ledger.attributes.stopped = False
        ending = "is complete" if opened.has_all_trials else "has used up its budget"
        end_study(spec, home, ledger, f"the study {ending}")
        print(f"the study `{study}` {ending}; --new starts another one beside it", file=sys.stderr)
        interrupted = 0
    else:
        try:
            interrupted = _execute(spec, home, ledger, options, change)
        except PreflightFailed as refused:
            print_preflight(refused.outcome)
            return EXIT_NO_SKILL
    try:
        print_study(home, study)
    except LedgerLost as lost:  # just now: what the trials came to is known all the same
        print(lost.render(), file=sys.stderr)
    if not interrupted and (reason := exhausted(spec, ledger)):
        print(reason, file=sys.stderr)
    if interrupted:
        print(f"interrupted: `sweeper resume {study}` continues it", file=sys.stderr)
    lacking = standing_of(ledger.study_dir)
    if lacking.sentence:
        print(lacking.sentence, file=sys.stderr)
    return EXIT_SIGNAL + interrupted if interrupted else lacking.code(_exit_code(spec, ledger))


def _exit_code(spec: SweepSpec, ledger: Ledger) -> int:
    """What the trials came to."""
    trials, controls = ledger.trials(), ledger.controls()
    if final_word(trials, controls, spec.objective).no_skill:
        return EXIT_NO_SKILL  # before a failed trial: it makes every other trial worthless too
    failed = unretried_failures(trials) or unretried_failures(controls)
    return EXIT_TRIAL_FAILED if failed else EXIT_OK


def exhausted(spec: SweepSpec, ledger: Ledger) -> str | None:
    """Why a study has ended with fewer trials than planned: nothing is left to try. None: that is not so."""
    if ledger.count - ledger.retries >= spec.trials or not TrialsToCome(spec, ledger).is_exhausted:
        return None
    return f"every configuration of the search space was tried, with {ledger.count} of {spec.trials} trials"


def extended(spec: SweepSpec, ledger: Ledger, added: int = 0) -> SweepSpec:
    """The spec with the trials that `sweeper extend` has added, and those it is about to add."""
    more = ledger.attributes.extended + added
    return spec.model_copy(update={"trials": spec.trials + more}) if more else spec


def _execute(spec: SweepSpec, home: Path, ledger: Ledger, options: RunOptions, change: StudyChange | None) -> int:
    """Run what is left of the study; returns the number of the signal that ended it early, or 0."""
    to = notify.channels()
    for note in check_sampler(spec):
        print(f"note: {note}", file=sys.stderr)
    known, code = ledger.attributes.code, code_sums(spec.trainer)
    differences = drift.changed(known and counted(known), code)
    drift.refuse_or_record(ledger, "other code", differences, None, options.accept_drift)
    record = provenance.collect() | {"sources": code, "spec": redact(spec.text)}
    open_store(ledger, spec)
    run_ids: dict[str, str] = {}  # filled by the delivering thread; written to the ledger by this one
    with machines(spec.resources, options.address, home / "data") as there:
        preparing = preflight.start(spec, there)
        tracker = open_tracker(home, ledger, _tell_run(home, ledger, run_ids))
        tracker.deliver()
        with closing(tracker), Progress(spec) as progress, closing(Workers(there)) as workers:
            if dropped := requests.clear_older(ledger.study_dir):
                progress.note(dropped)
            progress.note("preparing the data")
            checked = preflight.finish(preparing, spec, home, progress.checked, there, skip=options.skip_preflight)
            if checked.failed:
                raise PreflightFailed(checked)
            record |= {"data": dict(checked.fingerprints), "numerics": dict(checked.numerics)}
            ledger.attributes.preflight = checked.to_json() | {"summary": checked.summary}
            record_warm_start(ledger, spec)
            differences = drift.changed(ledger.attributes.data, record["data"])
            drift.refuse_or_record(ledger, "other data", differences, None, options.accept_drift)
            if change:
                change.apply(ledger, spec)
            _bind(ledger, spec, code, record["data"])  # only now: a spec whose data are not there binds nobody
            recorder = MLflowCallback(tracker, spec, ledger, record, workers)
            recorder.start_study(checked.summary)
            study = StudyController(spec, ledger, [recorder, progress])
            ledger.wait_with(progress.note, study.should_stop_waiting)
            notifier = notify.attach(study, to, progress.note)
            progress.note("starting Ray" if options.address is None else f"on the Ray cluster at {options.address}")
            try:
                _train(study, there, workers, record)
            finally:
                _wind_down(study, recorder, tracker, progress, run_ids)
                if notifier:
                    notifier.close(study)
    return study.interrupted


def _tell_run(home: Path, ledger: Ledger, run_ids: dict[str, str]) -> Callable[[str, str], None]:
    """What the delivering thread does with the run of a trial: keep its ID, and let the trial know of it."""

    def tell(trial_id: str, run_id: str) -> None:
        run_ids[trial_id] = run_id
        if trial_id != ledger.study:
            with contextlib.suppress(OSError, KeyError):
                folder = ledger.study_dir / "trials" / ledger.trial(trial_id).folder
                write_run_file(folder, tracking_uri(home), run_id)

    return tell


def _train(study: StudyController, there: Machines, workers: Workers, record: Mapping[str, Any]) -> None:
    """Run the trials; what ended it early is told to the study."""
    from sweeper.executor import tune as driver  # imports ray: late, so that every refusal before is quick

    expected = None
    if not there.shared:
        base = preflight.base_config(study.spec)
        store = study.ledger.attributes.store_url
        expected = expectation(study.ledger.study_dir, base, record["sources"], record["data"], store)
    try:
        driver.execute(study, there, workers, expected)
    except KeyboardInterrupt:  # the second Ctrl-C
        study.request_stop(signal.SIGINT)
    except LedgerLost as lost:
        study.fail(lost)
        if not study.interrupted:
            raise
    except Exception as error:
        study.fail(error)
        raise


def _wind_down(
    study: StudyController, recorder: MLflowCallback, tracker: Tracker, progress: Progress, run_ids: Mapping[str, str]
) -> None:
    """Write what a run leaves; what a ledger that is lost does not take, the next run makes up from `meter.json`."""
    ledger, spec = study.ledger, study.spec
    try:
        if not isinstance(study.failure, LedgerLost):
            study.close()
            recorder.finish_study(study_artifacts(ledger, spec), is_done=study.is_done)
    except LedgerLost as lost:
        study.fail(lost)
        if not study.interrupted:
            raise
    finally:
        if isinstance(study.failure, LedgerLost):
            progress.note(str(study.failure))
            recorder.interrupt_study()
        _flush(tracker, progress, FLUSH_INTERRUPTED_S if study.interrupted or study.failure else math.inf)
    if study.failure is None or not isinstance(study.failure, LedgerLost):
        for trial in ledger.all_trials():
            if trial.id in run_ids:
                ledger.set_mlflow_run_id(trial.id, run_ids[trial.id])


def end_study(spec: SweepSpec, home: Path, ledger: Ledger, reason: str) -> None:
    """End what has not ended of a study that no driver runs, and hand over what its last driver, killed, had not."""
    study = StudyController(spec, ledger, [])
    has_open = not all(trial.state.is_finished for trial in ledger.all_trials())
    study.end(reason)
    tracker = open_tracker(home, ledger)
    tracker.deliver()
    with closing(tracker), Progress(spec) as progress:
        recorder = MLflowCallback(tracker, spec, ledger)
        recorder.hand_over_all()
        if has_open or not tracker.is_settled:  # else the report and its figures are there
            recorder.finish_study(study_artifacts(ledger, spec), is_done=study.is_done)
        _flush(tracker, progress, math.inf)


def _bind(ledger: Ledger, spec: SweepSpec, code: Mapping[str, str], data: Mapping[str, str]) -> None:
    """Write what the study stands on, so that it can be continued without its file, and drift be told."""
    more = ledger.attributes.extended
    effective = spec.model_copy(update={"trials": spec.trials - more}).effective
    now = {"spec": effective, "spec_text": redact(spec.text), "spec_path": str(spec.path), "code": code, "data": data}
    for key, value in now.items():
        if getattr(ledger.attributes, key) != value:
            setattr(ledger.attributes, key, value)


def _flush(tracker: Tracker, progress: Progress, timeout_s: float) -> None:
    if tracker.flush(0):
        progress.note("handing the last metrics and checkpoints to MLflow")
    if left := tracker.flush(timeout_s, STALLED_S):
        progress.note(f"{left} records wait for MLflow ({tracker.problem})")
    for notice in tracker.notices:
        progress.note(notice)


def _free_name(home: Path, name: str) -> str:
    studies = home / "studies"
    if not (studies / name).exists():
        return name
    number = 2
    while (studies / f"{name}-{number}").exists():
        number += 1
    return f"{name}-{number}"
