"""The Tracker against real MLflow stores: what goes in at the driver's side is what MLflow holds in the end."""

import contextlib
import http.client
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.errors import UserError
from sweeper.tracking import Tracker, find_trial, trial_yaml
from sweeper.tracking.locate import MLFLOW_ENVIRONMENT, artifact_root, open_client, tracking_uri
from sweeper.tracking.record import read_trial_yaml
from sweeper.tracking.ui import serve_ui

OpenTracker = Callable[..., Tracker]


def uri_of(home: Path) -> str:
    return f"sqlite:///{home}/mlflow.db"


@pytest.fixture
def study_dir(home: Path) -> Path:
    folder = home / "studies" / "toy"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def open_tracker(home: Path, study_dir: Path) -> Iterator[OpenTracker]:
    """Opens Trackers on the study, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def open_it(uri: str | None = None, **options: Any) -> Tracker:
            tracker = Tracker(study_dir, uri or uri_of(home), home / "artifacts", "toy", **options)
            stack.callback(tracker.close)
            return tracker

        yield open_it


def start(tracker: Tracker, *trial_ids: str) -> None:
    tracker.start_study({"sweeper.objective": "val/pa_mpjpe_mm:min"}, {"provenance.json": '{"python": "x"}'})
    for trial_id in trial_ids:
        config = {"optim": {"lr": 0.1 + 0.2}, "threads": 1}
        text = trial_yaml(trial_id, "scripted_trainer:train", config, {"optim.lr": 0.1 + 0.2})
        tracker.start_trial(trial_id, {"optim.lr": 0.1 + 0.2}, {"sweeper.role": "candidate"}, {"trial.yaml": text})


def runs_of(uri: str) -> dict[str, Any]:
    """All runs of the experiment by name; fails if a name occurs twice."""
    client = open_client(uri)
    experiment = client.get_experiment_by_name("toy")
    runs = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs)
    return by_name


def points_of(uri: str, trial_id: str) -> list[tuple[int, str, int, float]]:
    """(step, name, timestamp, value) of every point that MLflow holds of a trial, sorted."""
    client, run = open_client(uri), runs_of(uri)[trial_id]
    return sorted(
        (point.step, name, point.timestamp, point.value)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


def test_a_study_reaches_mlflow_whole(home: Path, study_dir: Path, open_tracker: OpenTracker) -> None:
    known: dict[str, str] = {}
    tracker = open_tracker(on_run=known.__setitem__)
    start(tracker, "toy-0001", "toy-0002", "toy-0003")
    checkpoint = study_dir / "epoch_001"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text('{"files": {}}')
    for step in (1, 2):
        for trial_id in ("toy-0001", "toy-0002"):
            tracker.report(trial_id, step, 1_000 * step, {"val/pa_mpjpe_mm": 10.0 / step, "acc@1": 0.5})
    tracker.checkpoint("toy-0001", checkpoint, "checkpoints/epoch_001")
    tracker.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE", "sweeper.reason": None})
    tracker.finish_trial("toy-0002", "KILLED", {"sweeper.state": "PRUNED", "sweeper.reason": "rank 3 of 3"})
    tracker.finish_trial("toy-0003", "FAILED", {"sweeper.state": "FAILED"})
    tracker.finish_study("FINISHED", {"sweeper.winner": "toy-0001"}, {"summary.md": "# done"})
    assert tracker.flush(60) == 0
    assert tracker.problem is None

    runs = runs_of(uri_of(home))
    assert {name: run.info.status for name, run in runs.items()} == {
        "toy": "FINISHED",
        "toy-0001": "FINISHED",
        "toy-0002": "KILLED",
        "toy-0003": "FAILED",
    }
    parent = runs.pop("toy")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert runs["toy-0002"].data.tags["sweeper.reason"] == "rank 3 of 3"
    assert runs["toy-0001"].data.params == {"optim.lr": repr(0.1 + 0.2)}
    assert known == {name: run.info.run_id for name, run in runs.items()}
    assert points_of(uri_of(home), "toy-0001") == [
        (1, "acc_1", 1_000, 0.5),
        (1, "val/pa_mpjpe_mm", 1_000, 10.0),
        (2, "acc_1", 2_000, 0.5),
        (2, "val/pa_mpjpe_mm", 2_000, 5.0),
    ]
    assert str(home / "artifacts") in parent.info.artifact_uri

    trial = find_trial(uri_of(home), "toy-0001")
    assert trial.config == {"optim": {"lr": 0.1 + 0.2}, "threads": 1}
    assert (trial.study, trial.trainer) == ("toy", "scripted_trainer:train")
    assert trial.provenance == {"python": "x"}  # the study's, since the trial has none of its own
    assert trial.manifests == {"epoch_001": {"files": {}}}


def test_a_resumed_study_makes_no_second_run_and_no_second_point(home: Path, open_tracker: OpenTracker) -> None:
    first = open_tracker()
    start(first, "toy-0001")
    first.report("toy-0001", 1, 111, {"a": 1.0})
    first.report("toy-0001", 1, 222, {"a": 2.0})
    first.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE"})
    assert first.flush(60) == 0
    ended = runs_of(uri_of(home))["toy-0001"].info.end_time
    first.close()

    second = open_tracker()
    second.start_study({}, {})
    second.report("toy-0001", 1, 333, {"a": 3.0})  # the driver repeats what is in its ledger
    second.report("toy-0001", 2, 444, {"a": 4.0})
    second.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE"})
    assert second.flush(60) == 0
    assert points_of(uri_of(home), "toy-0001") == [(1, "a", 111, 1.0), (2, "a", 444, 4.0)]
    assert set(runs_of(uri_of(home))) == {"toy", "toy-0001"}
    assert runs_of(uri_of(home))["toy-0001"].info.end_time == ended


def test_a_crash_between_delivery_and_mark_changes_nothing(
    home: Path, study_dir: Path, open_tracker: OpenTracker
) -> None:
    first = open_tracker()
    start(first, "toy-0001")
    first.report("toy-0001", 1, 111, {"a": 1.0, "nan": math.nan})
    first.finish_trial("toy-0001", "KILLED", {"sweeper.state": "STOPPED"})
    assert first.flush(60) == 0
    before = points_of(uri_of(home), "toy-0001")
    first.close()
    (study_dir / "outbox.ack").unlink()

    second = open_tracker()
    assert second.flush(60) == 0
    after = points_of(uri_of(home), "toy-0001")
    assert [point[:3] for point in after] == [point[:3] for point in before]
    assert {name: run.info.status for name, run in runs_of(uri_of(home)).items()} == {
        "toy": "RUNNING",
        "toy-0001": "KILLED",
    }


def test_a_later_study_of_the_same_name_gets_runs_of_its_own(
    home: Path, study_dir: Path, open_tracker: OpenTracker
) -> None:
    first = open_tracker()
    start(first, "toy-0001")
    first.report("toy-0001", 1, 111, {"a": 1.0})
    assert first.flush(60) == 0
    first.close()
    for file in study_dir.iterdir():
        file.unlink()
    time.sleep(0.01)  # MLflow orders runs by their start in milliseconds
    second = open_tracker()
    start(second, "toy-0001")
    second.report("toy-0001", 1, 222, {"a": 2.0})
    assert second.flush(60) == 0
    assert find_trial(uri_of(home), "toy-0001").metrics == {1: {"a": 2.0}}


def test_values_that_are_not_finite(home: Path, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    tracker.report("toy-0001", 1, 1, {"nan": math.nan, "inf": math.inf, "tiny": 5e-324, "third": 1 / 3})
    assert tracker.flush(60) == 0
    metrics = find_trial(uri_of(home), "toy-0001").metrics[1]
    assert math.isnan(metrics["nan"])
    assert metrics["inf"] == sys.float_info.max
    assert (metrics["tiny"], metrics["third"]) == (5e-324, 1 / 3)


def test_what_mlflow_refuses_does_not_hold_up_the_rest(home: Path, study_dir: Path, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    tracker.checkpoint("toy-0001", study_dir / "never_written", "checkpoints/epoch_001")
    tracker.start_trial("toy-0001", {"optim.lr": 9.0}, {}, {})  # a param cannot change
    tracker.report("toy-0001", 1, 1, {"a": 1.0})
    tracker.report("toy-0001", 2, 1, {"k" * 300: 1.0})
    tracker.report("toy-0001", 3, 1, {"a": 3.0})
    assert tracker.flush(60) == 0
    assert [point[0] for point in points_of(uri_of(home), "toy-0001")] == [1, 3]
    rejected = (study_dir / "outbox.rejected.jsonl").read_text()
    assert rejected.count("\n") == 3
    assert "never_written" in rejected


def test_a_full_disk_delays_but_does_not_lose(
    home: Path, open_tracker: OpenTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker()
    start(tracker, "toy-0001")
    assert tracker.flush(60) == 0

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        tracker.report("toy-0001", 1, 1, {"a": 1.0})
        tracker.report("toy-0001", 2, 2, {"a": 2.0})
        assert tracker.flush(0.5) == 2
    assert tracker.flush(60) == 0
    assert [point[0] for point in points_of(uri_of(home), "toy-0001")] == [1, 2]


@settings(max_examples=50, deadline=None)
@given(
    config=st.dictionaries(
        st.text(min_size=1),
        st.one_of(
            st.floats(allow_nan=False),
            st.integers(),
            st.booleans(),
            st.none(),
            st.text(),
            st.lists(st.floats(allow_nan=False)),
        ),
    )
)
def test_trial_yaml_reads_back_to_the_last_bit(config: dict[str, Any]) -> None:
    record = read_trial_yaml(trial_yaml("t-0001", "a.b:c", config, {"x": 1e-5}))
    assert record == {"trial_id": "t-0001", "trainer": "a.b:c", "params": {"x": 1e-5}, "config": config}
    assert repr(record["config"]) == repr(config)


# --- selectors


@pytest.fixture
def recorded(home: Path, open_tracker: OpenTracker) -> str:
    """The URI of a store with two complete trials, a better one that was pruned, and a better ruler."""
    tracker = open_tracker()
    trials = {"toy-0001": 9.0, "toy-0002": 8.0, "toy-0010": 1.0, "toy-0011": 0.0}
    start(tracker, *trials)
    tracker.start_trial("toy-0011", {}, {"sweeper.role": "oracle"}, {})
    for trial_id, error_mm in trials.items():
        tracker.report(trial_id, 1, 1, {"val/pa_mpjpe_mm": error_mm})
        state = "PRUNED" if trial_id == "toy-0010" else "COMPLETE"
        tracker.finish_trial(trial_id, "FINISHED", {"sweeper.state": state})
    assert tracker.flush(60) == 0
    return uri_of(home)


@pytest.mark.parametrize(
    ("selector", "trial_id"), [("toy-0001", "toy-0001"), ("toy-0002", "toy-0002"), ("toy:best", "toy-0002")]
)
def test_a_trial_is_found(recorded: str, selector: str, trial_id: str) -> None:
    assert find_trial(recorded, selector).trial_id == trial_id


def test_the_named_winner_is_the_best(recorded: str, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    tracker.finish_study("FINISHED", {"sweeper.winner": "toy-0001"}, {})
    assert tracker.flush(60) == 0
    assert find_trial(recorded, "toy:best").trial_id == "toy-0001"


@pytest.mark.parametrize(
    ("selector", "what", "help_text"),
    [
        ("toy-001", "`toy-001` fits 2 trials", "toy-0010, toy-0011"),
        ("tyo-0002", "no trial `tyo-0002`", "did you mean toy-0002"),
        ("", "no trial ``", "there are toy-0001, toy-0002"),
        ("tooy:best", "no study `tooy`", "did you mean toy?"),
        ("toy:worst", "cannot read the selector", "STUDY:best"),
    ],
)
def test_a_trial_that_is_not_found(recorded: str, selector: str, what: str, help_text: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        find_trial(recorded, selector)
    assert help_text in caught.value.render()


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no MLflow store here"):
        find_trial(uri_of(tmp_path), "toy-0001")
    with pytest.raises(UserError, match="no MLflow store here"):
        serve_ui(tmp_path, 5000)
    assert list(tmp_path.iterdir()) == []


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert artifact_root(tmp_path) == str(tmp_path / "artifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@localhost:1")
    assert artifact_root(tmp_path) is None
    with pytest.raises(UserError, match="MLflow does not answer") as caught:
        find_trial(tracking_uri(tmp_path), "toy-0001")
    assert "secret" not in caught.value.render()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    with pytest.raises(UserError, match="cannot keep a store at file:///tmp/mlruns"):
        tracking_uri(tmp_path)


# --- a server that fails


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def mlflow_server(home: Path, port: int) -> Iterator[int]:
    """A real server on the store of `home`; yields the process group, killed at the end without mercy."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri_of(home), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--artifacts-destination", str(home / "served")]
    environment = {**os.environ, **MLFLOW_ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (home / "server.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield server.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
def test_a_server_down_at_start_and_killed_on_the_way_costs_nothing(home: Path, study_dir: Path) -> None:
    port = free_port()
    tracker = Tracker(study_dir, f"http://127.0.0.1:{port}", None, "toy")
    trials, steps = ("toy-0001", "toy-0002"), 60
    checkpoint = study_dir / "epoch_001"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text('{"files": {}}')

    def report(step: int) -> None:
        for trial_id in trials:
            tracker.report(trial_id, step, 1_000 * step, {"a": step / 3, "b": -float(step)})

    began = time.monotonic()
    start(tracker, *trials)
    for step in range(1, 21):
        report(step)
    assert time.monotonic() - began < 1.0  # nobody waited for a server that is not there
    assert tracker.flush(1) > 0
    with mlflow_server(home, port) as server:
        assert tracker.flush(120) == 0
        killer = threading.Timer(0.1, os.killpg, (server, signal.SIGKILL))
        killer.start()
        for step in range(21, 41):  # the server dies somewhere in here
            report(step)
            time.sleep(0.02)
        killer.join()
    for step in range(41, steps + 1):
        report(step)
    tracker.checkpoint("toy-0001", checkpoint, "checkpoints/epoch_001")
    for trial_id in trials:
        tracker.finish_trial(trial_id, "FINISHED", {"sweeper.state": "COMPLETE"})
    assert tracker.flush(0.5) > 0
    assert tracker.problem
    with mlflow_server(home, port):
        assert tracker.flush(120) == 0
        assert tracker.problem is None
        manifests = find_trial(f"http://127.0.0.1:{port}", "toy-0001").manifests
    tracker.close()

    expected = sorted(
        (step, name, 1_000 * step, value)
        for step in range(1, steps + 1)
        for name, value in (("a", step / 3), ("b", -float(step)))
    )
    for trial_id in trials:
        assert points_of(uri_of(home), trial_id) == expected
    assert set(runs_of(uri_of(home))) == {"toy", *trials}
    assert manifests == {"epoch_001": {"files": {}}}
    assert not (study_dir / "outbox.rejected.jsonl").exists()


# --- the web UI


def test_a_taken_port_is_said(home: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(UserError, match=f"port {holder.getsockname()[1]} is not free"):
            serve_ui(home, holder.getsockname()[1])


def get(port: int, path: str, host: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


@pytest.mark.slow
def test_the_ui_answers_on_loopback_and_ends_with_ctrl_c(
    recorded: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port, run_id, seen = free_port(), find_trial(recorded, "toy-0001").run_id, {}
    search = "/api/2.0/mlflow/experiments/search?max_results=5"

    def look_and_interrupt() -> None:
        deadline = time.monotonic() + 120
        while not answers(port) and time.monotonic() < deadline:
            time.sleep(0.2)
        try:
            seen["page"] = get(port, "/", f"127.0.0.1:{port}")
            seen["search"] = get(port, search, f"localhost:{port}")
            seen["artifact"] = get(port, f"/get-artifact?path=trial.yaml&run_uuid={run_id}", f"localhost:{port}")
            seen["rebound"] = get(port, search, "evil.example")
        finally:
            time.sleep(0.5)  # the address is printed just after the first answer
            os.kill(os.getpid(), signal.SIGINT)

    visitor = threading.Thread(target=look_and_interrupt)
    visitor.start()
    assert serve_ui(home, port) == 0
    visitor.join()
    assert capsys.readouterr().out == f"http://127.0.0.1:{port}\n"
    assert {name: status for name, (status, _) in seen.items()} == {
        "page": 200,
        "search": 200,
        "artifact": 200,
        "rebound": 403,
    }
    assert b'"toy"' in seen["search"][1]
    assert b"scripted_trainer" in seen["artifact"][1]
    assert not answers(port)


@pytest.mark.slow
def test_a_ui_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match="the MLflow server does not start") as caught:
        serve_ui(tmp_path, free_port())
    assert "file is not a database" in caught.value.render()
