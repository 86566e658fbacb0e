"""`sweeper rm`: deletes a study with its checkpoints and its runs in MLflow."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import study_folder
from sweeper.ledger.study_lock import study_lock
from sweeper.tracking.remove import experiment_of_stream, remove_experiment
from sweeper.tracking.store.client import tracking_uri


@dataclass(frozen=True)
class Doomed:
    """What would be deleted with a study.

    Attributes:
        study: its name.
        trials: candidates and controls.
        folder_bytes: of its folder and of its artifacts in the home.
        experiment: name of its experiment in MLflow; None: there is none.
        store: `s3://...` that contains its checkpoints, which stay.
    """

    study: str
    trials: int
    folder_bytes: int
    experiment: str | None
    store: str | None

    @property
    def sentence(self) -> str:
        """What would be deleted, for the question."""
        text = f"{self.study}: {self.trials} trials and controls, {self.folder_bytes / 2**20:.1f} MiB"
        if self.experiment is not None:
            text += f", the experiment `{self.experiment}` in MLflow"
        return text


def remove(home: Path, study: str, confirm: Callable[[str], bool]) -> str:
    """Delete a study; `confirm` is asked with what would be deleted.

    MLflow comes first and the study's folder last: if interrupted, the same command completes it.

    Returns:
        What has happened, in a sentence.

    Raises:
        UserError: no such study, a driver runs it, or MLflow does not answer; then nothing is deleted.
    """
    home = home.resolve()
    study_dir = study_folder(home, study)
    with study_lock(study_dir):
        ledger = Ledger.open(study_dir, study)
        doomed, experiment_id = _doomed(home, ledger)
        if not confirm(doomed.sentence):
            return "nothing was removed"
        if experiment_id is not None:
            remove_experiment(tracking_uri(home), experiment_id, study)
        _remove_tree(home / "artifacts" / (doomed.experiment or study))
        ledger.remove()
        _remove_tree(study_dir)
    kept = f"; its checkpoints in {doomed.store} are still there" if doomed.store else ""
    return f"removed {doomed.sentence}{kept}"


def _doomed(home: Path, ledger: Ledger) -> tuple[Doomed, str | None]:
    """What would be deleted, and the ID of its experiment."""
    stream = ledger.attributes.stream
    found = experiment_of_stream(tracking_uri(home), ledger.study, stream) if stream else None
    experiment_id, name = found or (None, None)
    places = [ledger.study_dir, home / "artifacts" / (name or ledger.study)]
    sizes = [path.lstat().st_size for place in places for path in place.rglob("*") if not path.is_dir()]
    doomed = Doomed(ledger.study, len(ledger.all_trials()), sum(sizes), name, ledger.attributes.store_url)
    return doomed, experiment_id


def _remove_tree(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot remove it: {error.strerror}", str(error.filename or folder), "then again") from error
