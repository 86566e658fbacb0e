"""Faults, each followed by a plain `run` and the one checker: nothing lost, nothing done twice, the same results.

What Ray has no part in is tested without it, so that a kill costs seconds; `test_faults_ray.py` has the rest.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from checker import Results, check, check_nothing_left, results
from faulty import SPEC, begin, command, environment, sweep

from sweeper.errors import UserError
from sweeper.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = 20


@pytest.fixture
def study_home(tmp_path: Path, template_db: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPEC)
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    return home


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Results:
    """What the study finds when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "home").mkdir()
    shutil.copy(template_db, folder / "home" / "mlflow.db")
    assert sweep(folder / "home", "run").returncode == 0
    return check(folder / "home")


def started(home: Path) -> bool:
    return (home / "studies" / "scripted" / "ledger.journal").exists()


def finish(home: Path, unbroken: Results | None, **expected: tuple[str, ...]) -> str:
    """Run the study to its end and check it; returns what the run said."""
    before = results(home) if started(home) else None
    result = sweep(home, "run")
    assert result.returncode == 0, result.stderr
    check(home, before=before, unbroken=unbroken, **expected)
    return result.stderr


def test_the_driver_is_killed_at_random_moments(study_home: Path, unbroken: Results) -> None:
    draw = random.Random(0)
    before: Results = {}
    for _ in range(KILLS):
        process = begin(study_home)
        time.sleep(draw.uniform(0.5, 6.0))
        os.killpg(process.pid, signal.SIGKILL)  # the whole process group
        process.communicate()
        if started(study_home):
            try:
                now = results(study_home)
            except UserError:  # killed before the study was made: nothing to read, nothing lost
                now = {}
            for trial_id, trial in before.items():
                assert trial["state"] == "RUNNING" or now[trial_id] == trial
            before = now
    finish(study_home, unbroken)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_driver_is_killed_around_each_write_to_the_ledger(moment: str, study_home: Path, unbroken: Results) -> None:
    """Each run gets a few writes further than the one before; over all, every kind of write is hit."""
    for number in (1, 2, 3, 5, 6, 7, 9, 12, 15):
        process = begin(study_home, KILL_WRITE=f"{number}:{moment}")
        process.communicate(timeout=200)
        assert process.returncode in (-signal.SIGKILL, 0)
    finish(study_home, unbroken)


def test_a_full_disk_ends_the_run_honestly_and_loses_nothing(study_home: Path, unbroken: Results) -> None:
    full = sweep(study_home, "run", FULL_AFTER="30")
    assert full.returncode == 2
    assert "error: cannot write: No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    check_nothing_left(study_home)
    finish(study_home, unbroken)


@pytest.mark.parametrize("kept", [1, 20])
def test_the_ledgers_last_line_is_cut(kept: int, study_home: Path, unbroken: Results) -> None:
    process = begin(study_home, KILL_WRITE="40:after")
    process.communicate(timeout=200)
    journal = study_home / "studies" / "scripted" / "ledger.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
    finish(study_home, unbroken)


@pytest.mark.parametrize("how", ["zero bytes", "truncated", "one bit flipped"])
def test_a_checkpoint_is_damaged_while_nobody_runs_the_study(how: str, study_home: Path, unbroken: Results) -> None:
    process = begin(study_home, "--set", "base.sleep_s=0.2")
    while not (reached := reports_of_the_running_trial(study_home)) or reached[1] < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    trial_id, _ = reports_of_the_running_trial(study_home) or ("", 0)
    ledger = Ledger(study_home / "studies" / "scripted", "scripted")
    damaged = ledger.trial(trial_id).reports[-1].checkpoint
    assert damaged is not None
    weights = study_home / "studies" / "scripted" / damaged / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes({"zero bytes": b"", "truncated": data[:-3], "one bit flipped": data}[how])
    result = sweep(study_home, "run", "--set", "base.sleep_s=0.2")
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert f"{trial_id}: the checkpoint {damaged} is damaged" in said
    check(study_home, unbroken=unbroken, damaged=(damaged,))


def reports_of_the_running_trial(home: Path) -> tuple[str, int] | None:
    """ID of the candidate that runs, and its evaluations so far."""
    if not started(home):
        return None
    try:
        trials = Ledger(home / "studies" / "scripted", "scripted").trials()
    except UserError:  # half of the study is made
        return None
    running = [(trial.id, len(trial.reports)) for trial in trials if trial.state == "RUNNING"]
    return running[0] if running else None


def test_a_second_driver_is_refused_and_the_first_is_not_disturbed(study_home: Path, unbroken: Results) -> None:
    process = begin(study_home, "--set", "base.sleep_s=0.5")
    while not started(study_home):
        time.sleep(0.05)
    second = sweep(study_home, "run", "--set", "base.sleep_s=0.5")
    assert second.returncode == 2
    assert f"is being run by another driver (pid {process.pid} on " in second.stderr
    assert process.wait(240) == 0
    check(study_home, unbroken=unbroken)


def test_a_home_that_cannot_be_written_is_named(study_home: Path) -> None:
    read_only = study_home / "read_only"
    read_only.mkdir(mode=0o500)
    home = Path("/sys/kernel") if os.geteuid() == 0 else read_only  # root may write where it may not
    arguments = command(home, "run", str(study_home.parent / "spec.yaml"))
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment())
    assert result.returncode == 2
    assert "cannot write in the study home" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_data_go_away_in_mid_sweep(study_home: Path) -> None:
    data = study_home.parent / "data"
    data.write_bytes(b"12345")
    spec = ("--set", f"base.data_file={data}", "--set", "base.sleep_s=0.2")
    process = begin(study_home, *spec)
    while not (reached := reports_of_the_running_trial(study_home)) or reached[1] < 1:
        assert process.poll() is None
        time.sleep(0.05)
    data.unlink()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    broken = check(study_home)
    failed = {trial_id for trial_id, trial in broken.items() if trial["state"] == "FAILED"}
    assert failed
    assert all("No such file" in broken[trial_id]["reason"] for trial_id in failed)

    data.write_bytes(b"12345")
    assert sweep(study_home, "retry", "scripted", "--failed").returncode == 0
    check(study_home, before=broken)


@pytest.mark.parametrize(
    ("setting", "code", "state", "reason"),
    [
        ("base.nan_at=2", 0, "COLLAPSED", "train/loss is nan at epoch 2"),
        ("base.out_of_memory_at=2", 1, "FAILED", "MemoryError"),
        ("base.crash_at=2", 1, "FAILED", "RuntimeError: the script says crash at epoch 2"),
    ],
)
def test_a_trial_that_cannot_go_on_ends_with_its_reason(
    setting: str, code: int, state: str, reason: str, study_home: Path
) -> None:
    result = sweep(study_home, "run", "--set", setting, "--trials", "1", "--set", "controls=[]")
    assert result.returncode == code, result.stderr
    [trial] = check(study_home).values()
    assert trial["state"] == state
    assert reason in trial["reason"]
