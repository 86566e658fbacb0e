"""A trainer that offers lanes, without torch: each lane is the generator of its own single run.

Named in a spec as ``trainer: lanes_trainer:train`` with this folder on PYTHONPATH.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import save

from mano_trainers.report import EpochReport, Lane

LANES = "lanes_trainer:train_lanes"


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 1
    """Lanes have one size."""
    scale: float = 1.0
    epochs: int = 4
    crash_at: int | None = None
    """Raise instead of reporting this epoch, alone and in a lane, where nothing says which one it was."""
    refuses_at: int | None = None
    """The same, but it is known which lane it was."""
    die_at: int | None = None
    """End the process instead of reporting this epoch, if it trains several lanes."""
    most: int = 8
    """More lanes than that do not fit."""
    sleep_s: float = 0.0


class Refused(Exception):
    """An error for which the lane is known."""


def lanes_problem(configs: Sequence[Config], *, on_gpu: bool) -> str | None:
    sizes = {config.size for config in configs}
    return f"sizes differ: {sorted(sizes)}" if len(sizes) > 1 else None


def train(config: Config, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    epoch = 0 if resume is None else json.loads((resume / "manifest.json").read_text())["step"]
    while epoch < config.epochs:
        epoch += 1
        time.sleep(config.sleep_s)
        if epoch == config.crash_at:
            raise RuntimeError(f"the script says crash at epoch {epoch}")
        if epoch == config.refuses_at:
            raise Refused(f"the script says no at epoch {epoch}")
        folder = workdir / f"epoch_{epoch:03d}"
        folder.mkdir(exist_ok=True)
        (folder / "weights.safetensors").write_bytes(save({"epoch": np.array([float(epoch)])}))
        (folder / "manifest.json").write_text(json.dumps({"step": epoch, "epoch": epoch, "files": {}}))
        own = {"pid": float(os.getpid()), "lanes": 1.0, "train/seconds": config.sleep_s}
        metrics = {"val/pa_mpjpe_mm": config.scale * (10.0 - epoch)} | own
        yield EpochReport(epoch, float(epoch), metrics, folder, float(config.epochs))


def train_lanes(next_round: Callable[[], Sequence[Lane]]) -> Iterator[tuple[Lane, EpochReport | Exception | None]]:
    runs: dict[Lane, Iterator[EpochReport]] = {}
    while lanes := next_round():
        print(f"a round of {len(lanes)} lanes")
        if len(lanes) > min(lane.config.most for lane in lanes):
            raise MemoryError(f"no room for {len(lanes)} lanes")
        runs = {lane: runs.get(lane) or train(lane.config, lane.workdir, lane.resume) for lane in lanes}
        reports: dict[Lane, EpochReport | Exception | None] = {}
        for lane, run in runs.items():  # as one step of all lanes
            try:
                report = reports[lane] = next(run, None)
            except Refused as error:
                reports[lane] = error
            else:
                if report and report.step == lane.config.die_at and len(lanes) > 1:
                    os.kill(os.getpid(), signal.SIGKILL)
        for lane, outcome in reports.items():
            if isinstance(outcome, EpochReport):
                outcome.metrics["lanes"] = float(len(lanes))  # type: ignore[index]
            yield lane, outcome
