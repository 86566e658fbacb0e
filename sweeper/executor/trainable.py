"""One trial in one Ray actor. The actor is reused: a new trial resets everything the trainer does not seed itself."""

import contextlib
import gc
import json
import os
import random
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from mano_trainers.report import EpochReport
from sweeper.checkpoints.object_store import StoreUnavailable
from sweeper.checkpoints.upload import CheckpointUploader, UploadSettings
from sweeper.entrypoint.call import described, start_training, traced
from sweeper.executor.node_check import unfit
from sweeper.redaction import redact


@dataclass(frozen=True)
class Job:
    """What a worker needs to run a trial from its start or from a checkpoint."""

    trainer: str
    config: dict[str, Any]
    workdir: str
    resume: str | None
    gpus: float
    expected: dict[str, Any] | None = None
    """What this machine must have, if it is not the driver's (see `node.py`)."""
    parcel: dict[str, Any] | None = None
    """The store of checkpoints, instead of `workdir` and `resume` (see `courier.py`)."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """Hands the trainer's reports to Tune, one a step. An exception of the trainer is a result, not a crash:
    only a lost process is worth a retry."""

    def setup(self, config: dict[str, Any]) -> None:
        self._umask = os.umask(0o077)  # a cluster's node has its own
        self._job = Job(**json.loads(config["job"]))
        self._environment = dict(os.environ)
        self._folder = Path.cwd()
        random.seed(0)  # a trainer that draws from global generators gets the same in a used process as in a new one
        np.random.seed(0)
        if self._job.gpus == 0:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves it unset, and `device: auto` would take a GPU
        elif self._job.gpus < 1:
            os.environ["TRAINERS_GPU_SHARE"] = str(self._job.gpus)  # torch takes no more of its memory than that
        self._reports: Iterator[EpochReport] | None = None
        self._courier: CheckpointUploader | None = None
        self._fit = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self._reports is None:
                if self._job.expected and not self._fit:
                    self._fit = not (problem := unfit(self._job.trainer, self._job.expected))
                    return _message(kind="ready") if self._fit else _message(kind="unfit", problem=problem)
                self._reports = start_training(self._job.trainer, self._job.config, *self._folders())
            report = next(self._reports, None)
            manifest = self._courier.send(report.checkpoint) if self._courier and report and report.checkpoint else None
        except StoreUnavailable as lost:
            return _message(kind="lost", problem=str(lost))
        except BaseException as error:  # a KeyboardInterrupt that the trainer raises, asyncio's CancelledError, its own
            # Here, where the environment is whose secrets may stand in it: the driver's may be another.
            return _message(kind="error", error=redact(described(error)), traceback=redact(traced(error)))
        if report is None:
            return _message(kind="end")
        return _message(
            kind="report",
            step=report.step,
            epoch=report.epoch,
            total_epochs=report.total_epochs,
            metrics=report.metrics,
            checkpoint=self._named(report.checkpoint),
            manifest=manifest,
            passed_over=self._courier.passed_over if self._courier else [],
        )

    def _folders(self) -> tuple[Path, Path | None]:
        """Where the trial works, and the checkpoint that it goes on from."""
        if self._job.parcel:
            self._courier = CheckpointUploader(UploadSettings(**self._job.parcel))
            return self._courier.workdir, self._courier.resume()
        workdir = Path(self._job.workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        return workdir, Path(self._job.resume) if self._job.resume else None

    def _named(self, checkpoint: Path | None) -> str | None:
        """A checkpoint by its place in the study's folder, where it need not lie."""
        if checkpoint is None:
            return None
        return str(Path(self._job.workdir) / checkpoint.name) if self._courier else str(checkpoint)

    def cleanup(self) -> None:
        """Leave the process as the trial found it."""
        if isinstance(self._reports, Generator):
            with contextlib.suppress(Exception):
                self._reports.close()  # the trainer puts back what it set for the process, threads for one
        self._reports = None
        if self._courier:
            self._courier.close()
            self._courier = None
        gc.collect()
        if not gc.get_freeze_count():
            gc.freeze()  # the modules of Ray and the trainer: to look through them after every trial costs 0.1 s
        os.environ.clear()
        os.environ.update(self._environment)
        os.chdir(self._folder)
        os.umask(self._umask)


def _message(**content: Any) -> dict[str, Any]:
    # One string: Tune flattens nested results and copies them in many places.
    return {"message": json.dumps(content)}
