"""Whole sweeps through the command line, in separate processes: as installed, or forked as `faulty.sweep` does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
from faulty import sweep
from places import TESTS


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "sweeper"), *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))}


def run(home: Path, *arguments: str, ray: bool = True) -> "subprocess.CompletedProcess[str]":
    """`sweeper run` on the spec beside the home, by Ray or without."""
    return sweep(home, "run", *arguments, ray=ray)


def show(home: Path) -> dict[str, Any]:
    result = sweep(home, "show", "scripted", "--json")
    assert result.returncode == 0, result.stderr
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


def mlflow_runs(home: Path) -> list[Any]:
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("scripted")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))
