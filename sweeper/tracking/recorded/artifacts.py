"""What MLflow has in files: checked before anything is deleted or handed out."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.files import sha256_of
from sweeper.tracking.delivery.run_files import local_folder
from sweeper.tracking.recorded.find import answering
from sweeper.tracking.schema import CHECKPOINTS, checkpoint_sums
from sweeper.tracking.store.client import open_client, require_store


@dataclass(frozen=True)
class _Run:
    """A run. `folder`: of its artifacts where that is on this machine; `sums`: of the manifests of its checkpoints."""

    folder: Path | None
    sums: Mapping[str, str]


class Inventory:
    """The files of the runs in one store.

    Args:
        uri: of the store.

    Raises:
        UserError: there is no store.
    """

    def __init__(self, uri: str) -> None:
        require_store(uri)
        self._uri = uri
        self._client: Any = open_client(uri)
        self._runs: dict[str, _Run | None] = {}

    def checkpoint(self, run_id: str, name: str) -> dict[str, int]:
        """Path inside the checkpoint -> bytes of each file that the run has of it; a run that is not there has none.

        Raises:
            UserError: MLflow does not answer.
        """
        run = self._run(run_id)
        if run is None:
            return {}
        if run.folder is not None:
            root = run.folder / CHECKPOINTS / name
            return {str(file.relative_to(root)): file.stat().st_size for file in root.rglob("*") if file.is_file()}
        with answering(self._uri):
            root_name = f"{CHECKPOINTS}/{name}"
            return {path.removeprefix(f"{root_name}/"): size for path, size in self._files(run_id, root_name)}

    def sum_of(self, run_id: str, name: str) -> str | None:
        """The sha256 that the manifest of a checkpoint had when it was stored; None: not recorded.

        Raises:
            UserError: MLflow does not answer.
        """
        run = self._run(run_id)
        return run.sums.get(name) if run else None

    @contextmanager
    def file(self, run_id: str, name: str, path: str) -> Iterator[Path]:
        """A file of a checkpoint, readable for as long as this lasts.

        Raises:
            UserError: MLflow does not answer, or has no such file.
        """
        run = self._run(run_id)
        if run is not None and run.folder is not None:
            yield run.folder / CHECKPOINTS / name / path
            return
        with tempfile.TemporaryDirectory() as scratch:
            with answering(self._uri):
                stored = self._client.download_artifacts(run_id, f"{CHECKPOINTS}/{name}/{path}", scratch)
            yield Path(stored)

    def has_equal_bytes(self, run_id: str, name: str, folder: Path) -> bool:
        """Whether every file of the run's checkpoint that is also in `folder` is byte for byte the same there."""
        for path in self.checkpoint(run_id, name):
            with self.file(run_id, name, path) as stored:
                here = folder / path
                if here.is_file() and not here.samefile(stored) and sha256_of(here) != sha256_of(stored):
                    return False
        return True

    def runs_of(self, artifact_folder: Path) -> set[str] | None:
        """IDs of all runs, deleted ones too, of the experiment that keeps its artifacts there; None: there is none."""
        import mlflow

        for experiment in self._client.search_experiments(view_type=mlflow.entities.ViewType.ALL):
            if Path(experiment.artifact_location.removeprefix("file://")) == artifact_folder:
                found: set[str] = set()
                token = None
                while True:
                    page = self._client.search_runs(
                        [experiment.experiment_id], run_view_type=mlflow.entities.ViewType.ALL, page_token=token
                    )
                    found |= {run.info.run_id for run in page}
                    token = page.token
                    if not token:
                        return found
        return None

    def _run(self, run_id: str) -> _Run | None:
        """What MLflow knows about a run, asked once; None: it has no such run."""
        import mlflow

        if run_id not in self._runs:
            with answering(self._uri):
                try:
                    run = self._client.get_run(run_id)
                except mlflow.exceptions.MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise
                    self._runs[run_id] = None
                else:
                    sums = checkpoint_sums(run.data.tags)
                    self._runs[run_id] = _Run(local_folder(run.info.artifact_uri), sums)
        return self._runs[run_id]

    def _files(self, run_id: str, path: str) -> Iterator[tuple[str, int]]:
        for each in self._client.list_artifacts(run_id, path):
            if each.is_dir:
                yield from self._files(run_id, each.path)
            else:
                yield each.path, each.file_size or 0
