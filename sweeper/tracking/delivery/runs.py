"""What is known of the runs that MLflow has, and whether that is what was delivered."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.tracking.delivery.operations import Finish, LogMetrics, Open, Operation, Start, from_json
from sweeper.tracking.delivery.run_files import RunFiles
from sweeper.tracking.outbox import read_records
from sweeper.tracking.schema import TAG_OUTBOX, TAG_STUDY, TAG_TRIAL


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
        files: whether it was started with files.
    """

    status: str | None = None
    epoch: float | None = None
    files: bool = False


def experiment_names(study: str, stream: str) -> tuple[str, str]:
    """What a study's experiment may be called: as the study, or, beside another study of that name, with its ID."""
    return study, f"{study}@{stream[:8]}"


def known_runs(client: Any, experiment_id: str, stream: str) -> dict[str, KnownRun]:
    """The newest run of each trial, by its ID, and of the study, by its name; deleted ones too."""
    found: dict[str, KnownRun] = {}
    for run in _pages(client, experiment_id, f"tags.`{TAG_OUTBOX}` = '{stream}'"):
        name = run.data.tags.get(TAG_TRIAL) or run.data.tags.get(TAG_STUDY)
        if name is not None:
            found.setdefault(name, KnownRun.of(client, run))
    return found


def _pages(client: Any, experiment_id: str, query: str) -> Iterator[Any]:
    import mlflow

    token = None
    while True:
        page = client.search_runs([experiment_id], query, mlflow.entities.ViewType.ALL, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def delivered(study_dir: Path) -> dict[str | None, Delivered]:
    """What was sent to MLflow, by trial (None: for the study itself), according to the outbox of a study."""
    found: dict[str | None, Delivered] = {}
    for operation in _operations(study_dir):
        match operation:
            case Start():
                told = found.setdefault(operation.trial, Delivered())
                told.status, told.files = None, told.files or bool(operation.artifacts)
            case Finish() if operation.trial in found:
                found[operation.trial].status = operation.status
            case LogMetrics() if operation.trial in found and "epoch" in operation.metrics:
                found[operation.trial].epoch = operation.metrics["epoch"]
            case _:
                pass
    return found


def stream_of(study_dir: Path) -> str | None:
    """The ID of a study's outbox, of an earlier version whose ledger does not name it."""
    return next((each.stream for each in _operations(study_dir) if isinstance(each, Open)), None)


def _operations(study_dir: Path) -> Iterator[Operation]:
    for record in read_records(study_dir):
        with suppress(ValueError):  # the delivery reports it
            yield from_json(record)


def lost(name: str, run: KnownRun | None, told: Delivered) -> str | None:
    """How what MLflow has of a run differs from what was delivered, as the end of a sentence; None: it does not."""
    if run is None or run.is_deleted:
        return f"has lost the run `{name}`"
    if told.status not in (None, run.status) or told.epoch not in (None, run.epoch):
        return f"has an older state of the run `{name}`"
    return None
