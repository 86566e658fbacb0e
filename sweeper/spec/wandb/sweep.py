"""Reads a W&B sweep configuration, and writes the sweep file that means the same.

The format is that of https://docs.wandb.ai/models/sweeps/sweep-config-keys. What has no counterpart becomes a comment
in the result, and is returned to be reported: nothing is dropped silently.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sweeper.errors import UserError
from sweeper.search_space.paths import set_path
from sweeper.spec.reading.yaml_reader import parse_yaml, read_text
from sweeper.spec.wandb.parameters import dimension_of, parameters

DEFAULT_TRIALS: Final = 20
SAMPLERS: Final = {"bayes": "tpe", "random": "random", "grid": "grid"}
WORDS: Final = {
    "${env}": "",
    "${interpreter}": "{python}",
    "${args}": "{args}",
    "${args_no_hyphens}": "{overrides}",
    "${args_no_boolean_flags}": "{args}",
    "${args_json}": "{args_json}",
    "${args_json_file}": "{config_json}",
}
DEFAULT_COMMAND: Final = ("${env}", "${interpreter}", "${program}", "${args}")
KNOWN: Final = {"program", "method", "metric", "parameters", "run_cap", "early_terminate", "command", "name"}


@dataclass(frozen=True)
class Converted:
    """A sweep file made from another tool's.

    Attributes:
        text: the file.
        notes: what has no counterpart, or not quite, a sentence each; they are comments of the file too.
    """

    text: str
    notes: tuple[str, ...]


def convert_wandb(path: Path) -> Converted:
    """Convert a W&B sweep configuration.

    Raises:
        UserError: the file is not one, or lacks what a sweep file needs.
    """
    document = parse_yaml(read_text(path))
    if document.findings:
        first = document.findings[0]
        raise UserError(first.what, str(path), first.help)
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("parameters"), dict):
        raise UserError("not a W&B sweep configuration: it has no `parameters`", str(path))
    notes: list[str] = []
    base: dict[str, Any] = {}
    space: dict[str, dict[str, Any]] = {}
    for name, parameter in parameters(data["parameters"]):
        fixed, dimension = dimension_of(name, parameter, notes)
        if dimension is None:
            set_path(base, name, fixed)
        else:
            space[name] = dimension
    notes += [f"`{key}` has no counterpart: {json.dumps(data[key])}" for key in data if key not in KNOWN]
    lines = [
        f"# Converted from {path.name}, a W&B sweep configuration.",
        f"name: {_name(data.get('name') or path.stem)}",
        f"command: {json.dumps(_command(data, path, notes))}",
        "report: {wandb: true}   # its `import wandb` finds a stand-in, whose `log` reports to the sweep",
        *_section("base", {name: json.dumps(value) for name, value in base.items()}),
        *_section("search_space", {name: _flow(dimension) for name, dimension in space.items()}),
        *_objective(data, path, notes),
        *_trials(data, notes),
        f"sampler: {{name: {_sampler(data, path)}}}",
        f"scheduler: {_scheduler(data.get('early_terminate'), notes)}",
    ]
    return Converted("\n".join([*lines, *(f"# {note}" for note in notes)]) + "\n", tuple(notes))


def _command(data: Mapping[str, Any], path: Path, notes: list[str]) -> str:
    words = data.get("command", DEFAULT_COMMAND)
    words = words.split() if isinstance(words, str) else [str(word) for word in words]
    if "program" not in data and "${program}" in words:
        raise UserError("it names no `program`", str(path), "add the script: `program: train.py`")
    put = WORDS | {"${program}": str(data.get("program"))}
    filled = [re.sub(r"\$\{\w+\}", lambda match: put.get(match.group(), match.group()), word) for word in words]
    if "${args_no_boolean_flags}" in words:
        notes.append("`${args_no_boolean_flags}`: booleans are passed as --flag=true and --flag=false")
    notes += [f"`{word}` in `command` has no counterpart" for word in filled if "${" in word]
    return " ".join(f"'{word}'" if " " in word else word for word in filled if word)


def _objective(data: Mapping[str, Any], path: Path, notes: list[str]) -> list[str]:
    metric = data.get("metric")
    if not isinstance(metric, dict) or "name" not in metric:
        help = "add `metric: {name: val/loss, goal: minimize}`: a sweep file always has an objective"
        raise UserError("it names no metric", str(path), help)
    if str(metric["name"]).startswith("train/"):
        help = "name a validation metric and let the script log it: the best trial would be the one that memorised most"
        raise UserError(f"its metric `{metric['name']}` is a training metric", str(path), help)
    others = [key for key in metric if key not in ("name", "goal", "target")]
    notes += [f"`metric.{key}` has no counterpart: {json.dumps(metric[key])}" for key in others]
    mode = "max" if metric.get("goal") == "maximize" else "min"
    lines = [f"objective: {{metric: {json.dumps(metric['name'])}, mode: {mode}}}"]
    return lines + ([f"stop_when: {{target: {json.dumps(metric['target'])}}}"] if "target" in metric else [])


def _trials(data: Mapping[str, Any], notes: list[str]) -> list[str]:
    if "run_cap" in data:
        return [f"trials: {data['run_cap']}"]
    if data.get("method") == "grid":
        return []
    notes.append(f"`run_cap` is missing, so W&B would continue until stopped; `trials` is {DEFAULT_TRIALS} here")
    return [f"trials: {DEFAULT_TRIALS}"]


def _sampler(data: Mapping[str, Any], path: Path) -> str:
    method = data.get("method")
    if method not in SAMPLERS:
        raise UserError(f"`method` must be one of {', '.join(SAMPLERS)}, but got {json.dumps(method)}", str(path))
    return SAMPLERS[method]


def _scheduler(early: Any, notes: list[str]) -> str:
    """W&B's Hyperband has one bracket, which is ASHA: its first rung after `min_iter`, or `max_iter / eta ** s`."""
    if not isinstance(early, dict):
        return "{name: none}"
    eta = int(early.get("eta", 3))
    if "min_iter" in early:
        grace = float(early["min_iter"])
    elif "max_iter" in early:
        grace = max(1.0, early["max_iter"] / eta ** int(early.get("s", 2)))
    else:
        notes.append("`early_terminate` names neither `min_iter` nor `max_iter`: trials run to their end")
        return "{name: none}"
    if early.get("strict"):
        notes.append("`early_terminate.strict` has no counterpart")
    return (
        f"{{name: asha, grace_epochs: {grace:g}, eta: {max(2, eta)}}}   # an epoch is a logged value of the objective"
    )


def _name(name: object) -> str:
    cleaned = re.sub(r"[^a-z0-9_-]+", "-", str(name).lower()).strip("-_")[:64]
    return cleaned or "sweep"


def _section(key: str, entries: Mapping[str, str]) -> list[str]:
    if not entries:
        return []
    return [f"{key}:", *(f"  {json.dumps(name) if ':' in name else name}: {text}" for name, text in entries.items())]


def _flow(dimension: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in dimension.items()) + "}"
