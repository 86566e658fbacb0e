"""Brings the study's trials to Ray Tune."""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ray.tune.search import Searcher

from sweeper.errors import UserError
from sweeper.executor.lane_hosts import LaneHosts
from sweeper.executor.monitor import Machines, room
from sweeper.executor.worker.trainable import Job
from sweeper.study.controller import StudyController
from sweeper.study.next_trial import NextTrial

ATTEMPT: Final = "attempt_"


@contextmanager
def keeping(study: StudyController) -> Iterator[None]:
    """Keep why a run cannot continue, such as a full disk: Ray turns what its callbacks raise into text."""
    try:
        yield
    except (OSError, UserError) as error:
        study.fail(error)
        raise


class LedgerSearcher(Searcher):  # type: ignore[misc]
    """Gives Ray the study's next trial; results reach the study through the scheduler."""

    def __init__(
        self, study: StudyController, machines: Machines, expected: Mapping[str, Any] | None, hosts: LaneHosts
    ) -> None:
        super().__init__()
        self.study = study
        self.machines = machines
        self.hosts = hosts
        self.expected = dict(expected) if expected else None
        self.trials: dict[str, str] = {}  # Ray's ID of a trial -> the one used everywhere else
        self.reasons: dict[str, str] = {}  # why we killed a trial's worker

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its searcher into files that are never read: the ledger is the state

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        resources = self.study.spec.resources
        if self.study.running >= resources.at_once(room(resources, self.machines.nodes())):
            return None
        with keeping(self.study):
            upcoming = self.study.next_trial()
        if upcoming is None:
            return None if self.study.may_come_again else str(Searcher.FINISHED)
        self.trials[trial_id] = upcoming.record.id
        self.study.meter.wait_for_worker(upcoming.record.id)
        attempt = self._attempt(upcoming)
        parcel = vars(upcoming.upload) if upcoming.upload else None
        if parcel and attempt:
            parcel = parcel | {"trial": f"{parcel['trial']}/{attempt}"}
        job = Job(
            trainer=self.study.spec.trainer,
            config=upcoming.config,
            workdir=str(upcoming.workdir),
            resume=str(upcoming.resume) if upcoming.resume else None,
            gpus=resources.trial_gpus,
            expected=self.expected,
            parcel=parcel,
            folder=os.getcwd(),
            attempt=attempt,
            lanes=self._seat(upcoming),
        )
        return {"job": job.to_json()}

    def _attempt(self, upcoming: NextTrial) -> str:
        """The name of a separate folder for a trial that had a worker before, on a cluster: a worker whose machine was
        cut off keeps training, and may write the same checkpoints again when it is back. On one machine it is gone, but
        its lane may be trained to the next evaluation."""
        is_fenced = upcoming.had_worker and (self.expected is not None or self.hosts.had(upcoming.record.id))
        return f"{ATTEMPT}{uuid.uuid4().hex[:6]}" if is_fenced else ""

    def _seat(self, upcoming: NextTrial) -> dict[str, str] | None:
        """Its place among the lanes. A trial that has lost its process gets one of its own, where it does not harm
        others."""
        self.hosts.leave(upcoming.record.id)
        return None if upcoming.record.losses else self.hosts.seat(upcoming.record.id, upcoming.config)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass
