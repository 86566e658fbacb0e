"""What must hold for a study home after any fault: one checker for all tests of faults."""

import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import psutil

from sweeper.checkpoints.inventory import is_collected
from sweeper.checkpoints.manifest import damage
from sweeper.checkpoints.object_store import ObjectStore
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.storage.location import JOURNAL
from sweeper.ledger.trial import WAITING, TrialRecord, TrialState
from sweeper.spec.model import SpecFile
from sweeper.study.usage.accounting import used_now

Results = dict[str, Any]
SECONDS = ("train/seconds",)
"""Metrics that are times: no two runs agree."""


def results(home: Path, study: str = "scripted") -> Results:
    """What a study found: per trial its parameters, state, reason, and every metric of every evaluation."""
    ledger = Ledger.open(home / "studies" / study, study)
    return {trial.id: _result(trial) for trial in ledger.all_trials()}


def check(
    home: Path,
    *,
    before: Results | None = None,
    unbroken: Results | None = None,
    study: str = "scripted",
    damaged: tuple[str, ...] = (),
    store: ObjectStore | None = None,
) -> Results:
    """Check everything about a study whose driver has ended and been run again to its end.

    Args:
        home: the study home.
        before: results seen earlier: what was finished then must still be the same, word for word.
        unbroken: results of the same study without the fault, which must be equal.
        study: its name.
        damaged: checkpoints, by their path in the study's folder, that the test has damaged.
        store: holds the checkpoints, instead of the study's folder.
    """
    folder = home / "studies" / study
    ledger = Ledger.open(folder, study)
    trials = ledger.all_trials()
    now = {trial.id: _result(trial) for trial in trials}
    for trial_id, earlier in (before or {}).items():
        if TrialState(earlier["state"]).is_finished:
            assert now[trial_id] == earlier, f"{trial_id} was finished, and is something else now"
    if unbroken is not None:
        assert now == unbroken
    if (folder / JOURNAL).exists():
        _check_journal(folder, trials)
    else:
        _check_database(ledger, trials)
    for trial in trials:
        assert trial.state.is_finished, f"{trial.id} is {trial.state}"
        steps = [report.step for report in trial.reports]
        assert steps == list(range(1, len(steps) + 1)), f"{trial.id} has evaluations {steps}"
        for report in trial.reports:
            is_gone = report.checkpoint in damaged or is_collected(folder / (report.checkpoint or ""))
            if report.checkpoint and not is_gone:
                assert _damage(folder, report.checkpoint, store) is None, report.checkpoint
    _check_budget(ledger)
    _check_mlflow(home, study, trials)
    check_nothing_left(home, study)
    return now


def _damage(folder: Path, key: str, store: ObjectStore | None) -> str | None:
    if store is None:
        return damage(folder / key)
    with tempfile.TemporaryDirectory() as scratch:
        store.fetch(key, Path(scratch) / "fetched")
        return damage(Path(scratch) / "fetched")


def check_nothing_left(home: Path, study: str = "scripted") -> None:
    """No process works on the study, nobody holds its lock, and no scratch file is left in its folder."""
    with open(home / "studies" / study / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError while someone holds it
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "environ"]):  # without a process there is no open port
        found = process.info
        known = [*(found["cmdline"] or []), found["cwd"] or "", *(found["environ"] or {}).values()]
        assert found["pid"] in ours or not any(str(home) in text for text in known), f"still there: {found['cmdline']}"
    left = [path.name for path in (home / "studies" / study).glob("*") if path.suffix in (".tmp", ".partial")]
    assert not left, left


def _check_journal(folder: Path, trials: list[TrialRecord]) -> None:
    """The end of every trial was stored once, and so was every (trial, step)."""
    endings: list[Any] = []
    reports: list[Any] = []
    for line in (folder / JOURNAL).read_bytes().splitlines():
        entry = json.loads(line)
        for key in entry.get("user_attr", {}):
            if key == "ending":
                endings.append(entry["trial_id"])
            if key.startswith("report:"):
                reports.append((entry["trial_id"], key))
    assert len(endings) == len(set(endings)) == len(trials)
    assert len(reports) == len(set(reports)) == sum(len(trial.reports) for trial in trials)


def _check_database(ledger: Ledger, trials: list[TrialRecord]) -> None:
    """Every trial is there once; the tables' keys allow no duplicates of what it holds."""
    told = ledger._optuna.frozen_trials()
    assert len(told) == len(trials)
    assert [each.number for each in told] == [trial.number for trial in (*ledger.trials(), *ledger.controls())]
    assert all(each.state.is_finished() for each in told)


def _check_budget(ledger: Ledger) -> None:
    """No more was used than the budget allows, except for one second at most to notice."""
    spec = SpecFile.model_validate(ledger.attributes.spec)
    used = used_now(ledger, spec.budget, spec.resources)
    for name in ("wall_clock_s", "cpu_seconds", "gpu_seconds"):
        limit = getattr(spec.budget, name)
        assert limit is None or getattr(used, name) <= limit + 1.0, f"{name}: {getattr(used, name)} of {limit}"
    assert used.trial_s >= sum(report.metrics["train/seconds"] for t in ledger.trials() for report in t.reports) - 0.1


def _check_mlflow(home: Path, study: str, trials: list[TrialRecord]) -> None:
    """One run per trial, every evaluation in it once, and no run that still appears to be running."""
    client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    page = client.search_runs([experiment.experiment_id])
    runs = list(page)
    while page.token:
        page = client.search_runs([experiment.experiment_id], page_token=page.token)
        runs += page
    runs = [run for run in runs if "sweeper.reproduces" not in run.data.tags]
    assert [run.info.run_name for run in runs if run.info.status == "RUNNING"] == []
    children = {run.data.tags["sweeper.trial_id"]: run for run in runs if "sweeper.trial_id" in run.data.tags}
    assert len(runs) == len(trials) + 1, "one run a trial, and the study's own"
    for trial in trials:
        run = children[trial.id]
        assert run.data.tags["sweeper.state"] == (WAITING if trial.state == "RUNNING" else trial.state)
        name = "control/val/pa_mpjpe_mm" if trial.control else "val/pa_mpjpe_mm"
        history = client.get_metric_history(run.info.run_id, name)
        steps = sorted(point.step for point in history)  # MLflow sorts by a clock that may have jumped
        assert steps == [report.step for report in trial.reports], trial.id


def _result(trial: TrialRecord) -> dict[str, Any]:
    curve = [
        {name: repr(value) for name, value in report.metrics.items() if name not in SECONDS} for report in trial.reports
    ]
    return {"params": dict(trial.params), "state": str(trial.state), "reason": trial.reason, "curve": curve}
