"""Drivers that are killed, each followed by a plain `run` and the one checker: nothing lost, nothing done twice.

Whatever does not involve Ray is tested without it, so that a kill costs tenths of a second; `test_ray.py` has the
rest, and `test_disk.py` and `test_trainer.py` have the faults of disks and trainers.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checker import Results, check, results
from faulty import SHORT, SPEC, FreshHome, journal_bytes, wait_until
from forked import Driver

from sweeper.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STRIPES = 4
"""Parts of the matrix of kills: each kills at every fourth write."""
KILLS = 20
"""How often the driver is killed at a random moment."""


def finish(home: Path, unbroken: Results) -> None:
    """Run the study to its end, and check it."""
    code, said = Driver(home, "run").end()
    assert code == 0, said
    check(home, unbroken=unbroken)


@pytest.fixture(scope="module")
def unbroken(fresh_home: FreshHome) -> Results:
    """What the study finds when nothing goes wrong."""
    home = fresh_home(SPEC)
    assert Driver(home, "run").end()[0] == 0
    return check(home)


def test_the_driver_is_killed_at_random_moments(fresh_home: FreshHome, unbroken: Results) -> None:
    draw = random.Random(0)
    home = fresh_home(SPEC)
    before: Results = {}
    for _ in range(KILLS):
        driver = Driver(home, "run")
        enough = journal_bytes(home) + draw.randrange(6000)  # a run starts with 1000 to 2000, a study has 30000
        wait_until(lambda driver=driver, enough=enough: not driver.is_running or journal_bytes(home) >= enough)
        time.sleep(draw.uniform(0.0, 0.05))
        driver.kill()
        try:
            now = results(home)
        except UserError:  # killed before the study was made: nothing to read, nothing lost
            now = {}
        assert {trial_id: now[trial_id] for trial_id, trial in before.items() if trial["state"] != "RUNNING"} == {
            trial_id: trial for trial_id, trial in before.items() if trial["state"] != "RUNNING"
        }
        before = now
    finish(home, unbroken)


def test_the_driver_is_killed_when_all_is_in_the_ledger_and_little_in_mlflow(
    fresh_home: FreshHome, unbroken: Results
) -> None:
    home = fresh_home(SPEC)
    driver = Driver(home, "run", MLFLOW_DOWN="1")
    outbox = home / "studies" / "scripted" / "outbox.jsonl"
    wait_until(lambda: outbox.exists() and '"sweeper.winner"' in outbox.read_text())
    driver.kill()
    finish(home, unbroken)
    assert "is complete" in Driver(home, "run").end()[1]


@pytest.mark.parametrize("first", range(1, STRIPES + 1))
def test_the_driver_is_killed_before_and_after_every_write_to_the_ledger(fresh_home: FreshHome, first: int) -> None:
    home = fresh_home(SHORT)
    assert Driver(home, "run").end()[0] == 0
    unbroken = check(home)
    assert {trial["state"] for trial in unbroken.values()} == {"COMPLETE", "PRUNED", "COLLAPSED"}
    number, code = first, -signal.SIGKILL
    while code != 0:
        home = fresh_home(SHORT)
        code, said = Driver(home, "run", KILL_WRITE=f"{number}:before").end()
        assert code in (0, -signal.SIGKILL), said
        again, said = Driver(home, "run", KILL_WRITE=f"{number}:after").end()
        assert again in (0, -signal.SIGKILL), said
        finish(home, unbroken)
        number += STRIPES
    assert number > 20


def test_the_next_run_names_the_processes_that_a_killed_driver_left(fresh_home: FreshHome) -> None:
    home = fresh_home(SHORT)
    sleeper = [sys.executable, "-c", "import time; time.sleep(120)"]
    driver = f"import subprocess; print(subprocess.Popen({sleeper}, stdout=subprocess.DEVNULL).pid)"
    environment = os.environ | {"TRAINERS_CACHE_DIR": str(home / "data")}
    command, pipe = [sys.executable, "-c", driver], subprocess.PIPE
    done = subprocess.run(command, env=environment, stdout=pipe, text=True, check=True)
    try:
        code, said = Driver(home, "run").end()
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)
    assert code == 0, said
    pids = re.search(r"processes of a dead driver are still running: pids ([\d, ]+);", " ".join(said.split()))
    assert pids is not None, said
    assert done.stdout.strip() in pids[1].split(", ")
    check(home)


def test_a_second_driver_is_refused_and_the_first_is_not_disturbed(fresh_home: FreshHome, unbroken: Results) -> None:
    home = fresh_home(SPEC)
    first = Driver(home, "run", "--set", "base.sleep_s=0.1")
    wait_until(lambda: journal_bytes(home) > 0)
    os.kill(first.pid, signal.SIGSTOP)
    code, said = Driver(home, "run", "--set", "base.sleep_s=0.1").end()
    os.kill(first.pid, signal.SIGCONT)
    assert code == 2
    assert f"is being run by another driver (pid {first.pid} on " in " ".join(said.split())
    assert first.end()[0] == 0
    check(home, unbroken=unbroken)
