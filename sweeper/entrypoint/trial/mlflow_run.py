"""Lets a trainer's own `mlflow.log_*` go to the run of its trial.

The driver creates the run while the trial starts, and writes where it is into a file in the trial's folder. The trial
waits for it only when the trainer imports MLflow, or trains in another program that we know nothing about. In the
trial, code that names its own experiment or server, and starts and ends its run, works unchanged: all of it is this
run, and only the driver says how it ended.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from sweeper.entrypoint.function import yields
from sweeper.entrypoint.resolve import load_trainer
from sweeper.redaction import redact

RUN_FILE: Final = "mlflow_run.json"
"""In the trial's folder: variable -> value, `MLFLOW_RUN_ID` and, if it contains no password, `MLFLOW_TRACKING_URI`. A
home keeps no secrets: an address with one is in the environment of the driver, and so of the trial."""
RUN_ID: Final = "MLFLOW_RUN_ID"
TRACKING_URI: Final = "MLFLOW_TRACKING_URI"
WAIT_S: Final = 30.0
"""For a run that the trainer is sure to use."""
WAIT_FOR_PROGRAM_S: Final = 3.0
"""For one that it may use."""
LOOK_S: Final = 0.02


def write_run_file(folder: Path, tracking_uri: str, run_id: str) -> None:
    """Say in the trial's folder which run is the trial's; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    address = {TRACKING_URI: tracking_uri} if redact(tracking_uri) == tracking_uri else {}
    partial = folder / f".{RUN_FILE}.tmp"
    partial.touch(0o600)
    partial.write_text(json.dumps({**address, RUN_ID: run_id}))
    partial.replace(folder / RUN_FILE)


def hand_over_run(trainer: str, run_file: Path | None) -> None:
    """Make MLflow of this process, and of those it starts, log to the trial's run.

    Args:
        trainer: `package.module:function`.
        run_file: where the driver says which run it is; None: it cannot.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Handover)]
    if run_file is None:
        return
    if "mlflow" in sys.modules:
        _hand_over(run_file)
    elif trainer == "sweeper.entrypoint.program.command:train" or not yields(load_trainer(trainer)):
        os.environ.update(_run_of(run_file, WAIT_FOR_PROGRAM_S))
    else:
        sys.meta_path.insert(0, _Handover(run_file))


class _Handover(MetaPathFinder):
    """Hands the run over as soon as MLflow is imported."""

    def __init__(self, run_file: Path) -> None:
        self._run_file = run_file

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "mlflow":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_hand_over(module: ModuleType) -> None:
            execute(module)
            _hand_over(self._run_file)

        spec.loader.exec_module = execute_and_hand_over  # type: ignore[method-assign]
        return spec


def _hand_over(run_file: Path) -> None:
    run = _run_of(run_file, WAIT_S)
    address = run.get(TRACKING_URI) or os.environ.get(TRACKING_URI)
    if not run or not address:
        return
    mlflow, ours = sys.modules["mlflow"], run[RUN_ID]
    mlflow.set_tracking_uri(address)
    os.environ.update(run)
    client: Any = sys.modules["mlflow.tracking.client"].MlflowClient
    original_terminate: Callable[..., None] = client.set_terminated
    original_start = mlflow.start_run

    @functools.wraps(original_terminate)
    def terminate_others(self: object, run_id: str, *args: object, **kwargs: object) -> None:
        if run_id != ours:
            original_terminate(self, run_id, *args, **kwargs)

    @functools.wraps(original_start)
    def start_ours(run_id: str | None = None, *args: object, **kwargs: Any) -> Any:
        if run_id is None and mlflow.active_run() is None:
            return original_start(ours)
        return original_start(run_id, *args, **kwargs)

    client.set_terminated = terminate_others
    mlflow.start_run = start_ours  # type: ignore[attr-defined]
    sys.modules["mlflow.tracking.fluent"].start_run = start_ours  # type: ignore[attr-defined]  # `log_*` without one
    mlflow.set_tracking_uri = lambda *_args, **_kwargs: None  # type: ignore[attr-defined]
    experiment = mlflow.get_experiment(mlflow.get_run(ours).info.experiment_id)
    mlflow.set_experiment = lambda *_args, **_kwargs: experiment  # type: ignore[attr-defined]


def _run_of(run_file: Path, wait_s: float) -> Mapping[str, str]:
    """What the driver says about the trial's run; nothing if it has not done so in time: MLflow may be unavailable."""
    deadline_s = time.monotonic() + wait_s
    while time.monotonic() < deadline_s:
        with suppress(OSError, ValueError):
            return {str(name): str(value) for name, value in json.loads(run_file.read_bytes()).items()}
        time.sleep(LOOK_S)
    print("sweeper: the trial's MLflow run does not exist; MLflow does not answer", file=sys.stderr)
    return {}
