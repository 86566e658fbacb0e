"""The trainer of a sweep file with `command`: an unchanged script, run once for each trial.

The command is split as a shell would, but no shell runs it: use `bash -c '...'` if one is needed. Placeholders are

    {python}        the interpreter of this environment
    {lr}            the value of a parameter, or of a nested one: {optim.lr}
    {args}          --key=value for every parameter
    {overrides}     key=value for every parameter, as Hydra takes them
    {args_json}     all parameters as one JSON text
    {config_json}   path of a JSON file with all parameters; {config_yaml}: of a YAML file
    {workdir}       the trial's folder
    {resume}        the checkpoint to continue from, empty at the start
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from mano_trainers.report import EpochReport
from sweeper.entrypoint.program.event_files import EventReader
from sweeper.entrypoint.program.readers import PatternReader, Reader, RowReader
from sweeper.entrypoint.program.script import run_script
from sweeper.errors import UserError
from sweeper.files import sha256_of
from sweeper.reporting import stand_in
from sweeper.search_space.paths import leaves

PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([A-Za-z_][\w./-]*)\}")
"""`${HOME}` in a `bash -c` is for the shell."""
ALL_PARAMETERS: Final = ("{args}", "{overrides}")
"""Words that stand for several."""
PLACES: Final = ("workdir", "resume", "python", "args_json", "config_json", "config_yaml")
"""Placeholders beside the parameters."""
COMMAND: Final = "command"
"""Field of the trial's config that holds the command, beside its parameters."""


def train(config: dict[str, Any], workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    """Run the trial's command; yields what it reports."""
    settings, parameters = config[COMMAND], {key: value for key, value in config.items() if key != COMMAND}
    files = _write_config(parameters, workdir)
    words = fill(
        settings["line"],
        parameters,
        files | {"workdir": str(workdir), "resume": str(resume or ""), "python": sys.executable},
    )
    environment = stand_in.environment(settings["objective"]) if settings.get("wandb") else {}
    yield from run_script(
        words,
        parameters,
        workdir,
        resume,
        readers=_readers(settings, workdir, is_new=resume is None),
        environment=environment,
    )


def prepare(config: dict[str, Any]) -> dict[str, str]:
    """Checksums of the files that the command names, its script above all: a different one means a different study."""
    words = map(Path, shlex.split(config.get(COMMAND, {}).get("line", "")))
    return {str(path): sha256_of(path)[:16] for path in words if path.suffix and path.is_file()}


def fill(line: str, parameters: Mapping[str, Any], others: Mapping[str, str]) -> list[str]:
    """The words of a command, with placeholders filled in.

    Raises:
        UserError: a placeholder is unknown.
    """
    values = {name: text(value) for name, value in leaves(parameters).items()}
    words: list[str] = []
    for word in shlex.split(line):
        match word:
            case "{args}":
                words += [f"--{name}={value}" for name, value in values.items()]
            case "{overrides}":
                words += [f"{name}={value}" for name, value in values.items()]
            case _:
                words.append(PLACEHOLDER.sub(lambda match: _value(match.group(1), values, others), word))
    return words


def text(value: Any) -> str:
    """A value as a command line has it: numbers that read back exactly, lists and mappings as JSON."""
    match value:
        case str():
            return value
        case bool() | None | list() | dict() | tuple():
            return json.dumps(value)
        case _:
            return repr(value)


def _value(name: str, values: Mapping[str, str], others: Mapping[str, str]) -> str:
    if name in values or name in others:
        return values[name] if name in values else others[name]
    known = ", ".join([*values, *others])
    raise UserError(f"`{{{name}}}` in `command` does not name a parameter", help=f"the parameters are {known}")


def _write_config(parameters: Mapping[str, Any], workdir: Path) -> dict[str, str]:
    workdir.mkdir(parents=True, exist_ok=True)
    as_json, as_yaml = workdir / "config.json", workdir / "config.yaml"
    as_json.write_text(json.dumps(dict(parameters), indent=2))
    as_yaml.write_text(yaml.safe_dump(dict(parameters), sort_keys=False))
    return {"args_json": json.dumps(dict(parameters)), "config_json": str(as_json), "config_yaml": str(as_yaml)}


def _readers(settings: Mapping[str, Any], workdir: Path, *, is_new: bool) -> list[Reader]:
    objective, patterns = settings["objective"], settings.get("patterns")

    def place(name: str) -> Path | None:
        given = settings.get(name)
        return Path(given.replace("{workdir}", str(workdir))) if given else None

    rows, events = place("rows"), place("tensorboard")
    if rows and is_new and rows.is_relative_to(workdir):
        rows.unlink(missing_ok=True)  # left by an attempt that was killed: this one starts over
    readers: list[Reader | None] = [
        RowReader(rows, objective) if rows else None,
        EventReader(events, objective) if events else None,
        PatternReader(patterns, objective) if patterns else None,
    ]
    return [reader for reader in readers if reader]
