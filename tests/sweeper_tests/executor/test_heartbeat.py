import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
from studies import Clock

from sweeper.executor.heartbeat import Heartbeat
from sweeper.executor.processes import cpu_seconds, kill

BUSY = "import time\nwhile True: pass"
BUSY_CHILD = f"import subprocess\nsubprocess.run([{sys.executable!r}, '-c', 'while True: pass'])"
IDLE = "import time\ntime.sleep(600)"


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[bytes]"]:
    """A process named as Ray names its workers."""
    process = subprocess.Popen(["ray::TrialWorker", "-c", request.param], executable=sys.executable)
    yield process
    process.kill()
    process.wait()


def watch(heartbeat: Heartbeat, clock: Clock, pid: int, looks: int, *, computes: bool = False) -> bool:
    """Look three times per real second, which the clock counts as six; later if a computing worker is given no core."""
    lost = False
    for _ in range(looks):
        used_s = cpu_seconds([pid])[pid]
        lost = heartbeat.is_lost("toy-0000", used_s)
        until_s = time.monotonic() + 10
        time.sleep(0.3)
        while computes and cpu_seconds([pid])[pid] < used_s + 0.1 and time.monotonic() < until_s:
            time.sleep(0.05)
        clock.now_s += 2.1
    return lost


@pytest.mark.parametrize("worker", [BUSY], indirect=True)
def test_a_worker_that_computes_is_alive_without_a_report(worker: "subprocess.Popen[bytes]") -> None:
    clock = Clock()
    assert not watch(Heartbeat(4.0, clock), clock, worker.pid, looks=6, computes=True)
    os.kill(worker.pid, signal.SIGSTOP)
    assert watch(Heartbeat(4.0, clock), clock, worker.pid, looks=6), "stopped, it is not"
    kill(worker.pid)
    assert worker.wait(240) == -signal.SIGKILL


@pytest.mark.parametrize("worker", [BUSY_CHILD], indirect=True)
def test_a_worker_whose_children_compute_is_alive(worker: "subprocess.Popen[bytes]") -> None:
    clock = Clock()
    [child] = wait_for_children(worker.pid)
    try:
        assert not watch(Heartbeat(4.0, clock), clock, worker.pid, looks=6, computes=True)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("worker", [IDLE], indirect=True)
def test_a_worker_that_waits_for_ever_is_lost_unless_it_reports(worker: "subprocess.Popen[bytes]") -> None:
    clock = Clock()
    heartbeat = Heartbeat(6.0, clock)
    assert not watch(heartbeat, clock, worker.pid, looks=3)
    heartbeat.beat("toy-0000")
    assert not watch(heartbeat, clock, worker.pid, looks=3)
    assert watch(heartbeat, clock, worker.pid, looks=3)


def wait_for_children(pid: int) -> list[int]:
    while not (children := psutil.Process(pid).children()):
        time.sleep(0.05)
    return [child.pid for child in children]


def test_a_driver_that_was_held_up_does_not_blame_a_worker_waiting_for_it() -> None:
    clock = Clock()
    heartbeat = Heartbeat(60.0, clock)
    assert not heartbeat.is_lost("toy-0000", cpu_s=1.0)
    clock.now_s += 600.0
    assert not heartbeat.is_lost("toy-0000", cpu_s=1.0)
    clock.now_s += 31.0
    assert heartbeat.is_lost("toy-0000", cpu_s=1.0), "it had its time"


def test_a_process_that_reuses_the_pid_of_a_worker_is_left_alone() -> None:
    kill(os.getpid())  # this is pytest
    assert cpu_seconds([os.getpid(), 2**22 + 1]).keys() == {os.getpid()}, "no process has the other number"
