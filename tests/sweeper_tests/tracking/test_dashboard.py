"""`sweeper dashboard`: the real optuna-dashboard, behind a token, on a copy that nobody can change."""

import http.client
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from finished import OBJECTIVE, finish_study
from mlflow_helpers import answers
from ports import free_port

from sweeper.cli.main import main
from sweeper.ledger.trial import TrialState
from sweeper.spec.load import parse_spec

SPEC = """
name: shown
trainer: scripted_trainer:train
search_space:
  scale: {choices: [1.0, 2.0, 3.0]}
sampler: {name: grid}
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: []
scheduler: {name: none}
"""
NEEDED = ("optuna_dashboard", "a2wsgi")
needs_dashboard = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason="the extra `dashboard` is not installed"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    finish_study(
        tmp_path,
        parse_spec(SPEC, Path("spec.yaml")),
        lambda params: TrialState.COLLAPSED if params["scale"] == 2.0 else params["scale"],
    )
    return tmp_path


@contextmanager
def dashboard(home: Path, *more: str) -> Iterator[tuple["subprocess.Popen[str]", int, str]]:
    """The process, its port and the address that it prints."""
    port = free_port()
    command = [sys.executable, "-m", "sweeper", "dashboard", *more, "--home", str(home), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stdout is not None
        try:
            yield running, port, running.stdout.readline().strip()
        finally:
            running.terminate()


def ask(port: int, method: str, path: str, token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers={"Cookie": f"sweeper_token_{port}={token}"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_without_the_extra_it_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in NEEDED else find(name))
    assert main(["dashboard", "shown", "--home", str(home)]) == 2
    told = capsys.readouterr().err
    assert "optuna-dashboard is not installed" in told
    assert "pip install 'mano-sweeper[dashboard]'" in told


@pytest.mark.parametrize(
    ("study", "what"), [(["shwn"], "did you mean `shown`?"), ([], "there are no studies in"), (["."], "no study `.`")]
)
def test_a_missing_study_is_reported(
    home: Path, tmp_path: Path, study: list[str], what: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    looked_at = home if study else tmp_path / "empty"
    (tmp_path / "empty" / "studies").mkdir(parents=True)
    assert main(["dashboard", *study, "--home", str(looked_at), "--port", str(free_port())]) == 2
    assert what in capsys.readouterr().err


@needs_dashboard
@pytest.mark.slow
def test_it_shows_a_copy_to_holders_of_the_token_and_changes_nothing(home: Path) -> None:
    journal = home / "studies" / "shown" / "ledger.journal"
    before = journal.read_bytes()
    with dashboard(home, "shown") as (_, port, address):
        prefix, _, token = address.partition("?token=")
        assert prefix == f"http://127.0.0.1:{port}/dashboard/studies/0"
        seen = {
            "nobody": ask(port, "GET", "/api/studies")[0],
            "nobody's page": ask(port, "GET", "/dashboard")[0],
            "nobody deletes": ask(port, "DELETE", "/api/studies/0")[0],
            "wrong": ask(port, "GET", "/api/studies?token=wrong", "wrong")[0],
            "first": ask(port, "GET", f"/dashboard/studies/0?token={token}")[0],
            "page": ask(port, "GET", "/dashboard/studies/0", token)[0],
            "deletes": ask(port, "DELETE", "/api/studies/0", token)[0],
            "renames": ask(port, "POST", "/api/studies/0/rename", token)[0],
            "tells": ask(port, "POST", "/api/trials/0/tell", token)[0],
        }
        status, body = ask(port, "GET", "/api/studies/0", token)
    assert seen == {
        "nobody": 401,
        "nobody's page": 401,
        "nobody deletes": 401,
        "wrong": 401,
        "first": 303,
        "page": 200,
        "deletes": 405,
        "renames": 405,
        "tells": 405,
    }
    assert status == 200
    study = json.loads(body)
    assert study["name"] == "shown"
    assert study["objective_names"] == [OBJECTIVE]
    told = [{each["key"]: each["value"] for each in trial["user_attrs"]} for trial in study["trials"]]
    assert sorted(each["state"] for each in told) == ["COLLAPSED", "COMPLETE", "COMPLETE"]
    assert "collapse: flat" in [each["reason"] for each in told]
    assert journal.read_bytes() == before
    assert not answers(port)


@needs_dashboard
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_it_ends_with_its_terminal(home: Path, number: signal.Signals) -> None:
    with dashboard(home) as (running, port, address):
        assert address.startswith(f"http://127.0.0.1:{port}/dashboard?token=")
        running.send_signal(number)
        running.wait(240)
        deadline = time.monotonic() + 30
        while answers(port):
            assert time.monotonic() < deadline, "the server lives on"
            time.sleep(0.2)


@needs_dashboard
@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("runuser") is None, reason="only root becomes another user")
def test_another_user_of_the_machine_gets_nothing_from_the_dashboard(home: Path) -> None:
    with dashboard(home) as (running, port, address):
        token = address.partition("token=")[2]
        as_nobody = ["runuser", "-u", "nobody", "--"]
        curl = [*as_nobody, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
        for path in ("dashboard", "api/studies", "api/studies/0", "csv/0"):
            url = f"http://127.0.0.1:{port}/{path}"
            assert subprocess.run([*curl, url], capture_output=True, text=True).stdout == "401"
        servers = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True).stdout.split()
        assert len(servers) == 1
        for what in ("cmdline", "environ"):
            shown = subprocess.run([*as_nobody, "cat", f"/proc/{servers[0]}/{what}"], capture_output=True).stdout
            assert token.encode() not in shown
