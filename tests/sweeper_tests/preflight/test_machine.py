"""What the machine must have."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mano_trainers.report import CheckResult, CheckStatus
from sweeper.entrypoint.call import mean_run_bytes
from sweeper.executor import monitor as workers
from sweeper.executor.monitor import this_machine
from sweeper.preflight.machine import check_machine
from sweeper.spec.load import parse_spec

SPEC = """
name: toy
trainer: scripted_trainer:train
search_space: {scale: {low: 0.5, high: 10.0}}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 10
"""


def check(home: Path, *overrides: str, run_bytes: int | None = 1000) -> dict[str, CheckResult]:
    spec = parse_spec(SPEC, Path("spec.yaml"), overrides)
    return {result.name: result for result in check_machine(spec, home, run_bytes, [this_machine()])}


def test_a_machine_with_room_passes(tmp_path: Path) -> None:
    found = check(tmp_path / "new" / "home", "resources.concurrent=1")
    assert {result.status for result in found.values()} == {CheckStatus.PASS}
    assert (tmp_path / "new" / "home").is_dir()
    assert "0.0 GB for the checkpoints of 10 full trials" in found["machine.disk"].expected


@pytest.mark.parametrize(
    ("there", "asked", "status"),
    [(0, "1", "FAIL"), (1, "2", "FAIL"), (1, "1", "WARN"), (2, "1", "PASS"), (1, "0.5", "PASS"), (0, "0", "PASS")],
)
def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int, asked: str, status: str) -> None:
    monkeypatch.setattr(workers, "visible_gpus", lambda: there)
    found = check(tmp_path, f"resources.gpus={asked}", "resources.concurrent=2")
    assert found["machine.gpu"].status == status


def test_missing_gpus_are_reported_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "visible_gpus", lambda: 0)
    found = check(tmp_path, "resources.gpus=1", "resources.concurrent=1")["machine.gpu"]
    assert (found.measured, found.expected) == ("0 GPUs, 1 requested per trial", "those asked for")
    assert found.help == (
        "set resources.gpus to what there is, or start it where the GPUs are; is the driver loaded (nvidia-smi)?"
    )


def test_lanes_need_one_gpu_and_one_set_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "visible_gpus", lambda: 1)
    found = check(tmp_path, "resources.gpus=1", "resources.concurrent=8", "resources.lanes=8")
    assert (found["machine.gpu"].status, found["machine.cpus"].status) == (CheckStatus.PASS, CheckStatus.PASS)
    assert found["machine.gpu"].measured == "1 GPUs, 1 requested per 8 trials"
    assert found["machine.cpus"].measured == "1 cores for 8 trials at once"


def test_more_trials_than_cores(tmp_path: Path) -> None:
    assert check(tmp_path, "resources.concurrent=4096")["machine.cpus"].status is CheckStatus.WARN


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = check(tmp_path / "file" / "home")["machine.write"]
    assert found.status is CheckStatus.FAIL
    assert str(tmp_path / "file" / "home") in found.measured


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    assert check(tmp_path, run_bytes=10**15)["machine.disk"].status is CheckStatus.FAIL


def test_checkpoints_that_are_not_retained_take_space_only_once(tmp_path: Path) -> None:
    all_of_them = check(tmp_path, run_bytes=10**9)["machine.disk"].expected
    best = check(tmp_path, "retention=best", run_bytes=10**9)["machine.disk"].expected
    assert (all_of_them.split(" GB")[0], best.split(" GB")[0]) == ("20.0", "10.0")


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    serving = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_a_tracking_server(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert check(tmp_path)["machine.tracking"].status is CheckStatus.PASS
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    found = check(tmp_path)["machine.tracking"]
    assert found.status is CheckStatus.WARN
    assert "secret" not in found.measured


def test_disk_space_is_estimated_from_all_variants_and_not_from_the_base_alone() -> None:
    base = {"epochs": 4, "curve_mm": [1.0]}
    assert mean_run_bytes("checked_trainer:train", [base, base | {"epochs": 8}]) == 6000
    assert mean_run_bytes("scripted_trainer:train", [base]) is None
