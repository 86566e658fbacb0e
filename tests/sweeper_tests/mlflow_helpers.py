"""What the tests of tracking share: a small study to record, a look into MLflow, and a real server."""

import http.client
import os
from pathlib import Path
from typing import Any

from sweeper.ledger.ledger import Ledger
from sweeper.tracking import Tracker, trial_yaml
from sweeper.tracking.schema import metric_key, metric_value
from sweeper.tracking.store.client import open_client
from sweeper.tracking.store.environment import MLFLOW_ENVIRONMENT


def uri_of(home: Path) -> str:
    return f"sqlite:///{home}/mlflow.db"


def start(tracker: Tracker, *trial_ids: str) -> None:
    tracker.start_study({"sweeper.objective": "val/pa_mpjpe_mm:min"}, {"provenance.json": '{"python": "x"}'})
    for trial_id in trial_ids:
        config = {"optim": {"lr": 0.1 + 0.2}, "threads": 1}
        text = trial_yaml(trial_id, "scripted_trainer:train", config, {"optim.lr": 0.1 + 0.2})
        tracker.start_trial(trial_id, {"optim.lr": 0.1 + 0.2}, {"sweeper.role": "candidate"}, {"trial.yaml": text})


def runs_of(uri: str) -> dict[str, Any]:
    """All runs of the experiment by name; fails if a name occurs twice."""
    client = open_client(uri)
    experiment = client.get_experiment_by_name("toy")
    runs = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs)
    return by_name


def points_of(uri: str, trial_id: str) -> list[tuple[int, str, int, float]]:
    """(step, name, timestamp, value) of every point that MLflow holds of a trial, sorted."""
    client, run = open_client(uri), runs_of(uri)[trial_id]
    return sorted(
        (point.step, name, point.timestamp, point.value)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


Points = dict[tuple[str, str, int], list[str]]
"""(trial, metric, step) -> every value stored for it, as text."""


def points_in_ledger(home: Path, study: str) -> Points:
    """What MLflow should hold of a study, not one point more or less."""
    ledger = Ledger.open(home / "studies" / study, study)
    return {
        (trial.id, metric_key(name if name == "epoch" else prefix + name), report.step): [repr(metric_value(value))]
        for trial in ledger.all_trials()
        for prefix in ("control/" if trial.control else "",)
        for report in trial.reports
        for name, value in {**report.metrics, "epoch": report.epoch}.items()
    }


def points_in_mlflow(uri: str, study: str) -> Points:
    """What MLflow holds of a study's trials, without the measurements of the machine and the copy of the objective."""
    client = open_client(uri)
    experiment = client.get_experiment_by_name(study)
    found: Points = {}
    for run in client.search_runs([experiment.experiment_id]):
        trial_id = run.data.tags.get("sweeper.trial_id")
        for name in run.data.metrics if trial_id else ():
            if not name.startswith(("system/", "0_objective/")):
                for point in client.get_metric_history(run.info.run_id, name):
                    found.setdefault((trial_id, name, point.step), []).append(repr(point.value))
    return found


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def server_arguments(store: str, artifacts: Path, port: int) -> list[str]:
    """The arguments of MLflow's command for a real server on a store."""
    arguments = ["server", "--backend-store-uri", store, "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    return [*arguments, "--artifacts-destination", str(artifacts)]


def server_environment() -> dict[str, str]:
    return {**os.environ, **MLFLOW_ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
