"""Delivers a study's operations to MLflow. Every operation may be delivered twice: the second time changes nothing.

A run is found by its tags before it is made. Runs carry the outbox's own ID too, so a later study of the same name gets
runs of its own. All of this runs in the delivering thread.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sweeper.checkpoints.manifest import is_picture
from sweeper.checkpoints.object_store import Depot, NotStored
from sweeper.files import inside, own_folder
from sweeper.redaction import redact
from sweeper.tracking.client import keeps_in_its_place, open_client
from sweeper.tracking.outbox import Operation
from sweeper.tracking.schema import (
    TAG_OUTBOX,
    TAG_PARENT,
    TAG_ROLE,
    TAG_STUDY,
    TAG_SUM,
    TAG_TRIAL,
    metric_key,
    metric_value,
)

EXPERIMENT_KIND = "mlflow.experimentKind"  # the UI opens on its training view, not the one for agents
METRICS_A_CALL = 1000
FETCHED = "sweeper-fetched-"
LONGEST_TAG, LONGEST_PARAM, LONGEST_DIGEST = 8000, 6000, 36


class RejectedError(Exception):
    """MLflow will never take this operation, however often it is delivered."""


class StudyStore:
    """The runs of one study in MLflow.

    Args:
        study_dir: what paths of checkpoints and files are relative to.
        uri: of the MLflow store.
        artifact_root: folder under which a new experiment keeps its artifacts; None leaves it to the server.
        study_name: name of the parent run and the experiment; if another study has that, a part of `stream` follows.
        stream: ID of the outbox.
        on_run: told each trial's MLflow run ID once.
        depot: holds the checkpoints, instead of `study_dir`.
    """

    def __init__(
        self,
        study_dir: Path,
        uri: str,
        artifact_root: str | Path | None,
        study_name: str,
        stream: str,
        on_run: Callable[[str, str], None] | None,
        depot: Depot | None,
    ) -> None:
        self._study_dir = study_dir
        self._uri = uri
        self._artifact_root = artifact_root
        self._study = study_name
        self._stream = stream
        self._on_run = on_run
        self._depot = depot
        self._client: Any = None
        self._experiment_id = ""
        self.run_ids: dict[str, str] = {}

    def connect(self) -> None:
        """Reach MLflow and find or make the experiment; the first thing done, since it fixes the artifact folder."""
        if self._experiment_id:
            return
        if self._client is None:
            self._client = open_client(self._uri)
        for name in (self._study, f"{self._study}@{self._stream[:8]}"):
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                self._experiment_id = self._create_experiment(name)
                return
            # One without an owner was made by hand, or before there were owners.
            if experiment.tags.get(TAG_OUTBOX, self._stream) == self._stream:
                if experiment.lifecycle_stage == "deleted":
                    self._client.restore_experiment(experiment.experiment_id)
                self._experiment_id = experiment.experiment_id
                return
        raise RejectedError(f"the experiments `{self._study}` and `{name}` belong to other studies")

    def _create_experiment(self, name: str) -> str:
        location = None
        if self._artifact_root is not None:
            location = str(Path(self._artifact_root).resolve() / name)
        tags = {EXPERIMENT_KIND: "custom_model_development", TAG_OUTBOX: self._stream}
        created: str = self._client.create_experiment(name, artifact_location=location, tags=tags)
        return created

    def deliver_reports(self, reports: Sequence[Operation]) -> None:
        """Store the metrics of many reports, each run's in as few calls as MLflow allows.

        Raises:
            RejectedError: MLflow will not take one of them.
        """
        from mlflow.entities import Metric

        by_trial: dict[str | None, list[Any]] = {}
        for report in reports:
            metrics = by_trial.setdefault(report["trial"], [])
            metrics.extend(
                Metric(metric_key(name), metric_value(value), report["ms"], report["step"])
                for name, value in report["metrics"].items()
            )
        for trial_id, metrics in by_trial.items():
            run_id = self._run(trial_id, reports[0]["ms"])
            for start in range(0, len(metrics), METRICS_A_CALL):
                self._call(self._client.log_batch, run_id, metrics=metrics[start : start + METRICS_A_CALL])

    def deliver(self, operation: Operation) -> None:
        """Store one operation that is not a report.

        Raises:
            RejectedError: MLflow will not take it.
        """
        match operation["op"]:
            case "open":
                pass
            case "start":
                self._start(operation)
            case "checkpoint":
                self._checkpoint(operation)
            case "pictures":
                self._pictures(operation)
            case "file":
                self._file(operation)
            case "tags":
                self._set(self._run(operation["trial"], operation["ms"]), operation)
            case "finish":
                self._finish(operation)
            case _:
                raise RejectedError("the outbox is damaged at this line")

    def _start(self, operation: Operation) -> None:
        run_id = self._run(operation["trial"], operation["ms"])
        if operation.get("restored"):
            self._set(run_id, self._without_what_is_there(run_id, operation))
            return
        if self._client.get_run(run_id).info.status != "RUNNING":  # a study that was interrupted goes on
            self._client.update_run(run_id, status="RUNNING")
        self._set(run_id, operation)

    def _without_what_is_there(self, run_id: str, operation: Operation) -> Operation:
        there = self._client.get_run(run_id).data.tags
        files = {each.path for each in self._client.list_artifacts(run_id)}
        tags = {name: value for name, value in operation["tags"].items() if name not in there}
        artifacts = {name: text for name, text in operation["artifacts"].items() if name not in files}
        return {**operation, "tags": tags, "artifacts": artifacts}

    def _checkpoint(self, operation: Operation) -> None:
        run_id = self._run(operation["trial"], operation["ms"])
        with self._at_hand(operation["folder"]) as folder:
            if not folder.is_dir():  # MLflow would take it for an empty one
                if self._client.list_artifacts(run_id, operation["path"]):
                    return  # delivered before, and tidied away since
                raise RejectedError(f"the checkpoint folder {operation['folder']} is gone")
            self._client.log_artifacts(run_id, str(folder), operation["path"])
            self._note_sum(run_id, folder / "manifest.json")

    @contextmanager
    def _at_hand(self, key: str) -> Iterator[Path]:
        """The folder of a whole checkpoint on this machine; one that is nowhere is not there."""
        if self._depot is None:
            yield self._of_study(key)
            return
        with own_folder(Path(tempfile.gettempdir()), FETCHED) as scratch:
            folder = scratch / Path(key).name
            with suppress(NotStored):
                self._depot.fetch(key, folder)
            yield folder

    def _pictures(self, operation: Operation) -> None:
        folder = self._of_study(operation["folder"])
        run_id = self._run(operation["trial"], operation["ms"])
        if self._depot is not None:
            with suppress(NotStored):  # tidied away since: what is here is all there is
                self._depot.fetch(operation["folder"], folder, is_picture)
        for path in sorted(folder.glob("*")):
            if is_picture(path.name):
                self._client.log_artifact(run_id, str(path), operation["path"])

    def _file(self, operation: Operation) -> None:
        file, (folder, _, name) = self._of_study(operation["file"]), operation["path"].rpartition("/")
        run_id = self._run(operation["trial"], operation["ms"])
        if not file.is_file():
            if any(each.path == operation["path"] for each in self._client.list_artifacts(run_id, folder)):
                return
            raise RejectedError(f"the file {file} is gone")
        assert file.name == name, "MLflow keeps the name of a file"
        self._client.log_artifact(run_id, str(file), folder or None)
        self._note_sum(run_id, file)

    def _of_study(self, name: str) -> Path:
        """A path of the outbox, which is a file that anybody may have written: nothing else of the disk is sent."""
        path = self._study_dir / name
        if not inside(self._study_dir, path):
            raise RejectedError(f"{path} lies outside of the study's folder")
        return path

    def _note_sum(self, run_id: str, manifest: Path) -> None:
        """Tell the sum of a checkpoint's manifest apart from it, so that damage to an artifact shows."""
        if manifest.name == "manifest.json" and manifest.is_file():
            sha256 = hashlib.sha256(manifest.read_bytes()).hexdigest()
            self._client.set_tag(run_id, f"{TAG_SUM}{manifest.parent.name}", sha256)

    def _finish(self, operation: Operation) -> None:
        run_id = self._run(operation["trial"], operation["ms"])
        self._set(run_id, operation)
        info = self._client.get_run(run_id).info
        if info.status != operation["status"]:  # else an earlier outbox has told it, with its time
            self._client.set_terminated(run_id, operation["status"], operation["ms"])

    def _set(self, run_id: str, operation: Operation) -> None:
        """Tags, artifacts, data sets, then params: only params can be refused, when they differ from earlier ones."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        tags = [RunTag(name, value[:LONGEST_TAG]) for name, value in operation["tags"].items()]
        self._call(self._client.log_batch, run_id, tags=tags)
        for name, text in operation["artifacts"].items():
            self._client.log_text(run_id, text, name)
        if datasets := operation.get("datasets"):
            context = [InputTag("mlflow.data.context", "training")]
            inputs = [
                DatasetInput(
                    # MLflow cuts digests off at 36 characters: the whole one is in the source.
                    Dataset(name, digest[:LONGEST_DIGEST], "sweeper", json.dumps({"sha256": digest})),
                    context,
                )
                for name, digest in datasets.items()
            ]
            self._call(self._client.log_inputs, run_id, inputs)
        params = [Param(metric_key(name), value[:LONGEST_PARAM]) for name, value in operation["params"].items()]
        self._call(self._client.log_batch, run_id, params=params)

    def _run(self, trial: str | None, start_ms: int) -> str:
        """The run ID of a trial, or of the study itself (None); the run is made if MLflow has none yet."""
        name = trial or self._study
        if name in self.run_ids:
            return self.run_ids[name]
        self.connect()
        if trial is None:
            tags = {TAG_STUDY: name, TAG_ROLE: "study", TAG_OUTBOX: self._stream}
            run_id = self._find_or_create(name, TAG_STUDY, tags, start_ms)
        else:
            tags = {TAG_TRIAL: name, TAG_OUTBOX: self._stream, TAG_PARENT: self._run(None, start_ms)}
            run_id = self._find_or_create(name, TAG_TRIAL, tags, start_ms)
            if self._on_run is not None:
                self._on_run(name, run_id)
        self.run_ids[name] = run_id
        return run_id

    def _find_or_create(self, name: str, by: str, tags: Mapping[str, str], start_ms: int) -> str:
        query = f"tags.`{by}` = '{name}' and tags.`{TAG_OUTBOX}` = '{self._stream}'"
        found = self._client.search_runs([self._experiment_id], query, max_results=1)
        if not found:
            found = [self._client.create_run(self._experiment_id, start_ms, dict(tags), name)]
        run_id: str = found[0].info.run_id
        if not keeps_in_its_place(self._uri, self._artifact_root, run_id, str(found[0].info.artifact_uri)):
            raise RejectedError(f"the artifacts of `{name}` would go to {redact(found[0].info.artifact_uri)}")
        return run_id

    def _call(self, function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Call MLflow; what it calls invalid will be invalid for ever, all else (no server, no right) may pass."""
        from mlflow.exceptions import MlflowException

        try:
            function(*args, **kwargs)
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE":
                raise RejectedError(str(error)) from error
            raise
