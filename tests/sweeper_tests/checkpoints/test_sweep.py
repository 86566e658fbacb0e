"""A sweep whose checkpoints are in an S3-compatible store: its workers share no folder with the driver."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from checker import check, results
from faulty import FreshHome, sweep
from mlflow_helpers import uri_of
from s3_server import BUCKET, SECRET, S3Server, s3_server

from sweeper.checkpoints.locate import store_of
from sweeper.checkpoints.manifest import damage
from sweeper.checkpoints.object_store import ObjectStore
from sweeper.ledger.ledger import Ledger
from sweeper.tracking import fetch_checkpoint, find_trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAIN = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 4}
search_space:
  scale: {choices: [1.0, 2.0]}
controls: []
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 2
sampler: {name: grid}
scheduler: {name: none}
retention: last
"""
EPOCHS = [f"epoch_00{epoch}" for epoch in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture(scope="module")
def finished(server: S3Server, fresh_home: FreshHome) -> Path:
    """The home of a study that ran on Ray, and lost a worker at epoch 3 of a trial."""
    home = fresh_home("")
    base = f"{{epochs: 4, die_at: 3, picture: true, marks: {home.parent / 'marks'}}}"
    spec = PLAIN.replace("{epochs: 4}", base) + f"checkpoints: s3://{BUCKET}/team\n"
    (home.parent / "spec.yaml").write_text(spec)
    done = sweep(home, "run", ray=True, **server.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


@pytest.fixture
def store(finished: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    found = store_of(Ledger.open(finished / "studies" / "scripted", "scripted"))
    assert found is not None
    return found


def test_the_results_are_those_of_a_sweep_in_a_folder(
    finished: Path, store: ObjectStore, fresh_home: FreshHome
) -> None:
    plain = fresh_home(PLAIN)
    assert sweep(plain, "run").returncode == 0
    check(finished, unbroken=results(plain), store=store)
    assert len(store.sizes()) == 8


def test_a_lost_worker_resumes_from_the_store(finished: Path) -> None:
    trained = {path.name: path.stat().st_size for path in (finished.parent / "marks").iterdir()}
    assert trained == {"died": 3, "epoch 1": 2, "epoch 2": 2, "epoch 3": 3, "epoch 4": 2}


def test_the_drivers_disk_holds_manifests_and_pictures_and_the_workers_nothing(finished: Path) -> None:
    trials = finished / "studies" / "scripted" / "trials"
    there = {str(path.relative_to(trials)) for path in trials.rglob("*") if path.is_file()}
    manifests = {f"{trial}/{epoch}/manifest.json" for trial in ("0000", "0001") for epoch in EPOCHS}
    runs = {f"{trial}/mlflow_run.json" for trial in ("0000", "0001")}  # for a trainer that logs to MLflow itself
    assert there == manifests | runs | {f"{trial}/epoch_004/predictions.jpg" for trial in ("0000", "0001")}
    assert not list(Path(tempfile.gettempdir()).glob("sweeper-fetched-*"))


def test_mlflow_and_the_report_hold_what_they_should(finished: Path, tmp_path: Path) -> None:
    trial = find_trial(uri_of(finished), "scripted:best")
    assert list(trial.manifests) == list(trial.sums) == EPOCHS
    last = fetch_checkpoint(uri_of(finished), trial, "epoch_004", tmp_path)
    assert damage(last) is None
    assert (last / "weights.safetensors").is_file()
    page = next((finished / "studies" / "scripted").glob("*.html")).read_text()
    assert "data:image/jpeg;base64" in page


def test_the_secret_is_nowhere(finished: Path, store: ObjectStore, server: S3Server) -> None:
    files = [path for path in finished.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    stored = server.client.list_objects_v2(Bucket=BUCKET)["Contents"]
    contents = [server.client.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read() for found in stored]
    assert not [content for content in contents if SECRET.encode() in content]


def test_gc_removes_from_the_store_and_the_winner_is_still_reproduced(
    finished: Path, store: ObjectStore, server: S3Server
) -> None:
    named = json.loads(sweep(finished, "gc", "--json", **server.environment).stdout)
    assert len(named["found"]) == 8
    assert all(row["path"].startswith(f"{store.url}/trials/") for row in named["found"])
    removed = sweep(finished, "gc", "--delete", **server.environment)
    assert removed.returncode == 0, removed.stderr
    assert store.sizes() == {}
    synced = sweep(finished, "sync", "scripted", **server.environment)
    assert synced.returncode == 0, synced.stdout
    again = sweep(finished, "reproduce", "scripted:best")
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize("refusal", ["credentials", "bucket", "url"])
def test_a_store_that_refuses_is_reported_before_anything_starts(
    server: S3Server, fresh_home: FreshHome, refusal: str
) -> None:
    home = fresh_home(PLAIN)
    url = {"credentials": f"s3://{BUCKET}", "bucket": "s3://no-such-bucket", "url": f"s3://key:{SECRET}@{BUCKET}"}
    server.demand_credentials(refusal == "credentials")
    try:
        refused = sweep(home, "run", SWEEPER_CHECKPOINTS=url[refusal], **server.environment)
    finally:
        server.demand_credentials(False)
    assert refused.returncode == 2, refused.stderr
    assert ("refuses" if refusal != "url" else "this is not the URL of a store") in refused.stderr
    assert "Traceback" not in refused.stderr
    assert SECRET not in refused.stdout + refused.stderr
