"""Whole sweeps through the command line, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
from places import TESTS


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "sweeper"), *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))}


def run(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command("run", str(home.parent / "spec.yaml"), "--home", str(home), *arguments),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
    )


def show(home: Path) -> dict[str, Any]:
    result = subprocess.run(
        command("show", "scripted", "--json", "--home", str(home)), capture_output=True, text=True, check=True
    )
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


def mlflow_runs(home: Path) -> list[Any]:
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("scripted")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))
