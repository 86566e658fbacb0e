"""A trainer that does nothing but report, for what the orchestrator itself costs. Imports nothing heavy."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mano_trainers.report import EpochReport

OBJECTIVE = "val/pa_mpjpe_mm"


class NoopConfig(BaseModel):
    """`log`: a file to which each report's trial, step and time are appended as it is made; `more_metrics`: how many
    are reported beside the objective."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    epochs: int = 1
    scale: float = 1.0
    offset: float = 0.0
    sleep_s: float = 0.0
    checkpoints: bool = False
    log: str | None = None
    more_metrics: int = 0


def error_mm(scale: float, offset: float, step: int) -> float:
    """What the script says of a configuration after so many reports: it falls, and never crosses another's."""
    return 5.0 + scale + offset + 10.0 / step


def train(config: NoopConfig, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    done = json.loads((resume / "manifest.json").read_text())["step"] if resume else 0
    for step in range(done + 1, config.epochs + 1):
        nap(config.sleep_s)
        folder = save(workdir / f"epoch_{step:03d}", step) if config.checkpoints else None
        note(config.log, workdir.name, step)
        metrics = {OBJECTIVE: error_mm(config.scale, config.offset, step)}
        metrics |= {f"val/more_{number}": number + 0.1 * step for number in range(config.more_metrics)}
        yield EpochReport(step, float(step), metrics, folder, float(config.epochs))


def nap(seconds: float) -> None:
    """Sleep; for 0 not even give the processor away."""
    if seconds:
        time.sleep(seconds)


def note(log: str | None, trial: str, step: int) -> None:
    """One line a report: trial, step, time."""
    if log is not None:
        with open(log, "a") as file:
            file.write(f"{trial} {step} {time.time():.3f}\n")


def save(folder: Path, step: int) -> Path:
    """The smallest checkpoint that counts as one, written under another name first."""
    scratch = folder.with_name(f".{folder.name}.partial")
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "manifest.json").write_text(json.dumps({"step": step, "files": {}}))
    if not folder.exists():
        scratch.rename(folder)
    return folder
