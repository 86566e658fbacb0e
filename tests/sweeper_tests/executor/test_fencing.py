"""A worker that was cut off keeps training alongside its successor: real workers and trainers, cluster jobs, no Ray."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledgers import SPEC
from s3_server import BUCKET, s3_server
from studies import make_study

from mano_trainers.report import EpochReport
from sweeper.checkpoints.locate import open_store, store_of
from sweeper.checkpoints.manifest import damage
from sweeper.executor.cluster import Local
from sweeper.executor.lane_hosts import LaneHosts
from sweeper.executor.searcher import LedgerSearcher
from sweeper.executor.worker.trainable import TrialWorker
from sweeper.study.controller import StudyController


class Told(TrialWorker):
    """A worker, and the messages it sends; the driver may not hear them."""

    def next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.step()["message"])
        return message


def bring(study: StudyController, trial_id: str, message: dict[str, Any]) -> None:
    """A worker's report reaches the driver."""
    report = EpochReport(message["step"], message["epoch"], message["metrics"], Path(message["checkpoint"]), 8.0)
    assert study.on_report(trial_id, report, message["manifest"])


@pytest.fixture(params=["folder", "store"])
def study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudyController]:
    """A study of one trial whose values differ in each run, as on a GPU; its checkpoints are in a folder or a store."""
    folder = tmp_path / "studies" / "toy"
    folder.mkdir(parents=True)
    changes = {"base": {"epochs": 8, "noise": True}, "trials": 1, "scheduler": {"name": "none"}}
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        if request.param == "store":
            monkeypatch.setenv("SWEEPER_CHECKPOINTS", f"s3://{BUCKET}/team")
        made = make_study(folder, **changes)
        open_store(made.ledger, SPEC)
        yield made
        made.ledger.close()


@pytest.fixture
def hand_out(study: StudyController, tmp_path: Path) -> Iterator[Callable[[str], Told]]:
    """Gives the next trial to its own worker, as Ray does on a cluster."""
    here, expected = Local(study.spec.resources, tmp_path), {"trainer": "the same on each machine"}
    searcher = LedgerSearcher(study, here, expected, LaneHosts(study.spec, 1, tmp_path))
    workers: list[Told] = []

    def start(ray_id: str) -> Told:
        config = searcher.suggest(ray_id)
        assert isinstance(config, dict)
        job = json.loads(config["job"]) | {"expected": None}  # the machines are this one
        workers.append(Told({"job": json.dumps(job)}))
        return workers[-1]

    yield start
    for worker in workers:
        worker.cleanup()


def test_what_a_worker_writes_after_it_was_given_up_changes_nothing(
    study: StudyController, hand_out: Callable[[str], Told]
) -> None:
    first = hand_out("first")
    bring(study, "toy-0000", first.next())
    study.on_lost("toy-0000", "the worker process was lost")  # cut off
    second = hand_out("second")
    for _ in range(3):
        bring(study, "toy-0000", second.next())
    ledger, store = study.ledger, store_of(study.ledger)

    def contents() -> list[Any]:
        reports = ledger.trial("toy-0000").reports
        keys = [report.checkpoint for report in reports if report.checkpoint]
        assert [report.step for report in reports] == [1, 2, 3, 4]
        if store is not None:
            return [store.files(key) for key in keys]
        assert [damage(ledger.study_dir / key) for key in keys] == [None] * 4
        return [(ledger.study_dir / key / "manifest.json").read_text() for key in keys]

    before = contents()
    for epoch in (2, 3):  # the connection is back: it keeps training, and writes epochs that its successor has written
        assert first.next()["step"] == epoch
    assert contents() == before
    last = ledger.trial("toy-0000").last
    assert last is not None
    assert str(last.checkpoint).startswith("trials/0000/attempt_")
    study.on_lost("toy-0000", "the worker process was lost")
    assert hand_out("third").next()["step"] == 5, "it goes on from its successor's checkpoint"
