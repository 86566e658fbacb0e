"""One driver's run of a study: prepare, bind, train, close."""

import contextlib
import math
import signal
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from sweeper.analysis.explain import describe
from sweeper.checkpoints.locate import open_store
from sweeper.entrypoint.source_hashes import code_sums, counted
from sweeper.entrypoint.trial.mlflow_run import write_run_file
from sweeper.errors import LedgerLost
from sweeper.executor.cluster import machines
from sweeper.executor.monitor import Child, Machines, Workers
from sweeper.executor.signals import signals_held
from sweeper.executor.worker.node_check import expectation
from sweeper.home import cache_of
from sweeper.html_report.artifacts import study_artifacts
from sweeper.ledger.ledger import Ledger
from sweeper.lifecycle import notifications as notify
from sweeper.lifecycle.change import StudyChange
from sweeper.lifecycle.options import RunOptions
from sweeper.lifecycle.study_copy import StudyCopy
from sweeper.lifecycle.warm_start import record_warm_start
from sweeper.maintenance.machine import left_over
from sweeper.preflight import run as preflight
from sweeper.preflight.run import PreflightOutcome
from sweeper.redaction import redact
from sweeper.reproducibility import drift, provenance
from sweeper.samplers.custom import check_sampler
from sweeper.spec.resolve import SweepSpec
from sweeper.study import requests
from sweeper.study.controller import StudyController
from sweeper.tracking import Tracker
from sweeper.tracking.callback import MLflowCallback
from sweeper.tracking.store.client import tracking_uri
from sweeper.tracking.study_tracker import keep_run_ids, open_tracker
from sweeper.views.live.progress import Progress

