"""A trainer that follows a script: milliseconds an epoch, no torch, every way a training can go.

Named in a spec as ``trainer: scripted_trainer:train`` with this folder on PYTHONPATH.
"""

import fcntl
import hashlib
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load_file, save

from mano_trainers.report import EpochReport


class ScriptedConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str = "scripted"
    epochs: Annotated[int, Field(ge=1)] = 4
    curve_mm: list[float] = [20.0, 15.0, 12.0, 10.0]
    """Error at each epoch, before `scale`; the last value repeats."""
    scale: float = 1.0
    """Factor on the error: the parameter to sweep."""
    collapse_above: float = 1e9
    """A `scale` above this predicts the mean pose: no variance, no r2."""
    seed: int = 0
    """Of a random walk that lives in the checkpoint, so that a wrong resume shows."""
    threads: int = 1
    noise: bool = False
    """Add noise that no seed controls."""
    noise_mm: float = 1e-6
    sleep_s: float = 0.0
    """Before each report."""
    slow_while: str | None = None
    """Sleep only as long as this file exists: a test that has seen what it waits for ends it."""
    crash_at: int | None = None
    """Raise instead of reporting this epoch."""
    crash_if: str | None = None
    """Raise instead of the first report if this file exists: a mistake that can be fixed."""
    die_at: int | None = None
    """End the process without a word (kill -9) instead of reporting this epoch, the first `die_times` times."""
    die_times: int = 1
    marks: str | None = None
    """A folder for what outlives a machine: how often it has died, how often each epoch was trained."""
    picture: bool = False
    """Put one beside the last checkpoint."""
    freeze_at: int | None = None
    """Stop the process (SIGSTOP) instead of reporting this epoch, the first time."""
    freeze_when_stopped: bool = False
    """Stop the process (SIGSTOP) when it is told to end early, the first time."""
    hang_at: int | None = None
    """Wait for ever instead of reporting this epoch, the first time."""
    out_of_memory_at: int | None = None
    """Ask for more memory than the process may have instead of reporting this epoch."""
    nan_at: int | None = None
    """Report NaN at this epoch, then stop."""
    control: Literal["oracle", "zero", "constant_pose", "shuffled_labels"] | None = None
    """A ruler instead of a training."""
    constant_mm: float = 1000.0
    """Error of the constant pose, of theta 0 and, at every epoch, of shuffled labels."""
    skill_p: float | None = None
    """What candidates report as `val/skill_p`."""
    data_file: str | None = None
    """A file whose length in bytes is added to the error (mm): the data."""
    prepare_s: float = 0.0
    """How long a process of its own makes the data of a machine; whoever comes meanwhile waits. Needs `marks`."""


def prepare(config: ScriptedConfig) -> dict[str, str]:
    """Fingerprints of the data."""
    if config.prepare_s and config.marks:
        _make_data(Path(config.marks) / f"data of {os.uname().nodename}", config.prepare_s)
    data = Path(config.data_file).read_bytes() if config.data_file else b""
    return {"data": hashlib.sha256(data).hexdigest()}


def _make_data(mark: Path, seconds: float) -> None:
    with mark.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if mark.stat().st_size == 0:
            # A fifth of a core, four times what counts as work; on a busy machine nearly all that it is given.
            busy = f"import time; end_s = time.monotonic() + {seconds}\nwhile time.monotonic() < end_s:\n"
            busy += " until_s = time.process_time() + 0.1\n while time.process_time() < until_s: pass\n time.sleep(0.4)"
            subprocess.run([sys.executable, "-c", busy], check=True)
            file.write("made")


