"""Like the scripted trainer, but a trial of scale 1 fails, and prints and raises every secret it can lay hands on."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import scripted_trainer
from scripted_trainer import ScriptedConfig

from mano_trainers.report import EpochReport

VARIABLES = ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MLFLOW_TRACKING_PASSWORD", "SWEEPER_WEBHOOK")


def train(config: ScriptedConfig, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    if config.scale == 1.0:
        held = [os.environ[name] for name in VARIABLES]
        url = f"postgresql://me:{held[1]}@db/x and s3://key:{held[0]}@bucket/x"
        for stream in (sys.stdout, sys.stderr):
            print(url, *held, file=stream, flush=True)
        raise RuntimeError(f"cannot reach {url} with {held}")
    yield from scripted_trainer.train(config, workdir, resume)
