"""The driver's handle on MLflow: every method appends to the outbox and returns; a thread delivers.

A server that is down, slow or hung means a longer outbox, never a slower trial or a lost metric.
"""

import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sweeper.checkpoints.object_store import ObjectStore
from sweeper.tracking.delivery.operations import (
    Copy,
    ExperimentTags,
    Finish,
    LogMetrics,
    Open,
    Start,
    Status,
    Tag,
    from_json,
    param_texts,
    tag_texts,
    tags_key,
)
from sweeper.tracking.delivery.run_writer import RunWriter
from sweeper.tracking.delivery.runs import Delivered
from sweeper.tracking.delivery.thread import DeliveryThread
from sweeper.tracking.outbox import REJECTS, Outbox, deliver_anew_elsewhere
from sweeper.tracking.store.database import refuse_newer


class Tracker:
    """Records one study in MLflow.

    What is reported twice for the same trial and step is recorded once, the first time, so a driver that resumes may
    repeat everything in its ledger. Opening a Tracker on the folder of an earlier one first delivers what that one
    left.

    Args:
        study_dir: the study's folder; holds the outbox.
        tracking_uri: of the store: :func:`sweeper.tracking.tracking_uri`.
        artifact_root: folder under which a new experiment keeps its artifacts; None leaves it to the server.
        study_name: name of the MLflow experiment and of its parent run.
        on_run: called as ``on_run(trial_id, mlflow_run_id)`` from the delivering thread, once a trial.
        paused: deliver nothing before :meth:`deliver`.
        store: holds the checkpoints, instead of the study's folder.
        stream: ID of the outbox as the ledger knows it; None: it does not.
    """

    def __init__(
        self,
        study_dir: Path,
        tracking_uri: str,
        artifact_root: str | Path | None,
        study_name: str,
        on_run: Callable[[str, str], None] | None = None,
        *,
        paused: bool = False,
        store: ObjectStore | None = None,
        stream: str | None = None,
    ) -> None:
        self._study_dir = study_dir.resolve()
        self._seen: set[tuple[str | None, int | str]] = set()
        self._settled: dict[str | None, Finish] = {}  # None: the study itself
        self._started: set[str | None] = set()
        self._last_epoch: dict[str | None, float] = {}
        refuse_newer(tracking_uri)
        self._outbox = outbox = Outbox(study_dir)
        deliver_anew_elsewhere(outbox, study_dir, tracking_uri)
        known = self._recall(outbox)
        self.stream = stream = stream or known or uuid.uuid4().hex
        self._writer = RunWriter(
            self._study_dir,
            tracking_uri,
            artifact_root,
            study_name,
            stream,
            on_run,
            store,
            may_create=not outbox.has_delivered,
        )
        self._thread = DeliveryThread(outbox, self._writer, study_dir / REJECTS)
        if known != stream:
            self._thread.append(Open(stream))
        if not paused:
            self.deliver()

    @property
    def problem(self) -> str | None:
        """Why nothing is delivered at the moment, in one line without secrets; None while all is well."""
        return self._thread.problem

    @property
    def waiting(self) -> int:
        """Operations that are not delivered yet."""
        return self._thread.waiting

    @property
    def notices(self) -> tuple[str, ...]:
        """What people must know about the store: that its database was repaired, for example."""
        return tuple(self._writer.notices)

    @property
    def run_ids(self) -> dict[str, str]:
        """MLflow run IDs known so far, by trial ID; the parent run's by the study's name."""
        return dict(self._writer.run_ids)

    @property
    def ending(self) -> Finish | None:
        """How the parent run was settled since the study last started, by this Tracker or an earlier one."""
        return self._settled.get(None)

    def deliver(self) -> None:
        """Start to deliver, if the Tracker was made `paused`."""
        self._thread.start()

    @property
    def restored(self) -> int:
        """Operations that are delivered again, since MLflow had lost what they were."""
        return self._thread.restored

    def deliver_all_again(self) -> None:
        """Deliver everything from the start, before `deliver`: what MLflow has already does not change."""
        self._outbox.rewind()

    def verify(self) -> None:
        """Let `flush` check whether MLflow has everything that was ever delivered, and redeliver what it lost."""
        self._thread.verify(
            {
                trial: Delivered(
                    status=self._settled[trial].status if trial in self._settled else None,
                    epoch=self._last_epoch.get(trial),
                )
                for trial in self._started
            }
        )

    def start_study(
        self, tags: Mapping[str, Any], artifacts: Mapping[str, str], datasets: Mapping[str, str] | None = None
    ) -> None:
        """Open the parent run (or open it again), set its tags, and store `artifacts` (file name -> text).

        `datasets`: name -> digest of what is trained on, for the UI's column of data sets.
        """
        self._start(Start(None, _now_ms(), tag_texts(tags), dict(artifacts), {}, dict(datasets or {})))

    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set tags of the study's experiment."""
        self._thread.append(ExperimentTags(dict(tags)))

    def start_trial(
        self,
        trial_id: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        artifacts: Mapping[str, str],
        datasets: Mapping[str, str] | None = None,
    ) -> None:
        """Open the trial's run (or open it again). `params` are the UI's columns; `artifacts` hold ``trial.yaml``."""
        told = Start(trial_id, _now_ms(), tag_texts(tags), dict(artifacts), param_texts(params), dict(datasets or {}))
        self._start(told)

    def has_started(self, trial_id: str | None) -> bool:
        """Whether the start of a trial (None: of the study) is or was in this outbox."""
        return trial_id in self._started

    def restore_trial(
        self,
        trial_id: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        artifacts: Mapping[str, str],
        datasets: Mapping[str, str],
        started_ms: int | None,
    ) -> None:
        """As `start_trial`, of a trial that another outbox may have started: what MLflow has of it already stays."""
        self._started.add(trial_id)
        texts, started_ms = tag_texts(tags), started_ms or _now_ms()
        told = Start(trial_id, started_ms, texts, dict(artifacts), param_texts(params), dict(datasets), True)
        self._thread.append(told)

    def tag_trial(self, trial_id: str, tags: Mapping[str, Any]) -> None:
        """Set tags of a trial; said again with the same tags, it is ignored."""
        told = Tag(trial_id, _now_ms(), tag_texts(tags))
        if self._first(trial_id, tags_key(told.tags)):
            self._thread.append(told)

    def report(self, trial_id: str | None, step: int, timestamp_ms: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one evaluation; None: of the parent run. A step already reported is ignored."""
        if self._first(trial_id, step):
            values = {name: float(value) for name, value in metrics.items()}
            told = LogMetrics(trial_id, step, timestamp_ms, values)
            self._note_epoch(told)
            self._thread.append(told)

    def checkpoint(self, trial_id: str, folder: Path, artifact_path: str) -> None:
        """Copy a checkpoint folder into the run's artifacts as `artifact_path`, ``checkpoints/epoch_003`` say.

        The folder must stay until this is delivered. What was copied once to this path is not copied again.
        """
        self._copy("checkpoint", trial_id, folder, artifact_path)

    def file(self, trial_id: str, file: Path, artifact_path: str) -> None:
        """Copy one file into the run's artifacts as `artifact_path`, which ends with its name; else as `checkpoint`."""
        self._copy("file", trial_id, file, artifact_path)

    def pictures(self, trial_id: str, folder: Path, artifact_path: str) -> None:
        """Copy the pictures of a checkpoint that lies in a store into the run's artifacts, and into its folder here."""
        self._copy("pictures", trial_id, folder, artifact_path)

    def study_file(self, file: Path) -> None:
        """Copy one file into the parent run's artifacts, in the place of an earlier one of its name. Must stay, as a
        checkpoint must; if it has changed by then, what it holds then is copied."""
        self._thread.append(Copy(None, _now_ms(), file.name, self._relative(file), "file"))

    def finish_trial(
        self, trial_id: str, mlflow_status: Status, tags: Mapping[str, Any], ended_ms: int | None = None
    ) -> None:
        """Settle a trial: `mlflow_status` is FINISHED, FAILED or KILLED; `tags` say state and reason.

        Said again of a trial that has not started again, it is ignored, so the time of its end stays.
        That is now, or `ended_ms`.
        """
        self._settle(Finish(trial_id, ended_ms or _now_ms(), mlflow_status, tag_texts(tags)))

    def finish_study(self, status: Status, tags: Mapping[str, Any], artifacts: Mapping[str, str]) -> None:
        """Settle the parent run, and store the summary's `artifacts`. Said again, it is ignored as for a trial."""
        self._settle(Finish(None, _now_ms(), status, tag_texts(tags), dict(artifacts)))

    def flush(self, timeout_s: float, stalled_s: float = math.inf) -> int:
        """As :meth:`DeliveryThread.flush`."""
        return self._thread.flush(timeout_s, stalled_s)

    def close(self) -> None:
        """Stop delivering. What is left stays in the outbox for the next Tracker on this folder."""
        self._thread.close()

    def _start(self, start: Start) -> None:
        self._settled.pop(start.trial, None)
        self._started.add(start.trial)
        self._thread.append(start)

    def _copy(self, what: Literal["checkpoint", "pictures", "file"], trial_id: str, source: Path, path: str) -> None:
        if self._first(trial_id, path):
            self._thread.append(Copy(trial_id, _now_ms(), path, self._relative(source), what))

    def _settle(self, finish: Finish) -> None:
        before = self._settled.get(finish.trial)
        if before is None or replace(finish, ms=before.ms) != before:
            self._settled[finish.trial] = finish
            self._thread.append(finish)

    def _relative(self, path: Path) -> str:
        """The path as the outbox keeps it: a study's folder may move before all is delivered."""
        absolute = path.resolve()
        return str(absolute.relative_to(self._study_dir) if absolute.is_relative_to(self._study_dir) else absolute)

    def _recall(self, outbox: Outbox) -> str | None:
        """Read what earlier Trackers appended: reports, copies, ends of trials, and the ID of the outbox."""
        stream: str | None = None
        for record in outbox.operations():
            try:
                operation = from_json(record)
            except ValueError:  # the thread reports it when it gets there
                continue
            match operation:
                case Open():
                    stream = operation.stream
                case Start():
                    self._settled.pop(operation.trial, None)
                    self._started.add(operation.trial)
                case Finish():
                    self._settled[operation.trial] = operation
                case LogMetrics():
                    self._seen.add((operation.trial, operation.step))
                    self._note_epoch(operation)
                case Copy():
                    self._seen.add((operation.trial, operation.path))
                case Tag():
                    self._seen.add((operation.trial, tags_key(operation.tags)))
        return stream

    def _note_epoch(self, report: LogMetrics) -> None:
        if "epoch" in report.metrics:
            self._last_epoch[report.trial] = report.metrics["epoch"]

    def _first(self, trial_id: str | None, what: int | str) -> bool:
        if (trial_id, what) in self._seen:
            return False
        self._seen.add((trial_id, what))
        return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
