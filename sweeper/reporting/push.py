"""Reports from inside any function or script: `sweeper.report(epoch, metrics)`.

A sweep tells the script where to report through the environment; without it nothing is recorded, and a report is
printed. Messages go over a unix socket, one JSON line each way, so they pass through shells, launchers and child
processes: a report is answered once it is stored, and the answer says whether the trial continues.
"""

import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sweeper.reporting.place import place_text

SOCKET: Final = "SWEEPER_SOCKET"
CONFIG: Final = "SWEEPER_CONFIG"
RESUME: Final = "SWEEPER_RESUME"
WORKDIR: Final = "SWEEPER_WORKDIR"


class TrialStopped(SystemExit):
    """The trial was pruned or stopped: its script ends here, quietly and with exit code 0. Not an `Exception`, so that
    a script's own `except Exception` does not catch it."""

    def __init__(self) -> None:
        super().__init__(0)


def in_sweep() -> bool:
    """Whether a sweep runs this process."""
    return SOCKET in os.environ


def config() -> dict[str, Any]:
    """The trial's parameters: `base` of the sweep file with what was sampled. Empty outside a sweep."""
    path = os.environ.get(CONFIG)
    loaded: dict[str, Any] = json.loads(Path(path).read_text()) if path else {}
    return loaded


def resume_from() -> Path | None:
    """The checkpoint to continue from, as it was handed to `report`; None: start over."""
    path = os.environ.get(RESUME)
    return Path(path) if path else None


def workdir() -> Path:
    """The trial's own folder, for what the script writes; outside a sweep the working folder."""
    return Path(os.environ.get(WORKDIR, "."))


def report(
    epoch: float,
    metrics: Mapping[str, Any],
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    step: int | None = None,
    total_epochs: float | None = None,
    files: Sequence[str | os.PathLike[str]] = (),
) -> None:
    """Report one evaluation, and wait until it is stored.

    Args:
        epoch: epochs of training done so far; may be fractional.
        metrics: name -> number; NumPy and torch scalars are numbers too.
        checkpoint: a file or folder to continue from after an interruption; it must not change afterwards.
        step: index of the evaluation, growing; default: `epoch`, which must then be whole.
        total_epochs: length of a full run.
        files: copied to the trial's folder, and kept with it.

    Raises:
        TrialStopped: the trial was pruned or stopped, or what it reported cannot be read.
        ValueError: `epoch` is fractional and `step` is missing.
    """
    epoch = _scalar(epoch)
    if step is None:
        if isinstance(epoch, float) and not epoch.is_integer():
            what = f"epoch {epoch} is fractional, so the evaluation needs a `step=`"
            raise ValueError(f"sweeper.report at {_caller()}: {what}")
        step = int(epoch) if isinstance(epoch, float) else epoch
    if not in_sweep():
        said = "  ".join(f"{name} {float(value):.6g}" for name, value in metrics.items())
        print(f"epoch {epoch:g}: {said}", file=sys.stderr)
        return
    if int(os.environ.get("RANK", "0")) > 0:  # of several processes of one training, only the first reports
        return
    for path in files:
        shutil.copy(path, workdir())
    say(
        {
            "step": _scalar(step),
            "epoch": epoch,
            "metrics": _scalars(metrics) if isinstance(metrics, Mapping) else _scalar(metrics),
            "checkpoint": str(Path(checkpoint).absolute()) if checkpoint is not None else None,
            "total_epochs": _scalar(total_epochs),
            "place": _caller(),
        }
    )


def _scalars(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): _scalar(value) for name, value in metrics.items()}


def _scalar(value: Any) -> Any:
    """A number of NumPy, torch or the standard library as Python's own. Anything else is sent as it is, or as its repr:
    the other side says what is wrong with it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        return float(value) if not hasattr(value, "item") else value.item()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return f"{type(value).__name__} {value!r}"


def _caller() -> str | None:
    """The file and line of the report: the innermost that is not ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame:
        if place := place_text(frame.f_code.co_filename, frame.f_lineno):
            return place
        frame = frame.f_back
    return None


def say(message: Mapping[str, Any]) -> None:
    """Send a message to the trial's process, and wait for the answer.

    Raises:
        TrialStopped: the trial must not continue.
        ConnectionError: nobody listens.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ[SOCKET])
            with connection.makefile("rw", encoding="utf-8") as lines:
                lines.write(json.dumps(message) + "\n")
                lines.flush()
                answer = lines.readline()
        except OSError as error:
            raise ConnectionError(f"sweeper.report: the sweep does not answer: {error}") from error
    if answer.strip() != "continue":
        raise TrialStopped
