"""The part of a sweep file that runs an unchanged script: `command`, and where its reports come from."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from sweeper.search_space.dimensions import SpecModel

COMMAND_TRAINER: Final = "sweeper.entrypoint.program.command:train"
"""The trainer that a spec with `command` stands for."""
COMMAND: Final = "command"
WORKDIR: Final = "{workdir}"
"""In a command, and in the path of what it writes: the trial's own folder."""


def _require_pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"not a valid regular expression: {error}") from None
    if groups < 1:
        raise ValueError("the number must be in a group: put parentheses around it")
    return pattern


class ScriptReports(SpecModel):
    """Where the reports come from, of a script that does not call `sweeper.report`."""

    patterns: dict[str, Annotated[str, AfterValidator(_require_pattern)]] = Field(default_factory=dict)
    """Applied to what it prints: name of a metric, or `epoch` -> regular expression whose first group is the number.
    Each time the objective is printed is a report, with the latest value of every other metric."""
    rows: Annotated[str, Field(min_length=1)] | None = None
    """A CSV file with a header, or a file of JSON lines, that it appends to: each row with the objective is a report.
    `{workdir}` in it is the trial's folder."""
    tensorboard: Annotated[str, Field(min_length=1)] | None = None
    """A folder in which, or below which, it writes TensorBoard's event files: each step at which a scalar with the
    objective's name is written is a report. `{workdir}` as for `rows`."""
    wandb: bool = False
    """Its `import wandb` finds a stand-in, whose `log` reports to the sweep: it needs no account and no change."""


def of_command(data: Any) -> Any:
    """A spec that names a command, as one that names the trainer which runs it. It is not a hand trainer's, so no guard
    watches the variance of theta unless the file says so."""
    if not isinstance(data, dict) or COMMAND not in data or "trainer" in data:
        return data
    return {"guards": []} | data | {"trainer": COMMAND_TRAINER}


def with_command(config: dict[str, Any], command: str, report: ScriptReports, objective: str) -> dict[str, Any]:
    """The config of a trial, with what its trainer needs to know of the command."""
    settings: Mapping[str, Any] = {"line": command, "objective": objective, **report.model_dump()}
    return {**config, COMMAND: dict(settings)}
