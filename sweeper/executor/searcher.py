"""Brings the study's trials to Ray Tune."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.tune.search import Searcher

from sweeper.errors import UserError
from sweeper.executor.monitor import Machines, room
from sweeper.executor.trainable import Job
from sweeper.study.controller import StudyController


@contextmanager
def keeping(study: StudyController) -> Iterator[None]:
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
        with keeping(self.study):
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
