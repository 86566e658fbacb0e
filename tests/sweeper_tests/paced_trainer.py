"""A trainer that says what an epoch is and how fast two GPUs are: ``trainer: paced_trainer:train``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mano_trainers.report import EpochReport, EpochWork, GpuRate


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = 10
    size: Literal[1, 2, 4] = 1
    """How much slower than the smallest network."""
    lr: float = 0.1
    says: Literal["work", "nothing", "text", "error"] = "work"


def train(config: Config, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    for epoch in range(1, config.epochs + 1):
        yield EpochReport(epoch, epoch, {"error": config.lr}, total_epochs=config.epochs)


def epoch_work(config: Config) -> object:
    match config.says:
        case "nothing":
            return None
        case "text":
            return "3600 images"
        case "error":
            raise LookupError("no such table")
        case _:
            slow, fast = (GpuRate(gpu, rate / config.size, 2.0, "a test") for gpu, rate in (("T4", 1.0), ("Z9", 10.0)))
            return EpochWork(3600.0, "a test's own", (slow, fast))