FLUSH_INTERRUPTED_S: Final = 10.0
STALLED_S: Final = 10.0


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        interrupted: the number of the signal that ended it early, or 0.
        refused: the preflight that refused it, so that nothing was started; None: it was not.
    """

    interrupted: int = 0
    refused: PreflightOutcome | None = None


class StudyRun:
    """Runs what is left of a study whose lock is held.

    Args:
        spec: of the study, with the trials that `change` adds.
        home: the study home.
        ledger: of the study, for writing.
        options: how it is run.
        change: what the verb changes in the study, once nothing can refuse the run any longer.
    """

    def __init__(
        self, spec: SweepSpec, home: Path, ledger: Ledger, options: RunOptions, change: StudyChange | None
    ) -> None:
        self._spec, self._home, self._ledger, self._options, self._change = spec, home, ledger, options, change
        self._run_ids: dict[str, str] = {}  # filled by the delivering thread; written to the ledger by this one
        self._provenance: dict[str, Any] = {}

    def execute(self) -> RunOutcome:
        """From the first check to the last record.

        Raises:
            UserError: spec, code or data have drifted, the data cannot be made, or the run cannot continue.
        """
        channels = notify.channels()
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(self._spec, self._ledger))
            progress.note("looking at the code that trains")
            self._check_code(progress)
            copy = [stack.enter_context(closing(each)) for each in self._copy(progress)]
            self._name_left_over(progress)
            progress.note("starting to prepare the data")
            there = stack.enter_context(machines(self._spec.resources, self._options.address, cache_of(self._home)))
            preparing = preflight.start(self._spec, there)  # takes a while, in a separate process
            stack.callback(preflight.end, preparing)
            tracker = open_tracker(self._home, self._ledger, self._tell_run)
            tracker.deliver()
            stack.enter_context(closing(tracker))
            workers = stack.enter_context(closing(Workers(there)))
            checked = self._prepare(preparing, progress, there)
            if checked.failed:
                return RunOutcome(refused=checked)
            self._bind(checked)
            recorder = MLflowCallback(
                tracker,
                self._spec,
                self._ledger,
                self._provenance,
                workers,
                partial(describe, self._ledger, self._spec),
            )
            recorder.start_study(checked.summary)
            study = StudyController(self._spec, self._ledger, [recorder, progress, *copy])
            self._ledger.wait_with(progress.note, study.should_stop_waiting)
            notifier = notify.attach(study, channels, progress.note)
            address = self._options.address
            progress.note("starting Ray" if address is None else f"on the Ray cluster at {address}")
            try:
                self._train(study, there, workers)
            finally:
                self._close(study, recorder, tracker, progress)
                if notifier:
                    notifier.close(study)
        return RunOutcome(interrupted=study.interrupted)

    def _check_code(self, progress: Progress) -> None:
        """Refuse what can be refused before anything is started."""
        for note in check_sampler(self._spec):
            progress.notice(f"note: {note}")
        known, code = self._ledger.attributes.code, code_sums(self._spec.trainer)
        self._accept("other code", drift.changed(known and counted(known), code))
        self._provenance = provenance.collect() | {"sources": code, "spec": redact(self._spec.text)}
        open_store(self._ledger, self._spec)

    def _copy(self, progress: Progress) -> list[StudyCopy]:
        """What keeps a copy of the study, if the user wants one."""
        where = self._options.sync_to
        return [StudyCopy(self._ledger, where, self._options.sync_every_s, progress.note)] if where else []

    def _name_left_over(self, progress: Progress) -> None:
        """After a kill -9 of the driver alone, Ray's agents survive for a while."""
        if self._options.address is None and (left := left_over(self._home)):
            named = f"{len(left)} processes of a dead driver are still running: pids {', '.join(map(str, left))}"
            progress.note(f"{named}; they end soon, or `sweeper doctor --fix` ends them")

    def _accept(self, what: str, differences: list[str]) -> None:
        drift.refuse_or_record(self._ledger, what, differences, None, self._options.accept_drift)

    def _prepare(self, preparing: Child, progress: Progress, there: Machines) -> PreflightOutcome:
        """Wait for the data, and check the pipeline."""
        if dropped := requests.clear_older(self._ledger.study_dir):
            progress.note(dropped)
        progress.note("preparing the data")
        with signals_held():
            from sweeper.executor import tune  # noqa: F401  # now, while the other process works

        skip = self._options.skip_preflight
        return preflight.finish(preparing, self._spec, self._home, progress.checked, there, skip=skip)

    def _bind(self, checked: PreflightOutcome) -> None:
        """Write what the study is based on, so that it can be continued without its file, and drift is noticed. Only
        now: a spec whose data are missing does not bind anybody."""
        ledger, spec = self._ledger, self._spec
        data = dict(checked.fingerprints)
        self._provenance |= {"data": data, "numerics": dict(checked.numerics)}
        ledger.attributes.preflight = checked.to_json() | {"summary": checked.summary}
        record_warm_start(ledger, spec)
        self._accept("other data", drift.changed(ledger.attributes.data, data))
        ledger.follow_lists(spec)
        if self._change:
            self._change.apply(ledger, spec)
        effective = spec.model_copy(update={"trials": spec.trials - ledger.attributes.extended}).effective
        now = {"spec": effective, "spec_text": redact(spec.text), "spec_path": str(spec.path)}
        for key, value in (now | {"code": self._provenance["sources"], "data": data}).items():
            if getattr(ledger.attributes, key) != value:
                setattr(ledger.attributes, key, value)

    def _train(self, study: StudyController, there: Machines, workers: Workers) -> None:
        """Run the trials; what ended it early is passed to the study."""
        from sweeper.executor import tune as driver  # imports ray: late, so that most refusals are quick

        try:
            driver.execute(study, there, workers, self._expected(there))
        except KeyboardInterrupt:  # the second Ctrl-C
            study.request_stop(signal.SIGINT)
        except LedgerLost as lost:
            study.fail(lost)
            if not study.interrupted:
                raise
        except Exception as error:
            study.fail(error)
            raise

    def _expected(self, there: Machines) -> Mapping[str, Any] | None:
        """What each machine must have to train, if there are several."""
        if there.shared:
            return None
        base, store = preflight.base_config(self._spec), self._ledger.attributes.store_url
        sources, data = self._provenance["sources"], self._provenance["data"]
        return expectation(self._ledger.study_dir, base, sources, data, store)

    def _close(self, study: StudyController, recorder: MLflowCallback, tracker: Tracker, progress: Progress) -> None:
        """Write what a run leaves. What a lost ledger does not accept, the next run recovers from `meter.json`."""
        try:
            if not isinstance(study.failure, LedgerLost):
                study.close()
                recorder.finish_study(study_artifacts(self._ledger, self._spec), is_done=study.is_done)
        except LedgerLost as lost:
            study.fail(lost)
            if not study.interrupted:
                raise
        finally:
            if isinstance(study.failure, LedgerLost):
                progress.note(str(study.failure))
                recorder.interrupt_study()
            if study.interrupted or study.failure:
                flush(tracker, progress, FLUSH_INTERRUPTED_S)
            else:
                tracker.verify()
                flush(tracker, progress, math.inf)
        if not isinstance(study.failure, LedgerLost):
            keep_run_ids(self._ledger, self._run_ids)

    def _tell_run(self, trial_id: str, run_id: str) -> None:
        """What the delivering thread does with the run of a trial: keep its ID, and tell the trial."""
        self._run_ids[trial_id] = run_id
        if trial_id != self._ledger.study:
            with contextlib.suppress(OSError, KeyError):
                folder = self._ledger.study_dir / "trials" / self._ledger.trial(trial_id).folder
                write_run_file(folder, tracking_uri(self._home), run_id)


