"""One trial in one Ray actor, which is reused: the trial itself runs in a process of its own (`trainer_process`)."""

import json
import os
from contextlib import AbstractContextManager, chdir, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from ray import tune

from sweeper.checkpoints.object_store import StoreUnavailable
from sweeper.checkpoints.upload import CheckpointUploader, UploadSettings
from sweeper.entrypoint.trial.log import LOG, last_lines
from sweeper.entrypoint.trial.messages import (
    Answer,
    Gone,
    Raised,
    Ready,
    Reported,
    StoreLost,
    TrialOrder,
    Unfit,
    to_json,
)
from sweeper.entrypoint.trial.mlflow_run import RUN_FILE
from sweeper.executor.worker.lane_seat import LaneSeat
from sweeper.executor.worker.node_check import unfit
from sweeper.executor.worker.trainer_process import TrainerProcess

LAST_LINES: Final = 5
LONGEST_OUTPUT: Final = 1 << 16


@dataclass(frozen=True)
class Job:
    """What a worker needs to run a trial from its start or from a checkpoint."""

    trainer: str
    config: dict[str, Any]
    workdir: str
    resume: str | None
    gpus: float
    folder: str
    """The working folder of the driver, and so of the trial."""
    expected: dict[str, Any] | None = None
    """What this machine must have, if it is not the driver's (see `node_check`)."""
    parcel: dict[str, Any] | None = None
    """The store of checkpoints, instead of `workdir` and `resume` (see `checkpoints.upload`)."""

    attempt: str = ""
    """Name of a folder in `workdir` to train in, if another worker may still be training there; empty: `workdir`
    itself."""

    lanes: dict[str, str] | None = None
    """Its place in a process that trains several trials (arguments of a `LaneSeat`); None: it has its own process."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def _in_folder(folder: str) -> AbstractContextManager[None]:
    """In the driver's working folder, if it is on this machine."""
    return chdir(folder) if os.path.isdir(folder) else nullcontext()


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """Passes the trainer's reports to Tune, one per step. An exception of the trainer is a result, not a crash: only a
    lost process is worth a retry."""

    _process: TrainerProcess | LaneSeat | None = None

    def setup(self, config: dict[str, Any]) -> None:
        self._job = Job(**json.loads(config["job"]))
        self._courier: CheckpointUploader | None = None
        self._fit = self._started = False
        self._told_bytes = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._leave()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            if not self._started:
                if self._job.expected and not self._fit:
                    with _in_folder(self._job.folder):  # like the trial: a command's script is relative to it
                        problem = unfit(self._job.trainer, self._job.expected)
                    self._fit = problem is None
                    return _result(Ready() if problem is None else Unfit(problem))
                self._start()
            assert self._process is not None
            answer = self._process.next()
            answer = self._stored(answer) if isinstance(answer, Reported) else self._finished(answer)
        except StoreUnavailable as lost:
            return _result(StoreLost(str(lost)))
        return _result(answer, self._new_output())

    def _stored(self, report: Reported) -> Reported:
        """The report, with its checkpoint in the store if there is one."""
        checkpoint = Path(report.checkpoint) if report.checkpoint else None
        manifest = self._courier.send(checkpoint) if self._courier and checkpoint else None
        passed_over = self._courier.passed_over if self._courier else ()
        return replace(report, checkpoint=self._named(checkpoint), manifest=manifest, passed_over=passed_over)

    def _finished(self, answer: Answer) -> Answer:
        """The trial's last answer, with the last lines of its log if those say more than the answer."""
        assert self._process is not None
        self._process.close()  # now the log is complete
        if isinstance(answer, Gone) or (isinstance(answer, Raised) and answer.of_program):
            return replace(answer, last_lines=last_lines(self._log, LAST_LINES))
        return answer

    def cleanup(self) -> None:
        """The worker ends."""
        self._leave()
        if self._process is not None:
            self._process.end()
            self._process = None

    def _start(self) -> None:
        """Hand the trial to the process that has the trainer's module."""
        workdir, resume = self._folders()
        place = workdir if self._courier else Path(self._job.workdir)  # part of what all attempts share
        self._log = place / LOG
        self._told_bytes = self._log.stat().st_size if self._log.exists() else 0
        folder = Path(self._job.folder)
        if self._job.lanes:
            if self._process is not None:
                self._process.end()
            self._process = LaneSeat(self._job.lanes["address"], Path(self._job.lanes["output"]), self._log)
        elif self._process is None or not self._process.is_alive:
            self._process = TrainerProcess(self._job.trainer, folder, self._log)
        self._process.start(
            TrialOrder(
                config=self._job.config,
                workdir=str(workdir),
                resume=str(resume) if resume else None,
                folder=str(folder),
                log=str(self._log),
                run_file=None if self._courier else str(place / RUN_FILE),
                environment=self._environment(),
            )
        )
        self._started = True

    def _environment(self) -> dict[str, str]:
        if self._job.gpus == 0:
            return {"CUDA_VISIBLE_DEVICES": ""}  # Ray leaves it unset, and `device: auto` would take a GPU
        # torch uses no more of its memory than that; and a trainer that finds no GPU knows that it was given one.
        return {"TRAINERS_GPU_SHARE": str(min(1, self._job.gpus))}

    def _folders(self) -> tuple[Path, Path | None]:
        """Where the trial works, and the checkpoint that it resumes from."""
        if self._job.parcel:
            self._courier = CheckpointUploader(UploadSettings(**self._job.parcel))
            return self._courier.workdir, self._courier.resume()
        workdir = Path(self._job.workdir) / self._job.attempt
        umask = os.umask(0o077)  # a cluster's node has its own
        workdir.mkdir(parents=True, exist_ok=True)
        os.umask(umask)
        return workdir, Path(self._job.resume) if self._job.resume else None

    def _named(self, checkpoint: Path | None) -> str | None:
        """A checkpoint by its place in the study's folder, where it need not be."""
        if checkpoint is None:
            return None
        return str(Path(self._job.workdir) / self._job.attempt / checkpoint.name) if self._courier else str(checkpoint)

    def _new_output(self) -> str:
        """What the trial has written since the last message, if its log is not in the study's folder."""
        if not self._courier or not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            self._told_bytes = min(self._told_bytes, self._log.stat().st_size)  # shorter than sent: restarted
            file.seek(max(self._told_bytes, self._log.stat().st_size - LONGEST_OUTPUT))
            data = file.read()
            self._told_bytes = file.tell()
        return data.decode(errors="replace")

    def _leave(self) -> None:
        """The trial is done here."""
        if self._process is not None and self._started:
            self._process.close()
        self._started = False
        if self._courier:
            self._courier.close()
            self._courier = None


def _result(answer: Answer, output: str = "") -> dict[str, Any]:
    # One string: Tune flattens nested results and copies them in many places.
    return {"message": to_json(answer), "output": output}
