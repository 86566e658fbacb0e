"""The driver's handle on MLflow: every method appends to the outbox and returns; one thread delivers.

A server that is down, slow or hung means a longer outbox, never a slower trial or a lost metric.
"""

import contextlib
import itertools
import json
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sweeper.checkpoints.object_store import Depot
from sweeper.redaction import redact
from sweeper.tracking.delivery import RejectedError, StudyStore
from sweeper.tracking.outbox import Operation, Outbox

READ_OPERATIONS = 1000
IN_ANY_ORDER = ("report", "checkpoint", "file", "pictures")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
JOIN_S = 2.0
STREAM: Final = "outbox"
"""The study's attribute in the ledger that keeps the ID of its outbox, for a home that adopts the study."""


class Tracker:
    """Records one study in MLflow.

    What is reported twice for the same trial and step is recorded once, the first time, so a driver that resumes may
    repeat everything in its ledger. Opening a Tracker on the folder of an earlier one delivers the rest of that first.

    Args:
        study_dir: the study's folder; holds the outbox.
        tracking_uri: of the store: :func:`sweeper.tracking.tracking_uri`.
        artifact_root: folder under which a new experiment keeps its artifacts; None leaves it to the server.
        study_name: name of the MLflow experiment and of its parent run.
        on_run: called as ``on_run(trial_id, mlflow_run_id)`` from the delivering thread, once a trial.
        paused: deliver nothing before :meth:`deliver`.
        store: holds the checkpoints, instead of the study's folder.
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
        store: Depot | None = None,
    ) -> None:
        self._outbox = Outbox(study_dir)
        self._backlog: deque[Operation] = deque()
        self._backlog_lock = threading.Lock()
        self._seen: set[tuple[str | None, int | str]] = set()
        self._settled: dict[str | None, Operation] = {}  # None: the study itself
        self._rejects = study_dir / "outbox.rejected.jsonl"
        self._deliver_anew_elsewhere(study_dir, tracking_uri)
        self._started: set[str | None] = set()
        known = self._recall()
        self.stream = stream = known or uuid.uuid4().hex
        self._study_dir = study_dir.resolve()
        self._store = StudyStore(self._study_dir, tracking_uri, artifact_root, study_name, stream, on_run, store)
        self._problem: str | None = None
        self._closed = False
        self._more, self._retry = threading.Event(), threading.Event()
        self._delivered = threading.Condition()
        if not known:
            self._append({"op": "open", "stream": stream})
        self._thread = threading.Thread(target=self._deliver, name="mlflow-outbox", daemon=True)
        if not paused:
            self.deliver()

    @property
    def problem(self) -> str | None:
        """Why nothing is delivered at the moment, in one line without secrets; None while all is well."""
        return self._problem

    @property
    def left(self) -> int:
        """Operations that are not delivered yet."""
        return self._left()

    @property
    def run_ids(self) -> dict[str, str]:
        """MLflow run IDs known so far, by trial ID; the parent run's by the study's name."""
        return dict(self._store.run_ids)

    @property
    def is_settled(self) -> bool:
        """Whether the parent run was settled since the study last started, by this Tracker or an earlier one."""
        return None in self._settled

    def deliver(self) -> None:
        """Start to deliver, if the Tracker was made `paused`."""
        self._thread.start()

    def start_study(
        self, tags: Mapping[str, Any], artifacts: Mapping[str, str], datasets: Mapping[str, str] | None = None
    ) -> None:
        """Open the parent run (or open it again), set its tags, and store `artifacts` (file name -> text).

        `datasets`: name -> digest of what is trained on, for the UI's column of data sets.
        """
        self._settled.pop(None, None)
        self._started.add(None)
        self._append({**_operation("start", None, tags, artifacts), "datasets": dict(datasets or {})})

    def start_trial(
        self,
        trial_id: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        artifacts: Mapping[str, str],
        datasets: Mapping[str, str] | None = None,
    ) -> None:
        """Open the trial's run (or open it again). `params` are the UI's columns; `artifacts` hold ``trial.yaml``."""
        self._settled.pop(trial_id, None)
        self._started.add(trial_id)
        self._append({**_operation("start", trial_id, tags, artifacts, params), "datasets": dict(datasets or {})})

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
        operation = {**_operation("start", trial_id, tags, artifacts, params), "datasets": dict(datasets)}
        self._append({**operation, "ms": started_ms or operation["ms"], "restored": True})

    def tag_trial(self, trial_id: str, tags: Mapping[str, Any]) -> None:
        """Set tags of a trial; said again with the same tags, it is ignored."""
        if self._first(trial_id, f"tags {json.dumps(dict(tags), sort_keys=True)}"):
            self._append(_operation("tags", trial_id, tags, {}))

    def report(self, trial_id: str | None, step: int, timestamp_ms: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one evaluation; None: of the parent run. A step already reported is ignored."""
        if self._first(trial_id, step):
            values = {name: float(value) for name, value in metrics.items()}
            self._append({"op": "report", "trial": trial_id, "step": step, "ms": timestamp_ms, "metrics": values})

    def checkpoint(self, trial_id: str, folder: Path, artifact_path: str) -> None:
        """Copy a checkpoint folder into the run's artifacts as `artifact_path`, ``checkpoints/epoch_003`` say.

        The folder must stay until this is delivered. What was copied once to this path is not copied again.
        """
        if self._first(trial_id, artifact_path):
            operation = {"op": "checkpoint", "trial": trial_id, "ms": _now_ms(), "path": artifact_path}
            self._append({**operation, "folder": self._relative(folder)})

    def file(self, trial_id: str, file: Path, artifact_path: str) -> None:
        """Copy one file into the run's artifacts as `artifact_path`, which ends with its name; else as `checkpoint`."""
        if self._first(trial_id, artifact_path):
            operation = {"op": "file", "trial": trial_id, "ms": _now_ms(), "path": artifact_path}
            self._append({**operation, "file": self._relative(file)})

    def pictures(self, trial_id: str, folder: Path, artifact_path: str) -> None:
        """Copy the pictures of a checkpoint that lies in a store into the run's artifacts, and into its folder here."""
        if self._first(trial_id, artifact_path):
            operation = {"op": "pictures", "trial": trial_id, "ms": _now_ms(), "path": artifact_path}
            self._append({**operation, "folder": self._relative(folder)})

    def study_file(self, file: Path) -> None:
        """Copy one file into the parent run's artifacts, in the place of an earlier one of its name. Must stay, as a
        checkpoint must; if it has changed by then, what it holds then is copied."""
        self._append({"op": "file", "trial": None, "ms": _now_ms(), "path": file.name, "file": self._relative(file)})

    def finish_trial(
        self, trial_id: str, mlflow_status: str, tags: Mapping[str, Any], ended_ms: int | None = None
    ) -> None:
        """Settle a trial: `mlflow_status` is FINISHED, FAILED or KILLED; `tags` say state and reason.

        Said again of a trial that has not started again, it is ignored, so the time of its end stays.
        That is now, or `ended_ms`.
        """
        operation = _operation("finish", trial_id, tags, {})
        self._settle({**operation, "ms": ended_ms or operation["ms"], "status": mlflow_status})

    def finish_study(self, status: str, tags: Mapping[str, Any], artifacts: Mapping[str, str]) -> None:
        """Settle the parent run, and store the summary's `artifacts`. Said again, it is ignored as for a trial."""
        self._settle({**_operation("finish", None, tags, artifacts), "status": status})

    def flush(self, timeout_s: float, stalled_s: float = math.inf) -> int:
        """Wait until everything is delivered, at most `timeout_s` seconds. Returns the operations left.

        Gives up early when there is a problem and nothing was delivered for `stalled_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            self._outbox.sync()
        self._retry.set()
        with self._delivered:
            while left := self._left():
                wait_s = min(deadline - time.monotonic(), stalled_s)
                if wait_s <= 0:
                    break
                # Woken at each delivery; the thread has said what the problem is before the time is over.
                if not self._delivered.wait(wait_s) and self._left() >= left and self._problem is not None:
                    break
        return self._left()

    def close(self) -> None:
        """Stop delivering. What is left stays in the outbox for the next Tracker on this folder."""
        if self._closed:
            return
        self._closed = True
        self._more.set()
        self._retry.set()
        with contextlib.suppress(OSError):
            self._save()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        if not self._thread.is_alive():  # a thread that hangs in a call still needs the file
            self._outbox.close()

    def _relative(self, path: Path) -> str:
        """The path as the outbox keeps it: a study's folder may move before all is delivered."""
        absolute = path.resolve()
        return str(absolute.relative_to(self._study_dir) if absolute.is_relative_to(self._study_dir) else absolute)

    def _left(self) -> int:
        return self._outbox.left + len(self._backlog)

    def _recall(self) -> str | None:
        """Read what earlier Trackers appended: reports, checkpoints, ends of trials, and the ID of the outbox."""
        stream: str | None = None
        for operation in self._outbox.operations():
            match operation["op"]:
                case "start":
                    self._settled.pop(operation["trial"], None)
                    self._started.add(operation["trial"])
                case "finish":
                    self._settled[operation["trial"]] = operation
                case "open":
                    stream = operation["stream"]
                case "report":
                    self._seen.add((operation["trial"], operation["step"]))
                case "checkpoint" | "file" | "pictures":
                    self._seen.add((operation["trial"], operation["path"]))
                case "tags":
                    self._seen.add((operation["trial"], f"tags {json.dumps(operation['tags'], sort_keys=True)}"))
        return stream

    def _settle(self, operation: Operation) -> None:
        before = self._settled.get(operation["trial"])
        if before is None or {**operation, "ms": 0} != {**before, "ms": 0}:
            self._settled[operation["trial"]] = operation
            self._append(operation)

    def _deliver_anew_elsewhere(self, study_dir: Path, uri: str) -> None:
        """What was delivered to one store (by a wrong URL, say) is delivered to another from the start."""
        path = uri.partition("?")[0].removeprefix("sqlite:///")  # what follows may hold a password
        at_a_file = uri.startswith("sqlite:///")
        here = f"sqlite in {os.path.relpath(path, study_dir)}" if at_a_file else redact(uri)  # a home may move
        note = study_dir / "outbox.store"
        if note.exists() and note.read_text() != here:
            self._outbox.rewind()
        with contextlib.suppress(OSError):
            note.write_text(here)

    def _first(self, trial_id: str | None, what: int | str) -> bool:
        if (trial_id, what) in self._seen:
            return False
        self._seen.add((trial_id, what))
        return True

    def _append(self, operation: Operation) -> None:
        """Append to the outbox; what a full disk refuses waits in memory, in order."""
        with contextlib.suppress(OSError):
            self._save(operation)
        self._more.set()

    def _save(self, *operations: Operation) -> None:
        with self._backlog_lock:
            self._backlog.extend(operations)
            while self._backlog:
                self._outbox.append(self._backlog[0])
                self._backlog.popleft()

    def _deliver(self) -> None:
        """The thread: deliver until closed. Nothing that goes wrong here may reach the driver, so all is caught."""
        pause_s = FIRST_PAUSE_S
        while not self._closed:
            if self._left() == 0:
                self._more.wait()
                self._more.clear()
                continue
            try:
                self._deliver_some()
                self._problem, pause_s = None, FIRST_PAUSE_S
            except Exception as error:
                self._problem = redact(f"{type(error).__name__}: {error}".splitlines()[0])
                self._retry.wait(pause_s)
                self._retry.clear()
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _deliver_some(self) -> None:
        self._store.connect()
        waiting = self._outbox.read(READ_OPERATIONS)
        for in_any_order, group in itertools.groupby(waiting, key=lambda entry: entry[0]["op"] in IN_ANY_ORDER):
            entries = list(group)
            if in_any_order:  # all metrics in few calls, and before the copying, which may take long
                self._deliver_reports([operation for operation, _ in entries if operation["op"] == "report"])
            done = 0
            for place, (operation, end) in enumerate(entries, start=1):
                if operation["op"] != "report":
                    self._deliver_one(operation)
                if operation["op"] != "report" or place == len(entries):
                    self._ack(end, place - done)
                    done = place
        self._save()

    def _deliver_reports(self, reports: Sequence[Operation]) -> None:
        try:
            self._store.deliver_reports(reports)
        except RejectedError:
            for operation in reports:  # one of them is to blame: find it, keep the others
                self._deliver_one(operation)

    def _deliver_one(self, operation: Operation) -> None:
        try:
            if operation["op"] == "report":
                self._store.deliver_reports([operation])
            else:
                self._store.deliver(operation)
        except RejectedError as error:
            with self._rejects.open("a") as file:
                file.write(json.dumps({"why": redact(str(error)), "operation": operation}) + "\n")

    def _ack(self, end: int, count: int) -> None:
        with self._delivered:
            self._outbox.ack(end, count)
            self._delivered.notify_all()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _operation(
    op: str,
    trial_id: str | None,
    tags: Mapping[str, Any],
    artifacts: Mapping[str, str],
    params: Mapping[str, Any] | None = None,
) -> Operation:
    """An operation with the present time; the trial None means the study itself."""
    return {
        "op": op,
        "trial": trial_id,
        "ms": _now_ms(),
        "tags": {name: str(value) for name, value in tags.items() if value is not None},
        "artifacts": dict(artifacts),
        "params": {name: str(value) for name, value in (params or {}).items()},
    }
