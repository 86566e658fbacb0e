"""Runs a study on Ray Tune. Ray is an executor that can be thrown away: it asks the study for trials, brings back
reports, and keeps nothing that matters."""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

# Before ray is imported: these are read at import.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on one machine, bind loopback only
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1e9"  # Tune's own state: 20 KB a trial, written again and again, read by none
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # stdout is ours

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeper.errors import UserError
from sweeper.heartbeat import Heartbeat, kill_worker
from sweeper.scratch import scratch_folder
from sweeper.spec import Resources, SweepSpec
from sweeper.study import Study
from sweeper.worker import Job, TrialWorker

RAY_STARTS: Final = 3
LOOK_AT_RAY_S: Final = 5.0


@contextmanager
def _keeping(study: Study) -> Iterator[None]:
    """Keep why a run cannot go on, a full disk say: Ray turns what its callbacks raise into text."""
    try:
        yield
    except (OSError, UserError) as error:
        study.failure = error
        raise


class LedgerSearcher(Searcher):  # type: ignore[misc]
    """Gives Ray the study's next trial; results reach the study through the scheduler."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.study = study
        self.trials: dict[str, str] = {}  # Ray's ID of a trial -> the one the rest of us know it by
        self.reasons: dict[str, str] = {}  # why we killed a trial's worker

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its searcher into files that nobody reads: the ledger is the state

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        if self.study.running >= self.study.spec.resources.concurrent:
            return None
        with _keeping(self.study):
            upcoming = self.study.next_trial()
        if upcoming is None:
            return None if self.study.may_come_again else str(Searcher.FINISHED)
        self.trials[trial_id] = upcoming.record.id
        job = Job(
            trainer=self.study.spec.trainer,
            config=upcoming.config,
            workdir=str(upcoming.workdir),
            resume=str(upcoming.resume) if upcoming.resume else None,
            gpus=self.study.spec.resources.gpus,
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

    def __init__(self, study: Study, searcher: LedgerSearcher) -> None:
        super().__init__()
        self.study = study
        self.searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = self.searcher.trials[trial.trial_id]
        message = json.loads(result["message"])
        with _keeping(self.study):
            match message["kind"]:
                case "report":
                    goes_on = self.study.on_report(trial_id, message)
                    return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)
                case "end":
                    self.study.on_end(trial_id)
                case "error":
                    self.study.on_error(trial_id, message["error"], message["traceback"])
        return str(TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        trial_id = self.searcher.trials[trial.trial_id]
        with _keeping(self.study):
            self.study.on_lost(trial_id, self.searcher.reasons.pop(trial_id, "the worker process was lost"))


class Ticker(tune.Callback):  # type: ignore[misc]
    """Looks after running trials several times a second: ends those the study stops, and workers that hang."""

    def __init__(self, study: Study, searcher: LedgerSearcher) -> None:
        self.study = study
        self.searcher = searcher
        self.heartbeat = Heartbeat(study.spec.resources.heartbeat_s)
        self.doomed: set[str] = set()
        self.live: dict[str, Any] = {}
        self.looked_s = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.live[self.searcher.trials[trial.trial_id]] = trial

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self.heartbeat.beat(self.searcher.trials[trial.trial_id])

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with _keeping(self.study):
            self._look_at_ray()
            self.doomed.update(self.study.tick())
        for trial_id, trial in self.live.items():  # one that has not started yet is ended when it has
            workdir = self.study.workdir_of(trial_id)
            if trial_id in self.doomed:
                self.doomed.discard(trial_id)
            elif self.heartbeat.is_lost(trial_id, workdir):
                self.heartbeat.beat(trial_id)
                seconds = self.study.spec.resources.heartbeat_s
                self.searcher.reasons[trial_id] = f"the worker hung: no sign of life for {seconds:g} s"
            else:
                continue
            kill_worker(workdir)
            ray.kill(trial.temporary_state.ray_actor)

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


def execute(study: Study, trainer_cache: Path) -> None:
    """Run the study's trials until none is left, or it is interrupted (`study.interrupted`).

    The first Ctrl-C (or SIGTERM) lets each running trial reach its next evaluation and checkpoint; the second raises
    KeyboardInterrupt at once. Either way everything reported is in the ledger.
    """
    resources = study.spec.resources
    try:
        with _graceful_interrupt(study), scratch_folder() as scratch, _local_ray(study.spec, trainer_cache):
            searcher = LedgerSearcher(study)
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
                    callbacks=[Ticker(study, searcher)],
                    name="tune",
                    storage_path=str(scratch),
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trainer writes its own
                ),
            ).fit()
    except Exception as error:
        raise study.failure or error from None


@contextmanager
def _local_ray(spec: SweepSpec, trainer_cache: Path) -> Iterator[None]:
    resources = spec.resources
    previous_umask = os.umask(0o077)  # Ray writes its token file with the default mode
    os.environ["TRAINERS_CACHE_DIR"] = str(trainer_cache)  # workers inherit it; a runtime_env costs seconds
    try:
        _start_ray(resources)
        yield
    finally:
        ray.shutdown()
        os.umask(previous_umask)


def _start_ray(resources: Resources) -> None:
    """Ray gives its own processes 30 s to come up, which is not enough on a busy machine.

    Raises:
        UserError: it did not come up in three times that.
    """
    for attempt in range(RAY_STARTS):
        try:
            ray.init(
                address="local",
                num_cpus=resources.cpus * resources.concurrent,
                num_gpus=None if resources.gpus else 0,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=100 * 2**20,
            )
            return
        except Exception as error:  # Ray raises a bare Exception
            ray.shutdown()
            if attempt + 1 == RAY_STARTS:
                raise UserError(
                    f"Ray did not start: {error}", help="is the machine overloaded, or its disk full?"
                ) from error


@contextmanager
def _graceful_interrupt(study: Study) -> Iterator[None]:
    def interrupt(number: int, _frame: FrameType | None) -> None:
        if study.interrupted:
            raise KeyboardInterrupt
        study.interrupted = number
        print("stopping: running trials go on to their next checkpoint; Ctrl-C again stops now", file=sys.stderr)

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _child_environment(trainer_cache: Path) -> dict[str, str]:
    return os.environ | {"TRAINERS_CACHE_DIR": str(trainer_cache)}
