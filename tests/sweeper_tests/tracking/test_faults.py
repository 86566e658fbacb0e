"""No metric waits for the tracking server, and none is lost because of it: a real server that fails in every way.

A study of the scripted trainer runs against a real `mlflow server`, on SQLite and on PostgreSQL. While it runs the
server is killed, hangs, is slow, or was never there; in the end MLflow holds the ledger's points, each once.
"""

import contextlib
import http.server
import os
import shutil
import signal
import socket
import socketserver
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from faulty import begin, sweep
from forked_server import start_server
from mlflow_helpers import answers, points_in_ledger, points_in_mlflow, server_arguments, server_environment
from ports import free_port

from sweeper.ledger.ledger import Ledger
from sweeper.tracking.store.client import open_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SPEC = """
name: NAME
trainer: scripted_trainer:train
base: {epochs: 10, sleep_s: SLEEP}
search_space:
  scale: {low: 0.5, high: 1.0}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 4
controls: []
scheduler: {name: none}
sampler: {name: random}
"""


@dataclass
class Server:
    """A real server that a test may kill and start again on the same port and store."""

    folder: Path
    store: str
    port: int = field(default_factory=free_port)
    process: BaseProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, largest_file: int | None = None) -> None:
        """`largest_file`: bytes above which it cannot write a file, as on a full disk."""
        arguments = server_arguments(self.store, self.folder / "served", self.port)
        self.process = start_server(arguments, self.folder / "server.log", server_environment(), largest_file)
        deadline = time.monotonic() + 180
        while not answers(self.port):
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()[-2000:]
            time.sleep(0.2)

    def signal(self, number: int) -> None:
        assert self.process is not None
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.join()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, template_db: Path
) -> Iterator[Server]:
    """One server for all tests on a backend."""
    folder = tmp_path_factory.mktemp("server")
    if request.param == "sqlite":
        shutil.copy(template_db, folder / "mlflow.db")
        store = f"sqlite:///{folder}/mlflow.db"
    else:
        url: str = request.getfixturevalue("postgres_server").new_database("tracking")  # a ledger cannot share it
        store = url.replace("postgresql://", "postgresql+psycopg://")
    running = Server(folder, store)
    running.start()
    yield running
    running.signal(signal.SIGCONT)
    running.kill()


@dataclass
class Sweep:
    """A study that runs against some URL while a test does harm."""

    home: Path
    name: str

    def run(self, url: str, harm: Callable[[], None] = lambda: None, sleep_s: float = 0.05) -> float:
        """Run it; returns the seconds that its trials took from the first to the last report."""
        self.home.mkdir(parents=True)
        (self.home.parent / "spec.yaml").write_text(SPEC.replace("NAME", self.name).replace("SLEEP", f"{sleep_s:g}"))
        process = begin(self.home, MLFLOW_TRACKING_URI=url)
        try:
            journal = self.home / "studies" / self.name / "ledger.journal"
            deadline = time.monotonic() + 120
            while not (journal.exists() and b"report:00003" in journal.read_bytes()):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            harm()
            said = process.communicate(timeout=400)
        finally:
            process.kill()
        assert process.returncode == 0, said[1]
        stamps = self.stamps()
        return (max(stamps) - min(stamps)) / 1000

    def stamps(self) -> list[int]:
        ledger = Ledger.open(self.home / "studies" / self.name, self.name)
        return [report.timestamp_ms for trial in ledger.trials() for report in trial.reports]

    def sync(self, url: str) -> None:
        done = sweep(self.home, "sync", self.name, MLFLOW_TRACKING_URI=url)
        assert done.returncode == 0, done.stdout + done.stderr

    def check(self, url: str) -> None:
        """Every point of the ledger is in MLflow once, and nothing else is; no run is open; nothing was refused."""
        assert len(points_in_ledger(self.home, self.name)) > 200
        assert points_in_mlflow(url, self.name) == points_in_ledger(self.home, self.name)
        client = open_client(url)
        runs = client.search_runs([client.get_experiment_by_name(self.name).experiment_id])
        assert len(runs) == 5, "four trials and the study, each once"
        assert {run.info.status for run in runs} == {"FINISHED"}
        for run in runs:
            if "sweeper.trial_id" in run.data.tags:
                assert len(client.list_artifacts(run.info.run_id, "checkpoints")) == 10
        assert not (self.home / "studies" / self.name / "outbox.rejected.jsonl").exists()


