"""Faults of trainers, data and clocks, each followed by the checker."""

import signal
import time

import pytest
from checker import check
from faulty import SPEC, FreshHome, journal_bytes, wait_until
from forked import Driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("setting", "code", "state", "reason"),
    [
        ("base.nan_at=2", 0, "COLLAPSED", "train/loss is nan at epoch 2"),
        ("base.out_of_memory_at=2", 1, "FAILED", "out of memory: MemoryError; use smaller batches"),
        ("base.crash_at=2", 1, "FAILED", "RuntimeError: the script says crash at epoch 2"),
    ],
)
def test_a_trial_that_cannot_continue_ends_with_its_reason(
    setting: str, code: int, state: str, reason: str, fresh_home: FreshHome
) -> None:
    home = fresh_home(SPEC)
    changes = ("--set", setting, "--trials", "1", "--set", "controls=[]")
    ended, said = Driver(home, "run", *changes).end()
    assert ended == code, said
    assert "Traceback" not in said
    [trial] = check(home).values()
    assert trial["state"] == state
    assert reason in trial["reason"]
    assert len(trial["curve"]) == (2 if state == "COLLAPSED" else 1)


def test_trials_whose_data_disappear_in_mid_sweep_fail_and_can_be_retried(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    data = home.parent / "data"
    data.write_bytes(b"12345")
    changes = ("--set", f"base.data_file={data}", "--set", "base.sleep_s=0.1", "--set", "controls=[]")
    driver = Driver(home, "run", *changes)
    journal = home / "studies" / "scripted" / "ledger.journal"
    wait_until(lambda: (journal_bytes(home) > 0 and '"report:00001"' in journal.read_text()) or not driver.is_running)
    data.unlink()
    code, said = driver.end()
    assert code == 1, said
    assert "Traceback" not in said
    broken = check(home)
    failed = [trial for trial in broken.values() if trial["state"] == "FAILED"]
    assert failed
    assert all("No such file" in trial["reason"] for trial in failed)

    data.write_bytes(b"12345")
    code, said = Driver(home, "retry", "scripted", "--failed").end()
    assert code == 0, said
    check(home, before=broken)


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_a_jump_of_the_clock_affects_no_budget(jump_s: float, fresh_home: FreshHome) -> None:
    budget = ("--set", "budget={wall_clock_s: 60, cpu_seconds: 60}", "--set", "base.sleep_s=0.02")
    straight, jumpy = fresh_home(SPEC), fresh_home(SPEC)
    assert Driver(straight, "run", *budget).end()[0] == 0
    code, said = Driver(jumpy, "run", *budget, CLOCK_JUMP=f"30:{jump_s}").end()
    assert code == 0, said
    assert "budget" not in said
    check(jumpy, unbroken=check(straight))


def test_a_study_is_unaffected_when_the_clock_jumps_back_between_two_runs(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    began_s = time.monotonic()
    killed, said = Driver(home, "run", KILL_WRITE="40:after").end()
    assert killed == -signal.SIGKILL, said
    code, said = Driver(home, "run", CLOCK_JUMP="1:-86400").end()
    assert code == 0, said
    straight = fresh_home(SPEC)
    assert Driver(straight, "run").end()[0] == 0
    check(home, unbroken=check(straight))
    assert time.monotonic() - began_s < 120
