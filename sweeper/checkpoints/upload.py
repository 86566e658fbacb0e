"""The worker's side of a store of checkpoints: it trains in a folder on its machine, and uploads each checkpoint."""

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sweeper.checkpoints.manifest import MANIFEST
from sweeper.checkpoints.object_store import CheckpointMissing, ObjectStore
from sweeper.files import own_folder

PREFIX: Final = "sweeper-trial-"


@dataclass(frozen=True)
class UploadSettings:
    """What a worker needs to know of the store.

    Attributes:
        url: of the study's folder in the store.
        trial: the trial's own folder in that, `trials/0007`.
        written: keys of the trial's checkpoints, the newest first: it resumes from the first one that is complete.
        patience_s: how long to wait for an unavailable store.
    """

    url: str
    trial: str
    written: tuple[str, ...]
    patience_s: float


class CheckpointUploader:
    """Moves checkpoints to a trial's scratch folder and from it to the store.

    Attributes:
        workdir: the scratch folder. `close` deletes it; after a kill, the next courier on this machine does.
        passed_over: what was wrong with checkpoints that were not complete, a line each.
    """

    def __init__(self, parcel: UploadSettings) -> None:
        self._parcel = parcel
        self._depot = ObjectStore(parcel.url, parcel.patience_s)
        self._stack = ExitStack()
        self._sent: Path | None = None
        self.workdir = self._stack.enter_context(own_folder(Path(tempfile.gettempdir()), PREFIX))
        self.passed_over: list[str] = []

    def resume(self) -> Path | None:
        """Fetch the newest complete checkpoint; None: there is none, the trial starts over.

        Raises:
            StoreUnavailable: the store does not answer, or refuses.
        """
        for key in self._parcel.written:
            folder = self.workdir / Path(key).name
            try:
                self._depot.fetch(key, folder)
                self._sent = folder
                return folder
            except CheckpointMissing as problem:
                self.passed_over.append(str(problem))
        return None

    def send(self, folder: Path) -> str | None:
        """Store a checkpoint, and delete the one before it from this machine. Returns the text of its manifest, if it
        has one.

        Raises:
            StoreUnavailable: as `resume`.
        """
        self._depot.put(folder, f"{self._parcel.trial}/{folder.name}")
        if self._sent is not None and self._sent != folder:
            shutil.rmtree(self._sent, ignore_errors=True)
        self._sent = folder
        manifest = folder / MANIFEST
        return manifest.read_text() if manifest.is_file() else None

    def close(self) -> None:
        """Delete the scratch folder."""
        self._stack.close()