@pytest.fixture
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Sweep:
    return Sweep(tmp_path / "home", f"faulty-{zlib.crc32(request.node.name.encode())}")


def test_nothing_is_lost_to_a_server_that_is_killed_three_times_and_hangs(server: Server, study: Sweep) -> None:
    def harm() -> None:
        for _ in range(3):
            server.kill()
            server.start()
            time.sleep(0.3)
        server.signal(signal.SIGSTOP)
        time.sleep(2)
        server.signal(signal.SIGCONT)

    study.run(server.url, harm, sleep_s=1.0)
    study.sync(server.url)
    study.check(server.url)


def test_nothing_is_lost_to_a_server_that_hangs_until_long_after_the_end(server: Server, study: Sweep) -> None:
    """The trials end while the server hangs; the driver gives up waiting for it; `sweeper sync` delivers the rest."""
    try:
        seconds = study.run(server.url, lambda: server.signal(signal.SIGSTOP))
    finally:
        server.signal(signal.SIGCONT)
    assert seconds < 40, "40 evaluations of 0.05 s waited for a server that answers nothing"
    study.sync(server.url)
    study.check(server.url)


class Slow(socketserver.ThreadingTCPServer):
    """A proxy that forwards every connection with a delay."""

    daemon_threads = True

    def __init__(self, port: int, delay_s: float) -> None:
        self.port, self.delay_s = port, delay_s
        super().__init__(("127.0.0.1", 0), _PassOn)


class _PassOn(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Slow)
        time.sleep(self.server.delay_s)
        with socket.create_connection(("127.0.0.1", self.server.port)) as behind:
            back = threading.Thread(target=_pump, args=(behind, self.request, self.server.delay_s), daemon=True)
            back.start()
            _pump(self.request, behind, 0.0)
            back.join()


def _pump(source: socket.socket, sink: socket.socket, delay_s: float) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            time.sleep(delay_s)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_trials_do_not_wait_for_a_slow_server(server: Server, study: Sweep) -> None:
    with Slow(server.port, 0.3) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        seconds = study.run(f"http://127.0.0.1:{proxy.server_address[1]}")
        proxy.shutdown()
    assert seconds < 40, "the trials waited for it"
    study.sync(server.url)
    study.check(server.url)


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_nothing_is_lost_to_a_full_disk_of_the_server(server: Server, study: Sweep) -> None:
    server.kill()
    server.start(largest_file=(server.folder / "mlflow.db").stat().st_size + 16384)
    try:
        study.run(server.url)
    finally:
        server.kill()
        server.start()
    assert len(points_in_mlflow(server.url, study.name)) < len(points_in_ledger(study.home, study.name))
    study.sync(server.url)
    study.check(server.url)


class _Refuses(http.server.BaseHTTPRequestHandler):
    """Answers every request with the status in the first part of its path."""

    def do_GET(self) -> None:
        self.send_error(int(self.path.split("/")[1]))

    do_POST = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("status", [404, 401])
def test_nothing_is_lost_to_a_wrong_url_or_rejected_credentials(status: int, study: Sweep, template_db: Path) -> None:
    """What answers is not MLflow, or does not know us. Everything then goes to the home's own store."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        study.run(f"http://me:tops3cret@127.0.0.1:{refusing.server_address[1]}/{status}")
        refusing.shutdown()
    shutil.copy(template_db, study.home / "mlflow.db")
    own = f"sqlite:///{study.home}/mlflow.db"
    study.sync("")
    study.check(own)
    held = [
        path for path in (study.home / "studies").rglob("*") if path.is_file() and b"tops3cret" in path.read_bytes()
    ]
    assert held == [], "the password of a server has no place in a record"
