"""The messages between preflight and the process that checks a trainer: one line of JSON each.

The process answers on a separate descriptor, so that what a trainer prints, in Python or below it, is not taken for an
answer.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, TextIO

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from mano_trainers.report import CheckResult
from sweeper.errors import UserError

STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@with_config(STRICT)
@dataclass(frozen=True)
class PreflightRequest:
    """What is to be checked: the base config, and configs at the ends of the search space."""

    base: Mapping[str, Any]
    corners: Sequence[Mapping[str, Any]]

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@with_config(STRICT)
@dataclass(frozen=True)
class Prepared:
    """The data are there.

    Attributes:
        fingerprints: of the data.
        numerics: device and settings, as the trainer says.
        run_bytes: size of the checkpoints of one full run, if the trainer says so.
    """

    fingerprints: Mapping[str, str]
    numerics: Mapping[str, str]
    run_bytes: Annotated[int, Field(ge=0)] | None

    def to_json(self) -> str:
        return json.dumps({"prepared": asdict(self)})


@dataclass(frozen=True)
class Checked:
    """One check has ended."""

    result: CheckResult

    def to_json(self) -> str:
        return json.dumps({"checked": asdict(self.result)})


REQUEST: Final = TypeAdapter(PreflightRequest)
PREPARED: Final = TypeAdapter(Prepared)
RESULT: Final = TypeAdapter(CheckResult)


def request_from_json(line: str) -> PreflightRequest:
    """What preflight asks.

    Raises:
        UserError: it is not a request.
    """
    try:
        return REQUEST.validate_json(line)
    except ValidationError as error:
        raise UserError(f"preflight's request is not valid: {_first(error)}", help=SAME_VERSION) from None


def answer_from_json(line: str) -> Prepared | Checked:
    """An answer of the process.

    Raises:
        UserError: it is not an answer.
    """
    try:
        match json.loads(line):
            case {"prepared": content}:
                return PREPARED.validate_python(content)
            case {"checked": content}:
                return Checked(RESULT.validate_json(json.dumps(content)))
    except ValidationError as error:
        raise UserError(f"the preflight process gave an answer that is not valid: {_first(error)}") from None
    except ValueError:
        pass
    raise UserError(f"the preflight process gave an answer that is not valid: {line.strip()[:200]}", help=SAME_VERSION)


SAME_VERSION: Final = "is the same version of sweeper installed on every machine?"


def own_answers() -> TextIO:
    """Standard output as it was when the process started; from now on, everything is printed to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")  # children do not inherit it
    os.dup2(2, 1)
    return answers


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
