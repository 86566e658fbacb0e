"""The MLflow experiment of a study: the one that carries the ID of its outbox, or a new one."""

from pathlib import Path
from typing import Any, Final

from sweeper.tracking.delivery.operations import RecordsLostError, RejectedError
from sweeper.tracking.delivery.runs import experiment_names
from sweeper.tracking.schema import TAG_OUTBOX
from sweeper.tracking.store.relocation import moved_to, relocate_experiment

EXPERIMENT_KIND: Final = "mlflow.experimentKind"
"""The UI opens on its training view, not the one for agents."""


class StudyExperiment:
    """Where the runs of a study are in MLflow.

    Args:
        uri: of the MLflow store.
        artifact_root: folder under which a new experiment keeps its artifacts; None leaves it to the server.
        study: its name, which is that of the experiment; if another study has that, a part of `stream` follows.
        stream: ID of the outbox.
    """

    def __init__(self, uri: str, artifact_root: str | Path | None, study: str, stream: str) -> None:
        self._uri, self._artifact_root, self._study, self._stream = uri, artifact_root, study, stream
        self._free_name = study

    def find(self, client: Any) -> Any | None:
        """MLflow's experiment, a deleted one too; None if there is none yet.

        Raises:
            RejectedError: all names that it may have are those of other studies.
        """
        for name in experiment_names(self._study, self._stream):
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                self._free_name = name
                return None
            # One without an owner was made by hand, or before owners were recorded.
            if experiment.tags.get(TAG_OUTBOX, self._stream) == self._stream:
                return experiment
        raise RejectedError(f"the experiments `{self._study}` and `{name}` belong to other studies")

    def create(self, client: Any, *, may_create: bool) -> str:
        """Create the experiment that `find` did not find; returns its ID.

        Raises:
            RecordsLostError: it was there before, so it must not be created.
        """
        if not may_create:
            raise RecordsLostError(f"MLflow has lost the experiment `{self._free_name}`")
        location = None
        if self._artifact_root is not None:
            location = str(Path(self._artifact_root).resolve() / self._free_name)
        tags = {EXPERIMENT_KIND: "custom_model_development", TAG_OUTBOX: self._stream}
        created: str = client.create_experiment(self._free_name, artifact_location=location, tags=tags)
        return created

    def bring_here(self, client: Any, experiment: Any) -> list[str]:
        """Take the experiment out of MLflow's bin, and let it name the folder where its artifacts are now; returns what
        people must know that."""
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        if here := moved_to(experiment.artifact_location, self._artifact_root):
            return [relocate_experiment(self._uri, experiment.artifact_location, here)]
        return []