def end_study(spec: SweepSpec, home: Path, ledger: Ledger, reason: str) -> None:
    """End what has not ended in a study that no driver runs, and deliver what its last driver was killed before
    delivering."""
    study = StudyController(spec, ledger, [])
    has_open = not all(trial.state.is_finished for trial in ledger.all_trials())
    study.end(reason)
    run_ids: dict[str, str] = {}
    tracker = open_tracker(home, ledger, run_ids.__setitem__)
    tracker.deliver()
    with closing(tracker), Progress(spec, ledger) as progress:
        recorder = MLflowCallback(tracker, spec, ledger, describe=partial(describe, ledger, spec))
        recorder.hand_over_all()
        if has_open or not (tracker.ending and tracker.ending.artifacts):  # otherwise the report and its figures exist
            recorder.finish_study(study_artifacts(ledger, spec), is_done=study.is_done)
        tracker.verify()
        flush(tracker, progress, math.inf)
    keep_run_ids(ledger, run_ids)


def end_trial(spec: SweepSpec, home: Path, ledger: Ledger, trial_id: str) -> None:
    """Stop one trial of a study that no driver runs, and tell MLflow."""
    tracker = open_tracker(home, ledger)
    tracker.deliver()
    with closing(tracker), Progress(spec, ledger) as progress:
        recorder = MLflowCallback(tracker, spec, ledger, describe=partial(describe, ledger, spec))
        StudyController(spec, ledger, []).stop_trial(trial_id)
        recorder.hand_over_all()
        flush(tracker, progress, math.inf)


def flush(tracker: Tracker, progress: Progress, timeout_s: float) -> None:
    """Wait for MLflow while it accepts records, at most `timeout_s`, and say what is left."""
    if tracker.flush(0):
        progress.note("sending the last metrics and checkpoints to MLflow")
    left = tracker.flush(timeout_s, STALLED_S)
    if tracker.waiting:
        progress.note(f"{tracker.waiting} records wait for MLflow ({tracker.problem})")
    elif left:
        progress.note(f"MLflow does not say whether it has all records ({tracker.problem})")
    elif tracker.restored:
        progress.note(f"MLflow had lost records of this study: {tracker.restored} were delivered again")
    for notice in tracker.notices:
        progress.note(notice)
