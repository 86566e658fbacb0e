"""The verbs that stop and continue a study, with real processes and signals; trials run one at a time, without Ray."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from checker import Results, check, results
from faulty import SPEC, begin, command, environment, sweep, wait_until
from forked import Command
from mlflow_helpers import uri_of
from places import TESTS

from sweeper.ledger.ledger import Ledger
from sweeper.tracking.store.client import open_client

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Results:
    """What the study finds when nothing interrupts it."""
    home = make_home(tmp_path_factory.mktemp("unbroken"), template_db)
    result = sweep(home, "run")
    assert result.returncode == 0, result.stderr
    return check(home)


def make_home(folder: Path, template_db: Path) -> Path:
    (folder / "spec.yaml").write_text(SPEC)
    home = folder / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    return home


@pytest.fixture
def study_home(tmp_path: Path, template_db: Path) -> Path:
    return make_home(tmp_path, template_db)


def wait_for(home: Path, text: str) -> None:
    journal = home / "studies" / "scripted" / "ledger.journal"
    deadline_s = time.monotonic() + 120
    while not (journal.exists() and text in journal.read_text()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def end(process: Command) -> tuple[int, str]:
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def test_after_ctrl_c_and_sigterm_resume_brings_a_study_to_the_same_result(study_home: Path, unbroken: Results) -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = begin(study_home, "--set", "base.sleep_s=0.2") if number == signal.SIGTERM else resume(study_home)
        wait_for(study_home, '"report:00001"' if number == signal.SIGTERM else '"report:00003"')
        process.send_signal(number)
        returncode, errors = end(process)
        assert returncode == code, errors
        assert f"`sweeper resume scripted --home {study_home}` continues it" in errors
    before = results(study_home)
    assert "RUNNING" in {trial["state"] for trial in before.values()}
    result = sweep(study_home, "resume", "scripted")
    assert result.returncode == 0, result.stderr
    check(study_home, before=before, unbroken=unbroken)


def resume(home: Path) -> Command:
    return Command(["resume", "scripted", "--home", str(home)], ray=False)


def test_a_second_ctrl_c_ends_the_run_at_once(study_home: Path) -> None:
    process = begin(study_home, "--set", "base.sleep_s=120")
    wait_for(study_home, '"control"')  # the first trial runs
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    returncode, _ = end(process)
    assert returncode == 130
    assert time.monotonic() - began_s < 100, "the trial would have taken 120 s to its next evaluation"


def test_pause_and_stop_from_another_terminal(study_home: Path) -> None:
    process = begin(study_home, "--set", "base.sleep_s=2")
    wait_for(study_home, '"report:00001"')
    standing = json.loads(sweep(study_home, "status", "scripted", "--json").stdout)
    assert standing["driver"].startswith(f"pid {process.pid} on ")
    paused = sweep(study_home, "pause", "scripted")
    assert paused.returncode == 0, paused.stderr
    assert end(process)[0] == 130
    assert sweep(study_home, "pause", "scripted").returncode == 2, "nobody runs it now"

    journal = study_home / "studies" / "scripted" / "ledger.journal"
    reports = journal.read_text().count('"report:')
    process = resume(study_home)
    wait_until(lambda: journal.read_text().count('"report:') > reports)
    assert sweep(study_home, "stop", "scripted").returncode == 0
    assert end(process)[0] == 0
    stopped = results(study_home)
    assert {trial["reason"] for trial in stopped.values() if trial["state"] == "STOPPED"} == {"stopped by the user"}
    check(study_home, before=stopped)
    again = sweep(study_home, "run", "--set", "base.sleep_s=2")
    assert f"was stopped; `sweeper resume scripted --home {study_home}` continues it" in again.stderr


def test_stop_settles_a_study_that_is_not_running(study_home: Path) -> None:
    process = begin(study_home, "--set", "base.sleep_s=0.3")
    wait_for(study_home, '"report:00001"')
    process.kill()
    process.communicate()
    assert "it was not running" in sweep(study_home, "stop", "scripted").stdout
    check(study_home)


def test_extend_adds_trials_and_retry_repeats_failed_ones(study_home: Path, unbroken: Results) -> None:
    broken = study_home.parent / "broken"
    broken.touch()
    spec = ("--set", f"base.crash_if={broken}", "--trials", "2", "--set", "controls=[shuffled_labels]")
    result = sweep(study_home, "run", *spec)
    assert result.returncode == 1, result.stderr
    assert {trial["state"] for trial in results(study_home).values()} == {"FAILED"}
    broken.unlink()
    result = sweep(study_home, "retry", "scripted", "--failed")
    assert result.returncode == 0, result.stderr
    assert "control shuffled labels FAILED" not in result.stdout
    fixed = check(study_home)
    assert fixed["scripted-shuffled_labels"]["state"] == "FAILED"
    assert fixed["scripted-shuffled_labels-2"] == unbroken["scripted-shuffled_labels"]
    for failed, again in (("scripted-0000", "scripted-0002"), ("scripted-0001", "scripted-0003")):
        assert fixed[failed]["state"] == "FAILED", "what was finished stays"
        assert fixed[again] == unbroken[failed]
    assert sweep(study_home, "retry", "scripted", "--failed").returncode == 2, "none is left"

    result = sweep(study_home, "extend", "scripted", "--trials", "1")
    assert result.returncode == 0, result.stderr
    assert len(check(study_home, before=fixed)) == len(fixed) + 1
    assert sweep(study_home, "run", *spec).returncode == 0, "the same spec is no drift"


def test_code_and_data_drift_is_refused_with_the_differences_or_recorded(
    study_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, data = study_home.parent / "own_trainer.py", study_home.parent / "data"
    trainer.write_text((TESTS / "scripted_trainer.py").read_text())
    data.write_bytes(b"1")
    monkeypatch.setenv("PYTHONPATH", str(study_home.parent))
    spec = ("--set", "trainer=own_trainer:train", "--set", f"base.data_file={data}", "--trials", "1")
    process = begin(study_home, *spec, "--set", "base.sleep_s=0.3")
    wait_for(study_home, '"report:00001"')
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 130

    spec = (*spec, "--set", "base.sleep_s=0.3")
    trainer.write_text(trainer.read_text() + "\n# another\n")
    refused = sweep(study_home, "run", *spec)
    assert refused.returncode == 2
    assert "was started with other code:\n  own_trainer.py has changed" in refused.stderr
    data.write_bytes(b"22")
    accepted = sweep(study_home, "run", *spec, "--accept-drift")
    assert accepted.returncode == 0, accepted.stderr
    drifts = Ledger.open(study_home / "studies" / "scripted", "scripted").attributes.drift
    assert [drift["differences"] for drift in drifts] == [["own_trainer.py has changed"], ["data has changed"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_while_ray_starts_ends_in_order(number: int, study_home: Path) -> None:
    spec = str(study_home.parent / "spec.yaml")
    arguments = command(study_home, "run", spec, "--skip-preflight", "a test", ray=True)
    said = study_home.parent / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen(arguments, stdout=file, stderr=file, env=environment(), start_new_session=True)
    wait_until(lambda: "starting Ray" in said.read_text())
    time.sleep(0.2)  # before it connects, for which Ray has a handler in C++
    process.send_signal(number)
    assert process.wait(240) == 128 + number, said.read_text()
    assert "interrupted: `sweeper resume scripted" in said.read_text()
    assert "Traceback" not in said.read_text()


def test_a_closed_terminal_ends_a_run_as_sigterm_does(tmp_path: Path, template_db: Path) -> None:
    """With Ray, whose processes get the hang-up too, and with nowhere left to print to."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    (tmp_path / "spec.yaml").write_text(CLOSED)
    arguments = command(home, "run", str(tmp_path / "spec.yaml"), "--skip-preflight", "a test", ray=True)
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        arguments, stdin=terminal, stdout=terminal, stderr=terminal, env=environment(), start_new_session=True
    )
    os.close(terminal)
    threading.Thread(target=_drain, args=(controller,), daemon=True).start()
    wait_for(home, '"report:00003"')
    process.send_signal(signal.SIGHUP)
    os.close(controller)
    assert process.wait(240) == 128 + signal.SIGHUP
    client = open_client(uri_of(home))
    runs = client.search_runs([client.get_experiment_by_name("scripted").experiment_id])
    assert {run.info.status for run in runs} == {"KILLED"}, "each is told as interrupted"


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


CLOSED = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 40, sleep_s: 0.3}
search_space:
  scale: {low: 0.5, high: 1.0}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 1
controls: []
sampler: {name: random}
scheduler: {name: none}
"""
