"""The artifacts of one run: written straight into its folder if that is on this machine, otherwise through MLflow."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class RunFiles:
    """Where one run keeps its artifacts.

    A file appears whole or not at all, in the place of an earlier one of its name.

    Args:
        client: of MLflow.
        run_id: of the run.
        artifact_uri: where MLflow says that its artifacts are.
    """

    def __init__(self, client: Any, run_id: str, artifact_uri: str) -> None:
        self._client = client
        self._run_id = run_id
        self.artifact_uri = artifact_uri
        self._folder = local_folder(artifact_uri)

    @property
    def is_gone(self) -> bool:
        """Whether there is no folder where it should be on this machine."""
        return self._folder is not None and not self._folder.is_dir()

    def write_text(self, path: str, text: str) -> None:
        """Store a text as `path`."""
        if self._folder is None:
            self._client.log_text(self._run_id, text, path)
            return
        _put(self._folder / path, lambda scratch: scratch.write_text(text, encoding="utf-8"))

    def add_file(self, source: Path, folder: str) -> None:
        """Copy one file into a folder of the run; "" is its root."""
        if self._folder is None:
            self._client.log_artifact(self._run_id, str(source), folder or None)
            return
        _put(self._folder / folder / source.name, lambda scratch: shutil.copyfile(source, scratch))

    def add_folder(self, source: Path, path: str, *, link: bool) -> None:
        """Copy what is in a folder to `path`.

        Args:
            source: the folder.
            path: inside the run.
            link: nobody writes into the files of `source` again, so the run may share them: one file system then
                holds them once.
        """
        if self._folder is None:
            self._client.log_artifacts(self._run_id, str(source), path)
            return
        put = _link_or_copy if link else shutil.copyfile
        for file in sorted(each for each in source.rglob("*") if each.is_file()):
            target = self._folder / path / file.relative_to(source)
            _put(target, lambda scratch, file=file: put(file, scratch))  # type: ignore[misc]

    def names(self, folder: str = "") -> set[str]:
        """Paths inside the run of what lies in a folder of it."""
        return {each.path for each in self._client.list_artifacts(self._run_id, folder or None)}


def local_folder(artifact_uri: str) -> Path | None:
    """The folder of this machine that an artifact URI names, None if it names a server or a bucket."""
    if artifact_uri.startswith("file:"):
        return Path(unquote(urlsplit(artifact_uri).path))
    return Path(artifact_uri) if artifact_uri.startswith("/") else None


def _put(target: Path, write: Callable[[Path], object]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        write(made)
        os.replace(made, target)


def _link_or_copy(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # another file system, or one without links
        os.link(source, target)
        return
    shutil.copyfile(source, target)
