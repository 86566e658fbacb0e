"""Scratch folders of drivers that run, ended, and were killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.executor.worker.scratch import of_killed_drivers, processes_of_killed_drivers, scratch_folder

HOLD = """
import os, sys
from sweeper.executor.worker.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "ray").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose name is short enough for Ray's sockets."""
    short = Path(f"/tmp/scratch-{os.getpid()}")
    short.symlink_to(tmp_path)
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    yield short
    short.unlink()


def test_a_killed_drivers_folder_goes_with_the_next_run_and_a_living_ones_stays(parent: Path) -> None:
    drivers = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = [Path(driver.stdout.readline().strip()) for driver in drivers]  # type: ignore[union-attr]
    assert all((folder / "ray").is_dir() and folder.parent == parent for folder in folders)
    assert of_killed_drivers() == []
    drivers[0].send_signal(signal.SIGKILL)
    drivers[0].wait()
    assert of_killed_drivers() == [folders[0]]
    with scratch_folder() as ours:
        assert os.environ["RAY_TMPDIR"] == str(ours)
        assert set(parent.iterdir()) == {folders[1], ours}
    drivers[1].communicate("")
    assert drivers[1].returncode == 0
    assert list(parent.iterdir()) == []
    assert os.environ["RAY_TMPDIR"] == str(parent)


def test_a_long_path_is_not_taken(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"{parent}/{'x' * 40}")
    with scratch_folder() as folder:
        assert folder.parent == Path("/tmp")
    assert not folder.exists()


WRITES = """
import subprocess, sys
from sweeper.executor.worker.scratch import scratch_folder
with scratch_folder() as folder:
    with (folder / "log").open("w") as log:
        print(subprocess.Popen(["ray::Agent", "60"], executable="sleep", stdout=log).pid, flush=True)
    sys.stdin.read()
"""


def test_what_writes_into_a_killed_drivers_folder_is_found_also_when_that_is_gone() -> None:
    """As Ray's agents do, which outlive the driver and cannot be told by their environment."""
    pipe = subprocess.PIPE
    drivers = [subprocess.Popen([sys.executable, "-c", WRITES], stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    killed, living = (int(driver.stdout.readline()) for driver in drivers)  # type: ignore[union-attr]
    try:
        assert processes_of_killed_drivers() == set()
        drivers[0].kill()
        drivers[0].wait()
        assert processes_of_killed_drivers() == {killed}
        with scratch_folder():
            pass  # the next run has removed the folder
        assert processes_of_killed_drivers() == {killed}
    finally:
        for pid in (killed, living):
            os.kill(pid, signal.SIGKILL)
        drivers[1].communicate("")
    assert processes_of_killed_drivers() == set()


def test_a_driver_that_keeps_a_file_of_its_removed_folder_open_is_not_taken_for_one() -> None:
    """As Ray does in the driver's process until that ends: `doctor --fix` beside it would have ended it."""
    with scratch_folder() as folder:
        log = (folder / "log").open("w")
    with log:
        assert processes_of_killed_drivers() == set()
