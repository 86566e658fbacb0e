"""Runs a study on Ray Tune. Ray is an executor that can be thrown away: it asks the study for trials, brings back
reports, and keeps nothing that matters."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import ray  # `cluster.set_environment` comes before this
from ray import tune
from ray._private.state import actors
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

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
from sweeper.executor.heartbeat import Heartbeat
from sweeper.executor.monitor import Machines, Worker, Workers, room
from sweeper.executor.scratch import scratch_folder
from sweeper.executor.trainable import Job, TrialWorker
from sweeper.study.controller import StudyController

LOOK_AT_RAY_S: Final = 5.0
IDLE_S: Final = 120.0
STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the traceback of a lost worker: we say it in a line
UNFIT_HELP: Final = "fix it, or take that machine out of the cluster; then run the study again, nothing is lost"


@contextmanager
def _keeping(study: StudyController) -> Iterator[None]:
    """Keep why a run cannot go on, a full disk say: Ray turns what its callbacks raise into text."""
    try:
        yield
    except (OSError, UserError) as error:
        study.fail(error)
        raise


class LedgerSearcher(Searcher):  # type: ignore[misc]
    """Gives Ray the study's next trial; results reach the study through the scheduler."""

    def __init__(self, study: StudyController, machines: Machines, expected: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.study = study
        self.machines = machines
        self.expected = dict(expected) if expected else None
        self.trials: dict[str, str] = {}  # Ray's ID of a trial -> the one the rest of us know it by
        self.reasons: dict[str, str] = {}  # why we killed a trial's worker

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its searcher into files that nobody reads: the ledger is the state

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        resources = self.study.spec.resources
        if self.study.running >= resources.at_once(room(resources, self.machines.nodes())):
            return None
        with _keeping(self.study):
            upcoming = self.study.next_trial()
        if upcoming is None:
            return None if self.study.may_come_again else str(Searcher.FINISHED)
        self.trials[trial_id] = upcoming.record.id
        self.study.meter.wait_for_worker(upcoming.record.id)
        job = Job(
            trainer=self.study.spec.trainer,
            config=upcoming.config,
            workdir=str(upcoming.workdir),
            resume=str(upcoming.resume) if upcoming.resume else None,
            gpus=resources.gpus,
            expected=self.expected,
            parcel=vars(upcoming.upload) if upcoming.upload else None,
            folder=os.getcwd(),
        )
        return {"job": job.to_json()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class LedgerScheduler(FIFOScheduler):  # type: ignore[misc]
    """Brings every report to the study and does what the study decides."""

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
        """Each trial once, as it comes: so a used worker goes to one that has none. By itself Tune gives it to the one
        that has waited longest and ends the worker that is on its way to that; where trials are shorter than a worker's
        start, machines that join would never get one. Those that Tune has started by itself meanwhile, or that have
        even ended, are passed over."""
        while self.added:
            trial = self.added.pop(0)
            if trial.status == trial.PENDING:
                return trial
        return None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = self.searcher.trials[trial.trial_id]
        with _keeping(self.study):
            self.study.keep_output(trial_id, result["output"])
            match answer_from_json(result["message"]):
                case Reported() as reported:
                    goes_on = self._report(trial_id, reported)
                    return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)
                case Ended():
                    self.study.on_end(trial_id)
                case Raised(error, traceback, last_lines=last_lines):
                    self.study.on_error(trial_id, error, traceback, last_lines)
                case Gone(how, last_lines):
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
        with _keeping(self.study):
            self.study.on_lost(trial_id, self.searcher.reasons.pop(trial_id, "the worker process was lost"))


class Ticker(TrialProgressCallback):  # type: ignore[misc]
    """Looks after running trials several times a second: ends those the study stops, and workers that hang. Takes the
    place of Tune's own printer of progress, which would keep every trial."""

    def __init__(self, study: StudyController, searcher: LedgerSearcher, workers: Workers) -> None:
        self.study = study
        self.searcher = searcher
        self.workers = workers
        self.heartbeat = Heartbeat(study.spec.resources.heartbeat_s)
        self.doomed: set[str] = set()
        self.unready: set[str] = set()  # whose workers prepare the data of their machines, or wait until one has
        self.live: dict[str, Any] = {}
        self.looked_s = self.idle_since_s = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watch(trial)

    def _watch(self, trial: Any) -> None:
        trial_id = self.searcher.trials[trial.trial_id]
        if self.live.get(trial_id) is not trial:
            self.study.meter.worker_found(trial_id)
            if self.searcher.expected:
                self.unready.add(trial_id)
        self.live[trial_id] = trial
        actor = actors(trial.temporary_state.ray_actor._actor_id.hex())
        self.workers.started(trial_id, Worker(actor["Address"]["NodeID"], actor["Pid"], actor["Address"]["IPAddress"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        trial_id = self.searcher.trials[trial.trial_id]
        self.heartbeat.beat(trial_id)
        self.unready.discard(trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with _keeping(self.study):
            self._look_at_ray()
            self.doomed.update(self.study.tick())
        self._look_at_used_workers(trials)
        self._look_at_waiting_trials(trials)
        for trial_id, trial in self.live.items():  # one that has not started yet is ended when it has
            if trial_id in self.doomed:
                self.doomed.discard(trial_id)
            elif self.heartbeat.is_lost(trial_id, self._cpu_s(trial_id)):
                self.heartbeat.beat(trial_id)
                seconds = self.study.spec.resources.heartbeat_s
                self.searcher.reasons[trial_id] = f"the worker hung: no sign of life for {seconds:g} s"
            else:
                continue
            self.workers.kill(trial_id)
            ray.kill(trial.temporary_state.ray_actor)

    def _cpu_s(self, trial_id: str) -> float:
        """A worker that waits for the data is as busy as the one that prepares them."""
        return self.workers.cpu_s(trial_id, self.unready if trial_id in self.unready else ())

    def _look_at_used_workers(self, trials: list[Any]) -> None:
        """One that hangs while it leaves its last trial for the next has not started that, and would never."""
        for trial in trials:
            has_worker = trial.temporary_state.ray_actor is not None and not trial.is_finished()
            if has_worker and self.searcher.trials[trial.trial_id] not in self.live:
                self._watch(trial)

    def _look_at_waiting_trials(self, trials: list[Any]) -> None:
        """Say so where trials wait and none runs: a worker does not come up, or others have the machines."""
        now_s = time.monotonic()
        if self.live or all(trial.is_finished() for trial in trials):
            self.idle_since_s = now_s
        elif now_s - self.idle_since_s > IDLE_S:
            self.idle_since_s = now_s
            self.study.notice(f"no worker has started for {IDLE_S:g} s: are the machines busy with other work?")

    def _look_at_ray(self) -> None:
        """Ray waits for ever for workers of a node that is gone."""
        if time.monotonic() - self.looked_s > LOOK_AT_RAY_S:
            self.looked_s = time.monotonic()
            if not any(node["Alive"] for node in ray.nodes()):
                raise UserError("Ray's own process was lost", help="nothing reported is lost: run the study again")

    def _forget(self, trial: Any) -> None:
        trial_id = self.searcher.trials[trial.trial_id]
        self.heartbeat.beat(trial_id)
        if self.live.get(trial_id) is trial:  # else it runs again already
            del self.live[trial_id]
            self.unready.discard(trial_id)
            self.workers.ended(trial_id)


def execute(
    study: StudyController, machines: Machines, workers: Workers, expected: Mapping[str, Any] | None = None
) -> None:
    """Run the study's trials until none is left, or it is interrupted (`study.interrupted`).

    The first Ctrl-C (or SIGTERM, or a closed terminal) lets each running trial reach its next evaluation and
    checkpoint; the second raises KeyboardInterrupt at once. Either way everything reported is in the ledger.

    Args:
        study: what to run.
        machines: to run it on.
        workers: is told who runs what.
        expected: what a machine must have to train, where they are not one (see `node.py`).
    """
    resources = study.spec.resources
    try:
        with _graceful_interrupt(study), scratch_folder() as scratch, machines.ray():
            searcher = LedgerSearcher(study, machines, expected)
            tune.Tuner(
                tune.with_resources(TrialWorker, {"cpu": resources.cpus, "gpu": resources.gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=LedgerScheduler(study, searcher),
                    num_samples=-1,  # until the searcher has no more: a trial may come again
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
            if study.interrupted:  # a closed terminal tells it twice: the kernel and the shell
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
