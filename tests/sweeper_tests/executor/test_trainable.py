import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mano_trainers.report import EpochReport
from sweeper.executor.trainable import Job, TrialWorker


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


def untidy(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    """Changes everything a process has, and draws from the global generators."""
    os.environ["UNTIDY"] = "yes"
    os.environ.pop("HOME", None)
    os.chdir(workdir)
    try:
        while True:
            yield EpochReport(1, 1.0, {"drawn": random.random() + np.random.rand(), "left": float(len(LEFT))})
    finally:
        LEFT.append(workdir)


def failing(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    yield EpochReport(1, 1.0, {})
    raise {"gpu": OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "ram": MemoryError()}[config["what"]]


def talkative(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    raise PermissionError(f"no access with {os.environ['WANDB_API_KEY']}")
    yield


LEFT: list[Path] = []


@pytest.fixture(autouse=True)
def _this_module_is_a_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def job(folder: Path, trainer: str, gpus: float = 0, **config: Any) -> dict[str, str]:
    return {"job": Job(f"test_trainable:{trainer}", config, str(folder), None, gpus=gpus).to_json()}


def step(worker: TrialWorker) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(worker.step()["message"])
    return message


def test_a_used_worker_is_as_a_new_one(tmp_path: Path) -> None:
    before, folder = dict(os.environ), Path.cwd()
    worker = TrialWorker(job(tmp_path / "a", "untidy"))
    first = step(worker)
    step(worker)
    assert worker.reset_config(job(tmp_path / "b", "untidy"))
    import test_trainable  # as the seam imports it, by its name

    assert test_trainable.LEFT == [tmp_path / "a"], "the trainer was let tidy up"
    assert dict(os.environ) == before | {"CUDA_VISIBLE_DEVICES": ""}
    assert Path.cwd() == folder
    assert step(worker)["metrics"]["drawn"] == first["metrics"]["drawn"]
    worker.cleanup()
    assert dict(os.environ) == before


def test_a_share_of_a_gpu_is_for_one_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINERS_GPU_SHARE", raising=False)
    worker = TrialWorker(job(tmp_path / "a", "untidy", gpus=0.5))
    assert os.environ["TRAINERS_GPU_SHARE"] == "0.5"
    for gpus in (1, 2.5, 0):
        worker.reset_config(job(tmp_path / "b", "untidy", gpus=gpus))
        assert "TRAINERS_GPU_SHARE" not in os.environ
    worker.cleanup()


@pytest.mark.parametrize(("what", "reason"), [("gpu", "out of GPU memory: OutOfMemoryError"), ("ram", "out of memory")])
def test_running_out_of_memory_is_told_apart_with_a_hint(what: str, reason: str, tmp_path: Path) -> None:
    worker = TrialWorker(job(tmp_path, "failing", what=what))
    assert step(worker)["kind"] == "report"
    message = step(worker)
    assert message["kind"] == "error"
    assert message["error"].startswith(reason)
    assert "take smaller batches" in message["error"]
    worker.cleanup()


def test_a_secret_that_only_the_worker_holds_is_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-7f3a9c1e")
    worker = TrialWorker(job(tmp_path, "talkative"))
    message = step(worker)
    assert message["kind"] == "error"
    assert "planted-7f3a9c1e" not in message["error"] + message["traceback"]
    assert "no access with ***" in message["error"]
    worker.cleanup()
