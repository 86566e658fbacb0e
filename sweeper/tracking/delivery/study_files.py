"""Copies files of a study into the artifacts of its runs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweeper.checkpoints.manifest import is_picture
from sweeper.checkpoints.object_store import CheckpointMissing, ObjectStore
from sweeper.files import inside, own_folder, sha256_of
from sweeper.tracking.delivery.operations import Copy, RejectedError
from sweeper.tracking.delivery.run_files import RunFiles

FETCHED = "sweeper-fetched-"
MANIFEST = "manifest.json"


class StudyFiles:
    """The files of one study.

    Args:
        study_dir: what paths of checkpoints and files are relative to.
        store: holds the checkpoints, instead of `study_dir`.
    """

    def __init__(self, study_dir: Path, store: ObjectStore | None) -> None:
        self._study_dir = study_dir
        self._store = store

    def copy(self, operation: Copy, run: RunFiles) -> tuple[str, str] | None:
        """Copy files to a run.

        Returns:
            Name of the checkpoint and sha256 of its manifest, where a manifest was among them.

        Raises:
            RejectedError: they are gone, or are elsewhere.
        """
        match operation.op:
            case "checkpoint":
                return self._copy_checkpoint(operation, run)
            case "pictures":
                self._copy_pictures(operation, run)
                return None
            case "file":
                return self._copy_file(operation, run)

    def _copy_checkpoint(self, operation: Copy, run: RunFiles) -> tuple[str, str] | None:
        with self._at_hand(operation.source) as folder:
            if not folder.is_dir():  # MLflow would take it for an empty one
                if run.names(operation.path):
                    return None  # delivered before, and deleted since
                raise RejectedError(f"the checkpoint folder {operation.source} is gone")
            # What has a manifest was written completely and is never written again.
            run.add_folder(folder, operation.path, link=(folder / MANIFEST).is_file())
            return _sum_of(folder / MANIFEST)

    @contextmanager
    def _at_hand(self, key: str) -> Iterator[Path]:
        """The folder of a complete checkpoint on this machine; a missing one gives a path that does not exist."""
        if self._store is None:
            yield self._of_study(key)
            return
        with own_folder(Path(tempfile.gettempdir()), FETCHED) as scratch:
            folder = scratch / Path(key).name
            with suppress(CheckpointMissing):
                self._store.fetch(key, folder)
            yield folder

    def _copy_pictures(self, operation: Copy, run: RunFiles) -> None:
        folder = self._of_study(operation.source)
        if self._store is not None:
            with suppress(CheckpointMissing):  # deleted since: what is here is all there is
                self._store.fetch(operation.source, folder, is_picture)
        for path in sorted(folder.glob("*")):
            if is_picture(path.name):
                run.add_file(path, operation.path)

    def _copy_file(self, operation: Copy, run: RunFiles) -> tuple[str, str] | None:
        file, (folder, _, name) = self._of_study(operation.source), operation.path.rpartition("/")
        if not file.is_file():
            if operation.path in run.names(folder):
                return None
            raise RejectedError(f"the file {file} is gone")
        if file.name != name:
            raise RejectedError(f"the file {file} would become {name}: MLflow keeps the name of a file")
        run.add_file(file, folder)
        return _sum_of(file)

    def _of_study(self, name: str) -> Path:
        """A path from the outbox, which is a file that anybody may have written: nothing else on the disk is sent."""
        path = self._study_dir / name
        if not inside(self._study_dir, path):
            raise RejectedError(f"{path} is outside the study's folder")
        return path


def _sum_of(manifest: Path) -> tuple[str, str] | None:
    if manifest.name != MANIFEST or not manifest.is_file():
        return None
    return manifest.parent.name, sha256_of(manifest)
