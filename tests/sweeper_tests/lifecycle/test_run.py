"""Whole studies through the command line: real Ray, Optuna, MLflow and files, with a trainer that follows a script."""

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from checker import check
from faulty import begin
from scripted_trainer import ScriptedConfig, train
from sweeps import command, environment, mlflow_runs, run, show

pytestmark = pytest.mark.slow

CURVE_MM = [20.0, 15.0, 12.0, 10.0, 9.0, 8.5, 8.2, 8.0]
SPEC = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 8, curve_mm: [20.0, 15.0, 12.0, 10.0, 9.0, 8.5, 8.2, 8.0], collapse_above: 3.0}
search_space:
  scale: {low: 0.5, high: 10.0, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 8
controls: []
scheduler: {name: asha, grace_epochs: 4, eta: 2}
guards:
  - {name: collapse, kind: collapse, after_epochs: 1, for_evaluations: 2, var_ratio_below: 0.02, r2_below: 0.02}
"""


def check_mlflow_mirrors(home: Path, study: dict[str, Any]) -> None:
    """Every trial is one child run with the same ID, with every evaluation and checkpoint, and none is left RUNNING."""
    runs = mlflow_runs(home)
    assert all(run.info.status != "RUNNING" for run in runs)
    children = {run.data.tags["sweeper.trial_id"]: run for run in runs if "sweeper.trial_id" in run.data.tags}
    assert set(children) == {trial["id"] for trial in study["trials"]}
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    for trial in study["trials"]:
        child = children[trial["id"]]
        assert child.info.run_id == trial["mlflow_run_id"]
        assert child.data.tags["sweeper.state"] == trial["state"]
        assert child.data.tags["sweeper.reason"] == trial["reason"]
        history = client.get_metric_history(child.info.run_id, "val/pa_mpjpe_mm")
        assert [point.step for point in history] == list(range(1, int(trial["epochs"]) + 1))
        assert len(client.list_artifacts(child.info.run_id, "checkpoints")) == trial["epochs"]


@pytest.fixture
def study_home(home: Path) -> Path:
    (home.parent / "spec.yaml").write_text(SPEC)
    return home


def test_a_study_runs_to_its_end_and_running_it_again_only_shows_it(study_home: Path) -> None:
    """With the installed command; the tests below fork it from a process that has already imported everything."""
    line = command("run", str(study_home.parent / "spec.yaml"), "--home", str(study_home))
    result = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=300)
    assert result.returncode == 0, result.stderr
    study = show(study_home)
    states = [trial["state"] for trial in study["trials"]]
    assert len(states) == 8
    for trial in study["trials"]:
        if trial["params"]["scale"] > 3.0:
            assert (trial["state"], trial["epochs"]) == ("COLLAPSED", 2)
            assert "theta_var_ratio 0.0010 < 0.02" in trial["reason"]
        else:
            assert trial["state"] in ("COMPLETE", "PRUNED")
            assert trial["epochs"] == (8 if trial["state"] == "COMPLETE" else 4)
    assert "COMPLETE" in states
    assert "COLLAPSED" in states
    complete = [trial for trial in study["trials"] if trial["state"] == "COMPLETE"]
    best = min(complete, key=lambda trial: trial["metrics"]["val/pa_mpjpe_mm"])
    assert study["winner"] == best["id"]
    assert f"best trial: {best['id']}" in result.stdout
    assert "Traceback" not in result.stderr
    assert not re.search(r"^\[\d{4}-\d\d-\d\d ", result.stderr, re.MULTILINE), "a line of Ray's own"
    check_mlflow_mirrors(study_home, study)

    again = run(study_home)
    assert again.returncode == 0
    assert "is complete" in again.stderr
    assert show(study_home) == study

    drifted = run(study_home, "--set", "base.epochs=9")
    assert drifted.returncode == 2
    assert "base.epochs: 8 -> 9" in drifted.stderr
    assert "--new" in drifted.stderr


def test_sigterm_leaves_a_study_that_a_second_run_finishes(study_home: Path) -> None:
    """For which Ray has a handler of its own."""
    slow = ("--set", "base.sleep_s=0.3", "--trials", "4")
    process = begin(study_home, *slow, ray=True)
    deadline = time.monotonic() + 120
    journal = study_home / "studies" / "scripted" / "ledger.journal"
    while time.monotonic() < deadline and (not journal.exists() or "report:00002" not in journal.read_text()):
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "Traceback" not in errors
    assert "SIGTERM" not in errors, "Ray's C++ part prints a stack trace"
    half = show(study_home)
    left = [trial for trial in half["trials"] if trial["state"] == "WAITING"]
    assert left
    assert all(trial["epochs"] >= 1 for trial in left)

    result = run(study_home, *slow)
    assert result.returncode == 0, result.stderr
    whole = show(study_home)
    assert [trial["params"] for trial in whole["trials"]][: len(half["trials"])] == [
        trial["params"] for trial in half["trials"]
    ]
    assert all(f"{trial['id']} resumed after evaluation" in result.stderr for trial in left)
    check_mlflow_mirrors(study_home, whole)


def test_failing_trials_do_not_end_the_study(study_home: Path) -> None:
    result = run(study_home, "--trials", "2", "--set", "base.crash_at=2")
    assert result.returncode == 1, result.stderr
    study = show(study_home)
    assert {trial["state"] for trial in study["trials"]} <= {"FAILED", "COLLAPSED"}
    failed = [trial for trial in study["trials"] if trial["state"] == "FAILED"]
    assert failed[0]["reason"] == "RuntimeError: the script says crash at epoch 2"
    assert study["winner"] is None


def test_lost_and_hung_workers_are_replaced_without_changing_the_results(study_home: Path) -> None:
    space = ("--set", "search_space={scale: {choices: [1.0]}}", "--trials", "1", "--set", "scheduler={name: none}")
    faults = ("--set", "base.die_at=2", "--set", "base.freeze_at=4", "--set", "resources={heartbeat_s: 10, retries: 2}")
    result = run(study_home, *space, *faults)
    assert result.returncode == 0, result.stderr
    [trial] = show(study_home)["trials"]
    assert (trial["state"], trial["epochs"]) == ("COMPLETE", 8)
    assert "the trial's process was ended by SIGKILL (out of memory?); retry 1 of 2" in result.stderr
    assert "the worker hung: no sign of life for 10 s; retry 2 of 2" in result.stderr
    assert "resumed after evaluation 3" in result.stderr
    check(study_home)
    reports = list(train(ScriptedConfig(epochs=8, curve_mm=CURVE_MM), study_home.parent / "unbroken"))
    assert trial["metrics"]["val/pa_mpjpe_mm"] == reports[-1].metrics["val/pa_mpjpe_mm"]


def test_a_worker_that_hangs_between_two_trials_is_replaced(study_home: Path) -> None:
    space = ("--set", "search_space={scale: {choices: [1.0, 2.0, 0.5]}}", "--set", "sampler={name: grid}")
    faults = ("--set", "base.freeze_when_stopped=true", "--set", "resources={heartbeat_s: 10, concurrent: 1}")
    result = run(study_home, *space, "--trials", "3", *faults)
    assert result.returncode == 0, result.stderr
    assert [trial["state"] for trial in show(study_home)["trials"]] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert "scripted-0002: the worker hung: no sign of life for 10 s; retry 1 of 2" in result.stderr
    check(study_home)


def test_without_retries_a_lost_worker_fails_its_trial_with_the_reason(study_home: Path) -> None:
    result = run(study_home, "--trials", "1", "--set", "base.die_at=2", "--set", "resources.retries=0")
    assert result.returncode == 1, result.stderr
    [trial] = show(study_home)["trials"]
    assert (trial["state"], trial["reason"], trial["epochs"]) == (
        "FAILED",
        "the trial's process was ended by SIGKILL (out of memory?)",
        1,
    )
    check(study_home)


def test_the_budget_stops_running_trials_to_the_second(study_home: Path) -> None:
    # One evaluation takes 60 s: only a timer can stop it in time.
    changes = ("--set", "base.sleep_s=60", "--set", "budget={cpu_seconds: 8}", "--trials", "3")
    result = run(study_home, *changes)
    assert result.returncode == 0, result.stderr
    study = show(study_home)
    assert {trial["state"] for trial in study["trials"]} == {"STOPPED"}
    assert {trial["reason"] for trial in study["trials"]} == {"budget: 8 CPU-seconds used up"}
    assert 8.0 <= study["used"]["cpu_seconds"] <= 9.0
    assert "(of 8 CPU-seconds)" in result.stdout
    assert all(one.info.status != "RUNNING" for one in mlflow_runs(study_home))

    again = run(study_home, *changes)
    assert again.returncode == 0
    assert "has used up its budget" in again.stderr


def test_trials_waiting_at_rungs_are_promoted_and_stopped_ones_audited(study_home: Path) -> None:
    promote = ["--set", "scheduler.mode=promote", "--set", "scheduler.grace_epochs=2", "--set", "audit=1"]
    result = run(study_home, *promote)
    assert result.returncode == 0, result.stderr
    study = show(study_home)
    states = {trial["state"] for trial in study["trials"]}
    assert states == {"COMPLETE", "PRUNED", "COLLAPSED"}
    assert study["winner"] == min(study["trials"], key=lambda trial: trial["params"]["scale"])["id"]
    collapsed = [trial["id"] for trial in study["trials"] if trial["state"] == "COLLAPSED"]
    assert study["audit"] == {"collapsed": collapsed, "pruned": [], "false_kills": []}
    assert "audit: of" in result.stdout
    check_mlflow_mirrors(study_home, study)
