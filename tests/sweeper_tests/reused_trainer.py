"""A trainer whose trials share a process, and may lose their GPU. Imports nothing slow."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mano_trainers.report import EpochReport

REUSE_PROCESS = True


def train(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    yield EpochReport(1, 1.0, {"pid": float(os.getpid())})
    if config.get("loses_gpu"):
        raise RuntimeError("CUDA error: unspecified launch failure")
    yield EpochReport(2, 2.0, {"pid": float(os.getpid())})
