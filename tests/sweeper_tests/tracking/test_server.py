"""Real MLflow servers: one that fails midway, and the web UI."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from faulty import wait_until
from forked_server import mlflow_server
from mlflow_helpers import answers, points_of, runs_of, start, uri_of
from ports import free_port

from sweeper.errors import UserError
from sweeper.tracking import Tracker, find_trial
from sweeper.tracking.ui.server import serve_ui


@pytest.mark.slow
def test_a_server_down_at_the_start_and_killed_midway_costs_nothing(home: Path, study_dir: Path) -> None:
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
    assert time.monotonic() - began < 20.0  # nobody waited for a server that is not there
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


def test_a_port_in_use_is_reported(home: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(UserError, match=f"port {holder.getsockname()[1]} is not free"):
            serve_ui(home, holder.getsockname()[1])


def get(port: int, path: str, host: str, token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host, "Cookie": f"sweeper_token_{port}={token}"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


@pytest.mark.slow
def test_the_ui_answers_on_loopback_and_ends_with_ctrl_c(recorded: str, home: Path) -> None:
    port, run_id, seen = free_port(), find_trial(recorded, "toy-0001").run_id, {}
    search = "/api/2.0/mlflow/experiments/search?max_results=5"
    artifact = f"/get-artifact?path=trial.yaml&run_uuid={run_id}"
    # a separate process: Ctrl-C must reach its main thread, and no library's callback in this one
    command = [sys.executable, "-m", "sweeper", "ui", "--home", str(home), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as ui:
        assert ui.stdout is not None
        try:
            address = ui.stdout.readline().strip()  # printed once it answers
            prefix, _, right = address.removesuffix("#/experiments?workflowType=machine_learning").partition("=")
            assert prefix == f"http://127.0.0.1:{port}/?token"
            seen["page"] = get(port, "/", f"127.0.0.1:{port}", right)
            seen["search"] = get(port, search, f"localhost:{port}", right)
            seen["artifact"] = get(port, artifact, f"localhost:{port}", right)
            seen["rebound"] = get(port, search, "evil.example", right)
            seen["first"] = get(port, f"/?token={right}", f"localhost:{port}")
            seen["nobody"] = get(port, search, f"localhost:{port}")
            seen["wrong"] = get(port, "/?token=wrong", f"localhost:{port}", "wrong")
            for part in ("assistant/config", "gateway/endpoints", "webhooks/list"):
                seen[part] = get(port, f"/ajax-api/3.0/mlflow/{part}", f"localhost:{port}", right)
        finally:
            ui.send_signal(signal.SIGINT)
        assert ui.wait(240) == 0
        assert ui.stdout.read() == ""
    assert {name: status for name, (status, _) in seen.items()} == {
        "page": 200,
        "search": 200,
        "artifact": 200,
        "rebound": 403,
        "first": 303,
        "nobody": 401,
        "wrong": 401,
        "assistant/config": 404,
        "gateway/endpoints": 404,
        "webhooks/list": 404,
    }
    assert b"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1" in seen["page"][1]
    assert b'"toy"' in seen["search"][1]
    assert b"scripted_trainer" in seen["artifact"][1]
    assert not answers(port)


def test_a_ui_with_a_broken_database_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match="the MLflow database is broken: file is not a database") as caught:
        serve_ui(tmp_path, free_port())
    assert "sweeper doctor --fix" in caught.value.render()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL])
def test_a_ui_that_ends_leaves_no_server(home: Path, number: signal.Signals) -> None:
    """However it ends: a closed terminal, a kill."""
    port = free_port()
    command = [sys.executable, "-m", "sweeper", "ui", "--home", str(home), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as ui:
        assert ui.stdout is not None
        assert "?token=" in ui.stdout.readline()
        assert get(port, "/", f"127.0.0.1:{port}")[0] == 401
        ui.send_signal(number)
        ui.wait(240)
    deadline = time.monotonic() + 30
    while answers(port):
        assert time.monotonic() < deadline, "the server lives on"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_ui_that_ends_in_its_first_seconds_leaves_no_server(home: Path, number: signal.Signals) -> None:
    """At several times after its start, and right after it has started the server."""
    for moment in (0.2, 0.5, 1.0, 2.0, "server", "server + 0.5"):
        mark = f"{number.name}-{moment}-{home}"
        command = [sys.executable, "-m", "sweeper", "ui", "--home", str(home), "--port", str(free_port())]
        environment = os.environ | {"TEST_MARK": mark}
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as ui:
            try:
                if isinstance(moment, float):
                    time.sleep(moment)
                else:
                    wait_until(lambda mark=mark, ui=ui: marked(mark) > {ui.pid})
                    time.sleep(0.5 if "+" in moment else 0)
                ui.send_signal(number)
                ui.wait(240)
            finally:
                ui.kill()
        wait_until(lambda mark=mark: not marked(mark))


def marked(mark: str) -> set[int]:
    """Processes with this mark in their environment, however they are related."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TEST_MARK={mark}\0".encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("runuser") is None, reason="only root becomes another user")
def test_another_user_of_the_machine_gets_nothing(home: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "sweeper", "ui", "--home", str(home), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdout is not None
        token = ui.stdout.readline().strip().partition("token=")[2]
        as_nobody = ["runuser", "-u", "nobody", "--"]
        url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=5"
        curl = [*as_nobody, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]
        assert subprocess.run(curl, capture_output=True, text=True).stdout == "401"
        server = subprocess.run(["pgrep", "-P", str(ui.pid)], capture_output=True, text=True).stdout.split()[0]
        for what in ("cmdline", "environ"):
            shown = subprocess.run([*as_nobody, "cat", f"/proc/{server}/{what}"], capture_output=True).stdout
            assert token.encode() not in shown
        ui.terminate()
