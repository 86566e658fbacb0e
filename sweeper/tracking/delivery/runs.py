"""What is known of the runs that MLflow has."""

from dataclasses import dataclass
from typing import Any

from sweeper.tracking.delivery.run_files import RunFiles


@dataclass
class KnownRun:
    """A run of MLflow, as it was found or left.

    Attributes:
        id: of the run.
        status: in MLflow's words.
        files: its artifacts.
        is_deleted: whether it lies in MLflow's bin.
        epoch: of its last evaluation; None if it has none.
    """

    id: str
    status: str
    files: RunFiles
    is_deleted: bool = False
    epoch: float | None = None

    @classmethod
    def of(cls, client: Any, run: Any) -> "KnownRun":
        """What MLflow's client says of a run."""
        info = run.info
        files = RunFiles(client, info.run_id, info.artifact_uri)
        return cls(info.run_id, info.status, files, info.lifecycle_stage == "deleted", run.data.metrics.get("epoch"))


@dataclass
class Delivered:
    """What was delivered of a run in the end.

    Attributes:
        status: with which it ended; None if it has not.
        epoch: of its last evaluation; None if it has none.
    """

    status: str | None = None
    epoch: float | None = None
