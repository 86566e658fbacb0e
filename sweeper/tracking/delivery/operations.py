"""What the driver tells MLflow, as objects and as the JSON of the outbox. Both ends of the outbox speak only this.

The JSON is a format on disk: an outbox that an earlier version wrote is read, and damage or foreign content is refused
with the reason instead of reaching MLflow.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words."""


class RejectedError(Exception):
    """MLflow will never accept this operation, however often it is delivered."""


class RecordsLostError(Exception):
    """MLflow no longer has what was delivered to it: its store was replaced, or emptied."""


@dataclass(frozen=True)
class Open:
    """The first operation of an outbox.

    Attributes:
        stream: ID of the outbox, by which its runs are found.
    """

    stream: str
    op: Literal["open"] = "open"


@dataclass(frozen=True)
class Start:
    """A trial's run is opened or reopened.

    Attributes:
        trial: its ID; None means the study itself, as in all operations.
        ms: when, in milliseconds since 1970.
        tags: of the run.
        artifacts: file name -> text.
        params: of the run, as text.
        datasets: name -> digest of what is trained on.
        restored: another outbox may have started the run: what MLflow already has of it stays.
    """

    trial: str | None
    ms: int
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    restored: bool = False
    op: Literal["start"] = "start"


@dataclass(frozen=True)
class LogMetrics:
    """The metrics of one evaluation.

    Attributes:
        trial: its ID, or None.
        step: number of the evaluation.
        ms: when it was.
        metrics: name -> value.
    """

    trial: str | None
    step: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    ms: int
    metrics: dict[str, float]
    op: Literal["report"] = "report"


@dataclass(frozen=True)
class Tag:
    """Tags of a run.

    Attributes:
        trial: its ID, or None.
        ms: when.
        tags: name -> text.
    """

    trial: str | None
    ms: int
    tags: dict[str, str]
    op: Literal["tags"] = "tags"


@dataclass(frozen=True)
class ExperimentTags:
    """Tags of the study's experiment.

    Attributes:
        tags: name -> text.
    """

    tags: dict[str, str]
    op: Literal["experiment_tags"] = "experiment_tags"


@dataclass(frozen=True)
class Copy:
    """Files become artifacts of a run.

    Attributes:
        trial: its ID, or None.
        ms: when.
        path: of the artifacts, inside the run.
        source: the file or folder, relative to the study's folder.
        op: `checkpoint` copies a whole folder, `pictures` the pictures in it, `file` one file.
    """

    trial: str | None
    ms: int
    path: str
    source: Annotated[str, Field(validation_alias=AliasChoices("folder", "file"))]
    op: Literal["checkpoint", "pictures", "file"]


@dataclass(frozen=True)
class Finish:
    """A run ends.

    Attributes:
        trial: its ID, or None.
        ms: when.
        status: FINISHED, FAILED or KILLED.
        tags: of the run: state and reason.
        artifacts: file name -> text.
    """

    trial: str | None
    ms: int
    status: Status
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    op: Literal["finish"] = "finish"


Operation = Open | Start | LogMetrics | Tag | ExperimentTags | Copy | Finish

_ADAPTER: Final[TypeAdapter[Operation]] = TypeAdapter(Annotated[Operation, Field(discriminator="op")])


def to_json(operation: Operation) -> dict[str, Any]:
    """The operation as the outbox keeps it."""
    record = dict(vars(operation))
    match operation:
        case Copy():
            record["file" if operation.op == "file" else "folder"] = record.pop("source")
        case Start() if not operation.restored:
            del record["restored"]
        case _:
            pass
    return record


def from_json(record: Mapping[str, Any]) -> Operation:
    """The operation that a line of the outbox holds.

    Raises:
        ValueError: it holds none; says what is wrong.
    """
    if "\\ud" in json.dumps(record):  # half a character, which no database stores
        record = json.loads(json.dumps(record, ensure_ascii=False).encode(errors="replace"))
    try:
        return _ADAPTER.validate_python(dict(record))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"not a valid record: {place + ': ' if place else ''}{first['msg']}") from error


def tag_texts(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as texts; those that are None are left out."""
    return {name: _storable(str(value)) for name, value in tags.items() if value is not None}


def param_texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Params as texts."""
    return {name: _storable(str(value)) for name, value in params.items()}


def tags_key(tags: Mapping[str, str]) -> str:
    """What is the same for the same tags."""
    return f"tags {json.dumps(dict(tags), sort_keys=True)}"


def _storable(text: str) -> str:
    """Half a character (a lone surrogate) is what no database stores."""
    return text.encode(errors="replace").decode()
