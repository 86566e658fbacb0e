"""A sweep on a whole GPU, on half of one, and on a CPU alone, with the real Ray, MLflow and trainer."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
import yaml

from sweeper.executor.gpus import collect_accelerators

ROOT = Path(__file__).parents[1]
HAS_GPU = torch.cuda.is_available()
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device that torch can use")]
SPEC: dict[str, Any] = {
    "name": "small",
    "base": {
        "data": {"embedded_count": 300, "image_size": 32},
        "loss": {"lambda_joint": 8.0, "lambda_procrustes": 1.0},
        "optim": {"epochs": 2, "batch_size": 16, "lr": 1e-3},
        "eval": {"mesh_images": 4},
    },
    "search_space": {"optim.weight_decay": {"low": 1e-5, "high": 1e-3, "log": True}},
    "objective": {"metric": "val/pa_mpjpe_mm", "mode": "min"},
    "scheduler": {"name": "none"},
    "trials": 2,
    "controls": [],
}


def sweeper(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    paths = [str(ROOT), str(ROOT / "trainers"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "sweeper", *arguments, "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    ("gpus", "device"),
    [
        pytest.param(1, "cuda", marks=on_gpu),
        pytest.param(0.5, "cuda", marks=on_gpu),
        pytest.param(0, "cpu", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_runs_on_the_device_is_recorded_and_can_be_reproduced(gpus: float, device: str, tmp_path: Path) -> None:
    """`run` starts with the preflight, whose failure has another exit code."""
    spec, home = tmp_path / "small.yaml", tmp_path / "home"
    mapping = SPEC | {"resources": {"cpus": 1, "gpus": gpus}}
    mapping["base"] = SPEC["base"] | {"device": device}
    if device == "cuda":  # long enough to be sampled, which happens once a second
        mapping["base"] |= {"optim": SPEC["base"]["optim"] | {"epochs": 30}}
    spec.write_text(yaml.safe_dump(mapping))
    ran = sweeper(home, "run", str(spec))
    assert "Traceback" not in ran.stderr
    assert ran.returncode in (0, 3), ran.stderr  # so few images may teach nothing
    assert "FAIL" not in ran.stdout + ran.stderr, ran.stdout + ran.stderr
    assert "WARN: steps start kernel by kernel" not in ran.stderr

    shown = json.loads(sweeper(home, "show", "small", "--json").stdout)
    trials = shown["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert all(("gpu/peak_memory_mib" in trial["metrics"]) == (device == "cuda") for trial in trials)
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = [run for run in client.search_runs([experiment.experiment_id]) if "sweeper.trial_id" in run.data.tags]
    assert len(runs) == 2
    for run in runs:
        assert ("gpu/peak_memory_mib" in run.data.metrics) == (device == "cuda")
        if device == "cuda" and collect_accelerators():
            assert any(name.startswith("system/gpu_") for name in run.data.metrics), sorted(run.data.metrics)

    again = sweeper(home, "reproduce", trials[0]["id"])
    assert again.returncode == 0, again.stdout + again.stderr
    assert "BIT-EXACT" in again.stdout
