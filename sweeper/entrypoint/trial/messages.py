"""The messages between a trial and those that run it: one line of JSON each, checked when read.

The worker gives the trial's process a `TrialOrder`, then asks for one report after another. Answers go the other way:
from the trial's process to the worker, and from there, with what only the worker knows, to the driver.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

STRICT: Final = ConfigDict(extra="forbid")


@with_config(STRICT)
@dataclass(frozen=True)
class TrialOrder:
    """A trial to be run.

    Attributes:
        config: of the trainer.
        workdir: the trial's own folder.
        resume: the checkpoint to resume from.
        folder: the working folder.
        log: the file that gets what the trial prints.
        run_file: names the trial's MLflow run, if its tracking server can be reached from here.
        environment: variables for the trial.
    """

    config: Mapping[str, Any]
    workdir: str
    resume: str | None
    folder: str
    log: str
    run_file: str | None
    environment: Mapping[str, str]

    def to_json(self) -> str:
        return json.dumps({"job": asdict(self)})


@with_config(STRICT)
@dataclass(frozen=True)
class Reported:
    """An evaluation (`EpochReport`). `manifest` and `passed_over` come from the worker if checkpoints go to a store."""

    step: int
    epoch: float
    metrics: Mapping[str, float]
    checkpoint: str | None
    total_epochs: float | None
    manifest: str | None = None
    passed_over: Sequence[str] = ()
    kind: Literal["report"] = "report"


@with_config(STRICT)
@dataclass(frozen=True)
class Ended:
    """The trainer has no more reports."""

    kind: Literal["end"] = "end"


@with_config(STRICT)
@dataclass(frozen=True)
class Raised:
    """The trainer failed; `of_program`: it is a command, whose output says more than our traceback."""

    error: str
    traceback: str
    of_program: bool = False
    last_lines: Sequence[str] = ()
    kind: Literal["error"] = "error"


@with_config(STRICT)
@dataclass(frozen=True)
class Gone:
    """The trial's process has ended. `how`: a verb phrase."""

    how: str
    last_lines: Sequence[str] = ()
    kind: Literal["gone"] = "gone"


@with_config(STRICT)
@dataclass(frozen=True)
class Idle:
    """The trial is over, and its process is ready for the next one."""

    kind: Literal["idle"] = "idle"


@with_config(STRICT)
@dataclass(frozen=True)
class Ready:
    """The machine has what the trial needs."""

    kind: Literal["ready"] = "ready"


@with_config(STRICT)
@dataclass(frozen=True)
class Unfit:
    """The machine differs from the driver's in what decides results."""

    problem: str
    kind: Literal["unfit"] = "unfit"


@with_config(STRICT)
@dataclass(frozen=True)
class StoreLost:
    """The store of checkpoints cannot be reached."""

    problem: str
    kind: Literal["lost"] = "lost"


Answer = Reported | Ended | Raised | Gone | Idle | Ready | Unfit | StoreLost

_ANSWER: Final[TypeAdapter[Answer]] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])
_ORDER: Final = TypeAdapter(TrialOrder)


def to_json(answer: Answer) -> str:
    return json.dumps(asdict(answer))


def answer_from_json(line: str | bytes) -> Answer:
    """What a trial, or the worker that runs it, has said.

    Raises:
        ValueError: it is none of the messages.
    """
    try:
        return _ANSWER.validate_python(json.loads(line))
    except ValidationError as error:
        raise ValueError(f"a worker's message is not valid: {error}") from None


def order_from_json(line: str | bytes) -> TrialOrder:
    """The trial that is to be run.

    Raises:
        ValueError: it is not an order.
    """
    try:
        return _ORDER.validate_python(json.loads(line)["job"])
    except (ValidationError, KeyError, TypeError) as error:
        raise ValueError(f"a trial's order is not valid: {error}") from None
