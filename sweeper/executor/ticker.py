"""Looks after the trials that run on Ray."""

import time
from typing import Any, Final

import ray
from ray._private.state import actors
from ray.tune.progress_reporter import TrialProgressCallback

from sweeper.errors import UserError
from sweeper.executor.heartbeat import Heartbeat
from sweeper.executor.monitor import Worker, Workers
from sweeper.executor.searcher import LedgerSearcher, keeping
from sweeper.study.controller import StudyController

LOOK_AT_RAY_S: Final = 5.0
IDLE_S: Final = 120.0


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
        place, trains = actor["Address"], self.searcher.hosts.pid(trial_id)
        self.workers.started(trial_id, Worker(place["NodeID"], actor["Pid"], place["IPAddress"], trains))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        trial_id = self.searcher.trials[trial.trial_id]
        self.heartbeat.beat(trial_id)
        self.unready.discard(trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with keeping(self.study):
            self._look_at_ray()
            self.doomed.update(self.study.tick())
        self._look_at_used_workers(trials)
        self._look_at_waiting_trials(trials)
        for trial_id, trial in self.live.items():  # one that has not started yet is ended once it has
            if trial_id in self.doomed:
                self.doomed.discard(trial_id)
            elif self.heartbeat.is_lost(trial_id, self._cpu_s(trial_id)):
                self.heartbeat.beat(trial_id)
                seconds = self.study.spec.resources.heartbeat_s
                self.searcher.reasons[trial_id] = f"the worker hung: no sign of life for {seconds:g} s"
                self.searcher.hosts.kill(trial_id)
            else:
                continue
            self.workers.kill(trial_id)
            ray.kill(trial.temporary_state.ray_actor)

    def _cpu_s(self, trial_id: str) -> float:
        """A worker that waits for the data counts as busy, like the one that prepares them."""
        return self.workers.cpu_s(trial_id, self.unready if trial_id in self.unready else ())

    def _look_at_used_workers(self, trials: list[Any]) -> None:
        """A worker that hangs between its last trial and the next has not started that one, and never would."""
        for trial in trials:
            has_worker = trial.temporary_state.ray_actor is not None and not trial.is_finished()
            if has_worker and self.searcher.trials[trial.trial_id] not in self.live:
                self._watch(trial)

    def _look_at_waiting_trials(self, trials: list[Any]) -> None:
        """Say so if trials wait and none runs: a worker does not come up, or others have the machines."""
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
        if self.live.get(trial_id) is trial:  # otherwise it is running again already
            del self.live[trial_id]
            self.searcher.hosts.leave(trial_id)
            self.unready.discard(trial_id)
            self.workers.ended(trial_id)
