"""Faults of Ray's processes, each followed by a plain `run` and the checker. Lost workers: `test_run.py`."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from checker import check, results
from faulty import SPEC, begin, sweep

from sweeper.maintenance.machine import left_over

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPEC_RAY = SPEC.replace("epochs: 4", "epochs: 6, sleep_s: 0.5").replace("trials: 4", "trials: 2\ncontrols: []")


@pytest.fixture
def study_home(tmp_path: Path, template_db: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPEC_RAY)
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    return home


def below(process: psutil.Process, name: str) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if name in " ".join(child.cmdline())]


def kill_group(driver: psutil.Process) -> None:
    os.killpg(driver.pid, signal.SIGKILL)


def kill_raylet(driver: psutil.Process) -> None:
    for raylet in below(driver, "raylet/raylet"):
        raylet.kill()


def kill_driver(driver: psutil.Process) -> None:
    driver.kill()


@pytest.mark.parametrize("kill", [kill_group, kill_driver, kill_raylet])
def test_the_study_continues_after_ray_the_driver_or_both_are_killed(
    kill: Callable[[psutil.Process], None], study_home: Path
) -> None:
    process = begin(study_home, ray=True)
    journal = study_home / "studies" / "scripted" / "ledger.journal"
    while not (journal.exists() and '"report:00002"' in journal.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    driver = psutil.Process(process.pid)
    family = [driver, *driver.children(recursive=True)]
    kill(driver)
    if kill is kill_driver:
        process.wait()
        named = left_over(study_home)  # `sweeper doctor` and the next run name them
        alive = [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        assert {one.pid for one in alive} <= {*named}, [one.cmdline() for one in alive]
    output, errors = process.communicate(timeout=300)
    assert "ray" not in output.replace(str(study_home), "").lower()
    _, alive = psutil.wait_procs(
        family, timeout=150
    )  # Ray's agent looks for its raylet for 25 s, then for its GCS for 30
    assert not alive, [one.cmdline() for one in alive if one.is_running()]
    before = results(study_home)
    done = len(before) == 2 and all(trial["state"] in ("COMPLETE", "PRUNED") for trial in before.values())
    assert (process.returncode == 0) == done, errors  # workers that are already running can do without a raylet
    assert "Traceback" not in errors

    result = sweep(study_home, "run", ray=True)
    assert result.returncode == 0, result.stderr
    check(study_home, before=before)
