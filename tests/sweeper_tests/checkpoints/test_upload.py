"""A worker whose checkpoints go to a store: nothing that it leaves on its machine is needed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import BUCKET, S3Server, s3_server

from sweeper.checkpoints.object_store import ObjectStore
from sweeper.checkpoints.upload import PREFIX, UploadSettings
from sweeper.executor.worker.trainable import Job, TrialWorker

URL = f"s3://{BUCKET}/toy-1a2b3c4d"
TRIAL = "trials/0001"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture(autouse=True)
def _machine(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store, and a scratch folder of this machine's own."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def worker(*written: int, **config: Any) -> TrialWorker:
    """A worker on a machine that has no study home, for a trial with these evaluations."""
    keys = tuple(f"{TRIAL}/epoch_{step:03d}" for step in written)
    parcel = vars(UploadSettings(URL, TRIAL, keys, patience_s=0.0))
    job = Job("scripted_trainer:train", config, f"/nowhere/{TRIAL}", None, 0, folder=str(Path.cwd()), parcel=parcel)
    return TrialWorker({"job": job.to_json()})


def step(worker: TrialWorker) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(worker.step()["message"])
    return message


def test_what_a_worker_reports_is_in_the_store_and_another_worker_resumes_from_there(tmp_path: Path) -> None:
    whole = worker()
    curve = [step(whole) for _ in range(4)]
    assert [message["checkpoint"] for message in curve] == [f"/nowhere/{TRIAL}/epoch_00{n}" for n in (1, 2, 3, 4)]
    assert [json.loads(message["manifest"])["step"] for message in curve] == [1, 2, 3, 4]
    assert sorted(ObjectStore(URL).sizes()) == [f"{TRIAL}/epoch_00{n}" for n in (1, 2, 3, 4)]
    folder = next(tmp_path.glob(f"{PREFIX}*"))
    assert {path.name for path in folder.iterdir()} == {"epoch_004", "log.txt"}, "a machine keeps the newest one alone"
    whole.cleanup()
    assert not list(tmp_path.iterdir())
    second = worker(2, 1)
    following = [step(second) for _ in range(2)]
    assert [message["step"] for message in following] == [3, 4]
    errors = [[message["metrics"]["val/pa_mpjpe_mm"] for message in some] for some in (curve[2:], following)]
    assert errors[0] == errors[1], "the walk that lies in the checkpoint goes on"
    assert following[0]["passed_over"] == []
    second.cleanup()


def test_a_damaged_checkpoint_is_passed_over_and_reported(server: S3Server) -> None:
    first = worker()
    for _ in range(2):
        step(first)
    first.cleanup()
    key = f"toy-1a2b3c4d/{TRIAL}/epoch_002/weights.safetensors"
    server.client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    second = worker(2, 1)
    message = step(second)
    assert message["step"] == 2
    assert message["passed_over"] == [f"{TRIAL}/epoch_002/weights.safetensors in the store is not what was written"]
    second.cleanup()


def test_a_lost_store_does_not_end_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    first = worker()
    assert step(first)["kind"] == "report"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    other = worker(1)
    message = step(other)
    assert message["kind"] == "lost"
    assert message["problem"].startswith(f"the checkpoint store {URL} does not answer")
    other.cleanup()
    first.cleanup()
