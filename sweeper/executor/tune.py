"""Runs a study on Ray Tune. Ray is a disposable executor: it asks the study for trials, brings back reports, and keeps
nothing that matters."""

import logging
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from mano_trainers.report import EpochReport
from sweeper.checkpoints.object_store import NOTHING_LOST, StoreUnavailable
from sweeper.console import leave_terminal
from sweeper.entrypoint.trial.messages import (
    Ended,
    Gone,
    Raised,
    Ready,
    Reported,
    StoreLost,
    Unfit,
    answer_from_json,
)
from sweeper.errors import UserError
from sweeper.executor.lane_hosts import LaneHosts
from sweeper.executor.monitor import Machines, Workers, room
from sweeper.executor.searcher import LedgerSearcher, keeping
from sweeper.executor.signals import STOPPING
from sweeper.executor.ticker import Ticker
from sweeper.executor.worker.scratch import scratch_folder
from sweeper.executor.worker.trainable import TrialWorker
from sweeper.study.controller import StudyController
from sweeper.study.trial_folder import keep_output

logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the traceback of a lost worker: we report it in a line
UNFIT_HELP: Final = "fix it, or take that machine out of the cluster; then run the study again, nothing is lost"


class LedgerScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes every report to the study and does what the study decides."""

    def __init__(self, study: StudyController, searcher: LedgerSearcher) -> None:
        super().__init__()
        self.study = study
        self.searcher = searcher
        self.added: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.added.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Each trial once, as it comes: so a used worker goes to one that has none. On its own Tune gives it to the one
        that has waited longest and ends the worker that is starting for that one; if trials are shorter than a worker's
        start, machines that join would never get one. Those that Tune has meanwhile started on its own, or that have
        even ended, are skipped."""
        while self.added:
            trial = self.added.pop(0)
            if trial.status == trial.PENDING:
                return trial
        return None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = self.searcher.trials[trial.trial_id]
        with keeping(self.study):
            keep_output(self.study.ledger, trial_id, result["output"])
            match answer_from_json(result["message"]):
                case Reported() as reported:
                    goes_on = self._report(trial_id, reported)
                    return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)
                case Ended():
                    self.study.on_end(trial_id)
                case Raised(error, traceback, last_lines=last_lines):
                    self.study.on_error(trial_id, error, traceback, last_lines)
                case Gone(how, last_lines):
                    self.searcher.hosts.lost(trial_id)  # before another trial is sent there
                    self.study.on_lost(trial_id, f"the trial's process {how}", last_lines)
                case Ready():
                    return str(TrialScheduler.CONTINUE)
                case Unfit(problem):
                    raise UserError(problem, help=UNFIT_HELP)
                case StoreLost(problem):
                    raise StoreUnavailable(problem, help=NOTHING_LOST)
        return str(TrialScheduler.STOP)

    def _report(self, trial_id: str, reported: Reported) -> bool:
        for problem in reported.passed_over:
            self.study.notice(f"{problem}; an earlier checkpoint is used")
        report = EpochReport(
            step=reported.step,
            epoch=reported.epoch,
            metrics=reported.metrics,
            checkpoint=Path(reported.checkpoint) if reported.checkpoint else None,
            total_epochs=reported.total_epochs,
        )
        return self.study.on_report(trial_id, report, reported.manifest)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Tune keeps every trial for ever, 25 KB each, and looks through all of them at each step: forget those whose
        worker is gone, or has another one."""
        stopped, trials = tune_controller._stopped_trials, tune_controller._trials
        gone = {trial for trial in stopped if trial not in tune_controller._trial_to_actor}
        stopped -= gone
        tune_controller._trials_to_cache -= gone
        trials[:] = [trial for trial in trials if trial not in gone]

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        trial_id = self.searcher.trials[trial.trial_id]
        with keeping(self.study):
            self.study.on_lost(trial_id, self.searcher.reasons.pop(trial_id, "the worker process was lost"))


def execute(
    study: StudyController, machines: Machines, workers: Workers, expected: Mapping[str, Any] | None = None
) -> None:
    """Run the study's trials until none is left, or it is interrupted (`study.interrupted`).

    The first Ctrl-C (or SIGTERM, or a closed terminal) lets each running trial reach its next evaluation and
    checkpoint; the second raises KeyboardInterrupt at once. Either way everything reported is in the ledger.

    Args:
        study: what to run.
        machines: to run it on.
        workers: told who runs what.
        expected: what a machine must have to train, if there are several (see `node.py`).
    """
    resources = study.spec.resources
    at_once = resources.at_once(room(resources, machines.nodes()))
    cpus = resources.cpus if resources.lanes == 1 else min(1, resources.trial_cpus)  # lanes train beside their workers
    try:
        with (
            _graceful_interrupt(study),
            scratch_folder() as scratch,
            machines.ray(),
            closing(LaneHosts(study.spec, at_once, scratch)) as hosts,
        ):
            searcher = LedgerSearcher(study, machines, expected, hosts)
            tune.Tuner(
                tune.with_resources(TrialWorker, {"cpu": cpus, "gpu": resources.trial_gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=LedgerScheduler(study, searcher),
                    num_samples=-1,  # until the searcher has no more: a trial may come back
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: str(trial.trial_id),
                ),
                run_config=tune.RunConfig(
                    callbacks=[Ticker(study, searcher, workers)],
                    name="tune",
                    storage_path=str(scratch),
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trainer writes its own
                ),
            ).fit()
    except Exception as error:
        raise study.failure or error from None


@contextmanager
def _graceful_interrupt(study: StudyController) -> Iterator[None]:
    def interrupt(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
            if study.interrupted:  # a closed terminal sends it twice: from the kernel and from the shell
                return
        if study.interrupted:
            raise KeyboardInterrupt
        study.request_stop(number)
        print(
            "stopping: running trials continue to their next checkpoint; press Ctrl-C again to stop now",
            file=sys.stderr,
        )

    previous = {number: signal.signal(number, interrupt) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
