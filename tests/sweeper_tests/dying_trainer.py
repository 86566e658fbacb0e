"""A trainer whose preflight ends its process."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripted_trainer import ScriptedConfig
from scripted_trainer import train as scripted_train

from mano_trainers.report import CheckResult, EpochReport

PREFLIGHT = "dying_trainer:preflight"


def train(config: ScriptedConfig, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    return scripted_train(config, workdir, resume)


def preflight(config: ScriptedConfig, corners: Sequence[ScriptedConfig]) -> Iterator[CheckResult]:
    os._exit(7)
