"""Faults of disks and files, each followed by a plain `run` and the checker."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checker import Results, check, check_nothing_left, results
from faulty import SPEC, FreshHome, journal_bytes, wait_until
from forked import Driver

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL_DISK_KIB = 1400
"""Holds the empty MLflow database, and the beginning of a study."""


@pytest.fixture(scope="module")
def unbroken(fresh_home: FreshHome) -> Results:
    home = fresh_home(SPEC)
    assert Driver(home, "run").end()[0] == 0
    return check(home)


def finish(home: Path, unbroken: Results, damaged: tuple[str, ...] = ()) -> str:
    before = results(home)
    code, said = Driver(home, "run").end()
    assert code == 0, said
    check(home, before=before, unbroken=unbroken, damaged=damaged)
    return said


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


@pytest.fixture
def small_disk(fresh_home: FreshHome) -> Iterator[Path]:
    """A study home on a disk of its own that is too small for the study; where none can be mounted, a normal home."""
    home = fresh_home(SPEC)
    database = (home / "mlflow.db").read_bytes()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_KIB}k", "tmpfs", str(home)], capture_output=True
    )
    (home / "mlflow.db").write_bytes(database)
    yield home
    if mounted.returncode == 0:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_a_full_disk_ends_the_run_honestly_and_loses_nothing(small_disk: Path, unbroken: Results) -> None:
    if os.path.ismount(small_disk):
        ballast = small_disk / "ballast"
        free = os.statvfs(small_disk)
        ballast.write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - 100_000))
        driver = Driver(small_disk, "run")
    else:  # the kernel refuses to let a file grow, as on a full disk but with another error
        driver = Driver(small_disk, "run", before=limit_files)
    code, said = driver.end()
    assert code == 2, said
    assert "error: cannot write: " in said
    assert "Traceback" not in said
    check_nothing_left(small_disk)
    if os.path.ismount(small_disk):
        subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    finish(small_disk, unbroken)


@pytest.mark.parametrize("kept", [1, 20])
def test_a_run_recovers_when_the_ledgers_last_line_is_cut_off(
    kept: int, fresh_home: FreshHome, unbroken: Results
) -> None:
    home = fresh_home(SPEC)
    assert Driver(home, "run", KILL_WRITE="40:after").end()[0] == -signal.SIGKILL
    journal = home / "studies" / "scripted" / "ledger.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
    finish(home, unbroken)


@pytest.mark.parametrize("how", ["zero bytes", "truncated", "one bit flipped"])
def test_a_checkpoint_damaged_between_two_runs_is_named_and_passed_over(
    how: str, fresh_home: FreshHome, unbroken: Results
) -> None:
    home = fresh_home(SPEC)
    driver = Driver(home, "run", "--set", "base.sleep_s=0.1")
    wait_until(lambda: len(reports_of_the_running_trial(home)) >= 2 or not driver.is_running)
    driver.kill()
    trial_id, *_ = [trial_id for trial_id, trial in results(home).items() if trial["state"] == "RUNNING"]
    damaged = Ledger.open(home / "studies" / "scripted", "scripted").trial(trial_id).reports[-1].checkpoint
    assert damaged is not None
    weights = home / "studies" / "scripted" / damaged / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes({"zero bytes": b"", "truncated": data[:-3], "one bit flipped": data}[how])
    code, said = Driver(home, "run", "--set", "base.sleep_s=0.1").end()
    assert code == 0, said
    assert f"{trial_id}: the checkpoint {damaged} is damaged" in " ".join(said.split())
    check(home, unbroken=unbroken, damaged=(damaged,))


def reports_of_the_running_trial(home: Path) -> list[object]:
    """The evaluations so far of the candidate that is running."""
    try:
        trials = Ledger.open(home / "studies" / "scripted", "scripted").trials()
    except UserError:  # the study is only half created
        return []
    return [report for trial in trials if trial.state == "RUNNING" for report in trial.reports]


def test_a_home_that_cannot_be_written_is_named(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    if os.geteuid() == 0:  # permissions do not stop root, so use a disk that nobody can write to
        subprocess.run(["mount", "--bind", str(home), str(home)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(home)], check=True)
    else:
        home.chmod(0o500)
    try:
        code, said = Driver(home, "run").end()
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "--lazy", str(home)], check=True)
    assert code == 2
    assert "cannot write in the study home" in said
    assert "Traceback" not in said
    assert journal_bytes(home) == 0
