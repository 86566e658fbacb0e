import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_meter import Clock

from sweeper.heartbeat import Heartbeat, cpu_seconds, kill_worker, worker_pid, write_pid

BUSY = "import time\nwhile True: pass"
IDLE = "import time\ntime.sleep(600)"


@pytest.fixture
def worker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[bytes]"]:
    """A process named as Ray names its workers."""
    process = subprocess.Popen(["ray::TrialWorker", "-c", request.param], executable=sys.executable)
    (tmp_path / "worker.pid").write_text(str(process.pid))
    while worker_pid(tmp_path) is None:
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def watch(heartbeat: Heartbeat, clock: Clock, workdir: Path, looks: int) -> bool:
    """Look once a real second, which the clock takes for ten."""
    lost = False
    for _ in range(looks):
        lost = heartbeat.is_lost("toy-0000", workdir)
        time.sleep(0.3)
        clock.now_s += 1.1
    return lost


@pytest.mark.parametrize("worker", [BUSY], indirect=True)
def test_a_worker_that_computes_is_alive_without_a_report(worker: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    clock = Clock()
    assert not watch(Heartbeat(2.0, clock), clock, tmp_path, looks=6)
    os.kill(worker.pid, signal.SIGSTOP)
    assert watch(Heartbeat(2.0, clock), clock, tmp_path, looks=6), "stopped, it is not"
    kill_worker(tmp_path)
    assert worker.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("worker", [IDLE], indirect=True)
def test_a_worker_that_waits_for_ever_is_lost_unless_it_reports(
    worker: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    clock = Clock()
    heartbeat = Heartbeat(3.0, clock)
    assert not watch(heartbeat, clock, tmp_path, looks=3)
    heartbeat.beat("toy-0000")
    assert not watch(heartbeat, clock, tmp_path, looks=3)
    assert watch(heartbeat, clock, tmp_path, looks=3)


@pytest.mark.parametrize("worker", [IDLE], indirect=True)
def test_a_driver_that_was_held_up_does_not_blame_a_worker_that_waits_for_it(
    worker: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    clock = Clock()
    heartbeat = Heartbeat(60.0, clock)
    assert not heartbeat.is_lost("toy-0000", tmp_path)
    clock.now_s += 600.0
    assert not heartbeat.is_lost("toy-0000", tmp_path)
    clock.now_s += 31.0
    assert heartbeat.is_lost("toy-0000", tmp_path), "it had its time"


def test_a_process_that_got_the_number_of_a_worker_since_is_left_alone(tmp_path: Path) -> None:
    write_pid(tmp_path)
    assert worker_pid(tmp_path) is None, "this is pytest"
    kill_worker(tmp_path)
    assert cpu_seconds(os.getpid()) > 0
    assert cpu_seconds(None) == 0