def train(config: ScriptedConfig, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    if config.control in ("oracle", "zero", "constant_pose"):
        time.sleep(config.sleep_s)
        error_mm = 0.0 if config.control == "oracle" else config.constant_mm
        yield EpochReport(1, 0.0, {"val/pa_mpjpe_mm": error_mm})
        return
    epoch, walk = 0, 0.0
    if resume is not None:
        epoch = json.loads((resume / "manifest.json").read_text())["step"]
        walk = float(load_file(resume / "weights.safetensors")["walk"][0])
    offset_mm = Path(config.data_file).stat().st_size if config.data_file else 0
    while epoch < config.epochs:
        epoch += 1
        began = time.monotonic()
        _sleep(config)
        if epoch == config.crash_at:
            raise RuntimeError(f"the script says crash at epoch {epoch}")
        if config.crash_if and Path(config.crash_if).exists():
            raise RuntimeError("the script says crash until it is fixed")
        if epoch == config.out_of_memory_at:
            _run_out_of_memory()
        marks = Path(config.marks) if config.marks else workdir
        if config.marks:
            _times(marks / f"epoch {epoch}")
        if epoch == config.die_at and _times(marks / "died") <= config.die_times:
            os.kill(os.getpid(), signal.SIGKILL)
        if epoch == config.freeze_at and _times(workdir / "frozen") == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        if epoch == config.hang_at and _times(workdir / "hung") == 1:
            threading.Event().wait()
        walk += random.Random(config.seed * 1000 + epoch).gauss(0.0, 0.05)
        error_mm = config.curve_mm[min(epoch, len(config.curve_mm)) - 1] * config.scale + walk + offset_mm
        if config.control is not None:
            error_mm = config.constant_mm
        if config.noise:
            error_mm += random.SystemRandom().uniform(0.5, 1.0) * config.noise_mm
        if epoch == config.nan_at:
            error_mm = math.nan
        collapsed = config.scale > config.collapse_above
        metrics = {
            "val/pa_mpjpe_mm": error_mm,
            "val/theta_var_ratio": 0.001 if collapsed else 0.1 * epoch,
            "val/theta_r2": 0.0 if collapsed else 0.05 * epoch,
            "val/skill": 0.0 if collapsed else 0.1 * epoch,
            "train/loss": error_mm / 10,
            "train/seconds": time.monotonic() - began,
        }
        if config.skill_p is not None:
            metrics["val/skill_p"] = config.skill_p
        folder = _save(workdir / f"epoch_{epoch:03d}", epoch, walk, config)
        try:
            yield EpochReport(epoch, float(epoch), metrics, folder, float(config.epochs))
        except GeneratorExit:
            if config.freeze_when_stopped and _times(workdir / "frozen") == 1:
                os.kill(os.getpid(), signal.SIGSTOP)
            raise
        if epoch == config.nan_at:
            return


def _sleep(config: ScriptedConfig) -> None:
    if config.slow_while is None:
        time.sleep(config.sleep_s)
        return
    end_s = time.monotonic() + config.sleep_s
    while time.monotonic() < end_s and Path(config.slow_while).exists():
        time.sleep(0.1)


def _run_out_of_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (200 << 20), limits[1]))
    try:
        hoard = [bytearray(16 << 20) for _ in range(64)]
        raise AssertionError(f"{len(hoard)} blocks of 16 MiB in 200 MiB")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _times(path: Path) -> int:
    """How often this was called with this file, this time included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("x")
    return path.stat().st_size


def _save(folder: Path, step: int, walk: float, config: ScriptedConfig) -> Path:
    """A checkpoint in the shared trainer's layout."""
    scratch = folder.with_name(f".{folder.name}.partial")
    scratch.mkdir(parents=True, exist_ok=True)
    weights = save({"walk": np.array([walk])})
    (scratch / "weights.safetensors").write_bytes(weights)
    if config.picture and step == config.epochs:
        (scratch / "predictions.jpg").write_bytes(b"a picture")
    manifest = {
        "format": 1,
        "step": step,
        "epoch": float(step),
        "config": config.model_dump(),
        "files": {"weights.safetensors": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}},
    }
    (scratch / "manifest.json").write_text(json.dumps(manifest))
    if not folder.exists():
        scratch.rename(folder)
    return folder
