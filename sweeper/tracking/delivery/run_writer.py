"""Applies a study's operations to MLflow. Every operation may be applied twice: the second time changes nothing.

A run is looked for by its tags before it is created. Runs also carry the outbox's ID, so a later study of the same name
gets its own runs. All of this runs in the delivering thread.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.checkpoints.object_store import ObjectStore
from sweeper.redaction import redact
from sweeper.tracking.delivery.experiment import StudyExperiment
from sweeper.tracking.delivery.operations import (
    Copy,
    ExperimentTags,
    Finish,
    LogMetrics,
    Open,
    Operation,
    RecordsLostError,
    RejectedError,
    Start,
    Tag,
)
from sweeper.tracking.delivery.run_change import LONGEST_TAG, RunChange, entities, input_datasets
from sweeper.tracking.delivery.runs import Delivered, KnownRun, known_runs, lost
from sweeper.tracking.delivery.study_files import StudyFiles
from sweeper.tracking.schema import (
    MODEL_LINE,
    RUN_LINK,
    TAG_NOTE,
    TAG_OUTBOX,
    TAG_PARENT,
    TAG_ROLE,
    TAG_STUDY,
    TAG_SUM,
    TAG_TRIAL,
)
from sweeper.tracking.store.client import keeps_in_its_place, open_client
from sweeper.tracking.store.database import prepare_database


class RunWriter:
    """The runs of one study in MLflow.

    Args:
        study_dir: what paths of checkpoints and files are relative to.
        uri: of the MLflow store.
        artifact_root: folder under which a new experiment keeps its artifacts; None leaves it to the server.
        study_name: name of the parent run and the experiment; if another study has that, a part of `stream` follows.
        stream: ID of the outbox.
        on_run: told each trial's MLflow run ID once.
        store: holds the checkpoints, instead of `study_dir`.
        may_create: whether what MLflow lacks was never there. Otherwise it is lost, and everything must be delivered
            again.
    """

    def __init__(
        self,
        study_dir: Path,
        uri: str,
        artifact_root: str | Path | None,
        study_name: str,
        stream: str,
        on_run: Callable[[str, str], None] | None,
        store: ObjectStore | None,
        *,
        may_create: bool = True,
    ) -> None:
        self._uri = uri
        self._artifact_root = artifact_root
        self._study = study_name
        self._stream = stream
        self._on_run = on_run
        self._study_files = StudyFiles(study_dir, store)
        self._experiment = StudyExperiment(uri, artifact_root, study_name, stream)
        self._client: Any = None
        self._experiment_id = ""
        self._runs: dict[str, KnownRun] = {}
        self._may_create = may_create
        self.run_ids: dict[str, str] = {}
        self.notices: list[str] = []
        """What people must know about the store."""

    def connect(self) -> None:
        """Connect to MLflow and find or create the experiment; done first, since it determines the artifact folder.

        Raises:
            RecordsLostError: the experiment was there, and is gone.
        """
        if self._experiment_id:
            return
        if self._client is None:
            self.notices += prepare_database(self._uri)
            self._client = open_client(self._uri)
        found = self._experiment.find(self._client)
        if found is None:
            self._experiment_id = self._experiment.create(self._client, may_create=self._may_create)
            return
        self.notices += self._experiment.bring_here(self._client, found)
        self._runs = dict(known_runs(self._client, found.experiment_id, self._stream))  # none is searched for singly
        self._experiment_id = found.experiment_id

    def start_over(self) -> None:
        """Forget what MLflow had: what is delivered from now on recreates it."""
        self._experiment_id, self._may_create = "", True
        self._runs.clear()

    def verify(self, delivered: Mapping[str | None, Delivered]) -> None:
        """Check whether MLflow has what was delivered.

        Args:
            delivered: trial -> its end; None is the study itself.

        Raises:
            RecordsLostError: a run is gone, deleted, or as it was before.
        """
        self._experiment_id = ""  # whatever was found earlier
        self.connect()
        for trial, told in delivered.items():
            name = trial or self._study
            if said := lost(name, self._runs.get(name), told):
                raise RecordsLostError(f"MLflow {said}")

    def apply(self, operations: Sequence[Operation]) -> dict[int, str]:
        """Store operations that copy no files, all that concern one run in as few calls as MLflow allows.

        Returns:
            Index of each operation that MLflow will never accept -> why.
        """
        self.connect()
        by_trial: dict[str | None, list[int]] = {}
        for index, operation in enumerate(operations):
            if isinstance(operation, ExperimentTags):
                for name, text in operation.tags.items():
                    self._client.set_experiment_tag(self._experiment_id, name, text)
            elif not isinstance(operation, Open | Copy):
                by_trial.setdefault(operation.trial, []).append(index)
        refused: dict[int, str] = {}
        for trial, indices in self._study_last(by_trial, operations):
            own = [operations[index] for index in indices]
            try:
                self._apply_to_run(trial, own)
            except RejectedError:
                for index, operation in zip(indices, own, strict=True):  # one of them is to blame: keep the others
                    try:
                        self._apply_to_run(trial, [operation], params_last=True)
                    except RejectedError as error:
                        refused[index] = str(error)
        self._link_runs([operations[index] for index in by_trial.get(None, ())])
        return refused

    def _study_last(
        self, by_trial: Mapping[str | None, list[int]], operations: Sequence[Operation]
    ) -> Iterator[tuple[str | None, list[int]]]:
        """The changes of each run, those of the study's own at the end: it names a winner only when that is there."""
        for indices in (by_trial[None],) if None in by_trial else ():
            first = operations[indices[0]]
            assert isinstance(first, Start | LogMetrics | Tag | Finish)
            self._run(None, first.ms, is_start=any(isinstance(operations[index], Start) for index in indices))
        yield from sorted(by_trial.items(), key=lambda each: each[0] is None)

    def copy(self, operation: Copy) -> None:
        """Store files.

        Raises:
            RejectedError: MLflow will not accept them, or they are gone.
        """
        run = self._run(operation.trial, operation.ms, is_start=False)
        if found := self._study_files.copy(operation, run.files):
            name, sha256 = found  # of its manifest, told apart from it, so that damage to an artifact shows
            self._call(run, self._client.set_tag, run.id, f"{TAG_SUM}{name}", sha256)

    def _apply_to_run(self, trial: str | None, operations: Sequence[Operation], *, params_last: bool = False) -> None:
        """Make one change of several operations on a run, and store it.

        `params_last`: only params can be refused where all else is stored, when they differ from earlier ones.
        """
        first = operations[0]
        assert isinstance(first, Start | LogMetrics | Tag | Finish)
        run = self._run(trial, first.ms, is_start=any(isinstance(each, Start) for each in operations))
        change = RunChange.of([self._without_what_is_there(run, each) for each in operations])
        if trial is None and TAG_NOTE in change.tags:
            change.tags[TAG_NOTE] = self._behind_model_link(run, change.tags[TAG_NOTE])
        params = change.params
        for batch in entities(change.metrics, {} if params_last else params, change.tags):
            self._call(run, self._client.log_batch, run.id, **batch)
        for name, text in change.artifacts.items():
            run.files.write_text(name, text)
        if change.datasets:
            self._call(run, self._client.log_inputs, run.id, input_datasets(change.datasets))
        self._set_status(run, change)
        for batch in entities([], params if params_last else {}, {}):
            self._call(run, self._client.log_batch, run.id, **batch)

    def _link_runs(self, operations: Sequence[Operation]) -> None:
        """Give the links of the study's description their addresses, now that all runs are there."""

        def address(found: re.Match[str]) -> str:
            run = self._runs.get(found["trial"])
            return f"[{found['name']}](#/experiments/{self._experiment_id}/runs/{run.id})" if run else found["name"]

        notes = [each.tags[TAG_NOTE] for each in operations if isinstance(each, Finish) and TAG_NOTE in each.tags]
        if notes and RUN_LINK.search(notes[-1]) and (run := self._runs.get(self._study)):
            note = self._behind_model_link(run, RUN_LINK.sub(address, notes[-1]))
            self._call(run, self._client.set_tag, run.id, TAG_NOTE, note[:LONGEST_TAG])

    def _behind_model_link(self, run: KnownRun, note: str) -> str:
        """A study's description with the line before it that `sweeper winners --promote` has put there."""
        line = MODEL_LINE.match(self._client.get_run(run.id).data.tags.get(TAG_NOTE, ""))
        return f"{line[0] if line else ''}{note}"

    def _set_status(self, run: KnownRun, change: RunChange) -> None:
        if change.status is not None and (change.reopened or run.status != change.status):
            # With the same status: an earlier outbox has reported it, with its time.
            self._call(run, self._client.set_terminated, run.id, change.status, change.ended_ms)
            run.status = change.status
        elif change.status is None and change.reopened and run.status != "RUNNING":  # what was interrupted continues
            self._call(run, self._client.update_run, run.id, status="RUNNING")
            run.status = "RUNNING"

    def _without_what_is_there(self, run: KnownRun, operation: Operation) -> Operation:
        if not (isinstance(operation, Start) and operation.restored):
            return operation
        there, files = self._client.get_run(run.id).data.tags, run.files.names()
        tags = {name: value for name, value in operation.tags.items() if name not in there}
        artifacts = {name: text for name, text in operation.artifacts.items() if name not in files}
        return replace(operation, tags=tags, artifacts=artifacts)

    def _run(self, trial: str | None, start_ms: int, *, is_start: bool) -> KnownRun:
        """The run of a trial, or of the study itself (None); it is made if MLflow has none yet.

        Raises:
            RecordsLostError: its start was delivered, and MLflow does not have it.
        """
        name = trial or self._study
        self.connect()
        if name not in self._runs:
            if not is_start and not self._may_create:
                raise RecordsLostError(f"MLflow has lost the run `{name}`")
            if trial is None:
                tags = {TAG_STUDY: name, TAG_ROLE: "study", TAG_OUTBOX: self._stream}
            else:
                parent = self._run(None, start_ms, is_start=True)
                tags = {TAG_TRIAL: name, TAG_OUTBOX: self._stream, TAG_PARENT: parent.id}
            self._runs[name] = self._create_run(name, tags, start_ms)
        run = self._runs[name]
        if name not in self.run_ids:
            self._require_own_place(name, run)
            self.run_ids[name] = run.id
            if trial is not None and self._on_run is not None:
                self._on_run(name, run.id)
        return run

    def _create_run(self, name: str, tags: Mapping[str, str], start_ms: int) -> KnownRun:
        try:
            return KnownRun.of(self._client, self._client.create_run(self._experiment_id, start_ms, dict(tags), name))
        except BaseException:
            self._experiment_id = ""  # it may have been created anyway: look again
            raise

    def _require_own_place(self, name: str, run: KnownRun) -> None:
        place = str(run.files.artifact_uri)
        if not keeps_in_its_place(self._uri, self._artifact_root, run.id, place):
            raise RejectedError(f"the artifacts of `{name}` would go to {redact(place)}")

    def _call(self, run: KnownRun, function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Call MLflow; what it calls invalid will be invalid for ever, all else (no server, no right) may pass."""
        import mlflow

        try:
            function(*args, **kwargs)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" and not self._may_create:
                raise RecordsLostError(f"MLflow has lost the run {run.id}") from error
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                raise
            if not self._restore(run):
                raise RejectedError(str(error)) from error
            function(*args, **kwargs)

    def _restore(self, run: KnownRun) -> bool:
        """Take a run, or its experiment, out of MLflow's bin: somebody deleted it while the study continues."""
        import mlflow

        try:
            if self._client.get_experiment(self._experiment_id).lifecycle_stage == "deleted":
                self._client.restore_experiment(self._experiment_id)
            elif self._client.get_run(run.id).info.lifecycle_stage == "deleted":
                self._client.restore_run(run.id)
            else:
                return False
        except mlflow.exceptions.MlflowException:
            return False
        return True
