"""What MLflow holds in files: asked before anything is tidied away or given out."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeper.tracking.client import open_client, require_store
from sweeper.tracking.find import answering
from sweeper.tracking.schema import CHECKPOINTS


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

    def checkpoint(self, run_id: str, name: str) -> dict[str, int]:
        """Path inside the checkpoint -> bytes of each file that the run has of it; a run that is not there has none.

        Raises:
            UserError: MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        root = f"{CHECKPOINTS}/{name}"
        with answering(self._uri):
            try:
                return {path.removeprefix(f"{root}/"): size for path, size in self._files(run_id, root)}
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return {}

    def has_equal_bytes(self, run_id: str, name: str, folder: Path) -> bool:
        """Whether every file of the run's checkpoint that lies in `folder` too is byte for byte the same there."""
        with tempfile.TemporaryDirectory() as scratch:
            for path in self.checkpoint(run_id, name):
                local = folder / path
                stored = Path(self._client.download_artifacts(run_id, f"{CHECKPOINTS}/{name}/{path}", scratch))
                if local.is_file() and local.read_bytes() != stored.read_bytes():
                    return False
        return True

    def runs_of(self, artifact_folder: Path) -> set[str] | None:
        """IDs of all runs, deleted ones too, of the experiment that keeps its artifacts there; None: there is none."""
        from mlflow.entities import ViewType

        for experiment in self._client.search_experiments(view_type=ViewType.ALL):
            if Path(experiment.artifact_location.removeprefix("file://")) == artifact_folder:
                found: set[str] = set()
                token = None
                while True:
                    page = self._client.search_runs(
                        [experiment.experiment_id], run_view_type=ViewType.ALL, page_token=token
                    )
                    found |= {run.info.run_id for run in page}
                    token = page.token
                    if not token:
                        return found
        return None

    def _files(self, run_id: str, path: str) -> Iterator[tuple[str, int]]:
        for each in self._client.list_artifacts(run_id, path):
            if each.is_dir:
                yield from self._files(run_id, each.path)
            else:
                yield each.path, each.file_size or 0
