"""Lets a trainer's own `mlflow.log_*` go to the run of its trial.

The driver makes the run while the trial starts, and writes where it is into a file in the trial's folder. It is waited
for only when the trainer imports MLflow, or trains in another program of which we know nothing.
"""

import atexit
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from sweeper.entrypoint.function import yields
from sweeper.entrypoint.resolve import load_trainer

RUN_FILE: Final = "mlflow_run.json"
"""In the trial's folder: variable -> value, `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_ID` and `MLFLOW_RUN_ID`."""
WAIT_S: Final = 30.0
"""For a run that the trainer surely uses."""
WAIT_FOR_PROGRAM_S: Final = 3.0
"""For one that it may use."""
LOOK_S: Final = 0.02


class _Handover(MetaPathFinder):
    """Sets the variables when MLflow is imported."""

    def __init__(self, run_file: Path) -> None:
        self._run_file = run_file

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "mlflow":
            sys.meta_path.remove(self)
            _set_variables(self._run_file, WAIT_S)
        return None


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
        _set_variables(run_file, WAIT_S)
    elif trainer == "sweeper.entrypoint.command:train" or not yields(load_trainer(trainer)):
        _set_variables(run_file, WAIT_FOR_PROGRAM_S)
    else:
        sys.meta_path.insert(0, _Handover(run_file))


def leave_state_to_driver() -> None:
    """The driver alone says how a run ended: a trial that was stopped must not set its run to FINISHED as it leaves."""
    fluent = sys.modules.get("mlflow.tracking.fluent")
    client = sys.modules.get("mlflow.tracking.client")
    ours = os.environ.get("MLFLOW_RUN_ID")
    if fluent is None or client is None or ours is None:
        return
    set_terminated = client.MlflowClient.set_terminated

    def set_others_terminated(self: object, run_id: str, *args: object, **kwargs: object) -> None:
        if run_id != ours:
            set_terminated(self, run_id, *args, **kwargs)

    client.MlflowClient.set_terminated = set_others_terminated
    with suppress(AttributeError):
        atexit.unregister(fluent._safe_end_run)


def _set_variables(run_file: Path, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while time.monotonic() < deadline_s:
        with suppress(OSError, ValueError):
            told = json.loads(run_file.read_bytes())
            os.environ.update({str(name): str(value) for name, value in told.items()})
            return
        time.sleep(LOOK_S)
