"""Reference pages, written from the code: `python -m tools.reference cli > docs/cli.md`, `... spec > docs/spec.md`.

A test compares the pages with what this prints.
"""

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mano_trainers.config import TrainConfig
from sweeper.cli.group import SECTIONS
from sweeper.cli.main import sweeper
from sweeper.entrypoint.resolve import DEFAULT_TRAINER
from sweeper.spec.model import SpecFile

WRITTEN: Final = "<!-- Written by `python -m tools.reference {page}`; change the code, not this file. -->"
EXIT_CODES: Final = """\
| code | meaning |
|---|---|
| 0 | done; for `reproduce`: the rerun is the same within the tolerance |
| 1 | some trial failed; for `sync`: records still wait; for `doctor`: something is left to be fixed |
| 2 | bad input: the message says what, where and how to fix it; nothing was changed |
| 3 | the preflight failed, or no trial beats the controls; for `winners`: nothing could be promoted |
| 4 | for `reproduce`: the rerun differs |
| 5 | MLflow refused records of the study for good: `run`, `resume`, `sync`, `status`, `doctor` |
| 130, 143, 129 | ended by Ctrl-C, SIGTERM or a closed terminal; the same command continues |

Data go to stdout, all else to stderr. An error has this form; those in a file are reported all at once:

    error: unknown key `lamda_joint`
      --> sweep.yaml:5:3 search_space.loss.lamda_joint
    help: did you mean `loss.lambda_joint`?"""

KIND: Final = "Says which kind this is."


def cli_page() -> str:
    """Every verb with its help, in the order of `sweeper --help`."""
    group = click.Context(sweeper, info_name="sweeper", terminal_width=100, **sweeper.context_settings)
    order = sweeper.list_commands(group)
    lines = ["# The command line", "", WRITTEN.format(page="cli"), ""]
    lines += ["## Exit codes", "", EXIT_CODES, ""]
    sections = dict.fromkeys(order, list(SECTIONS)[-1]) | {
        verb: name for name, verbs in SECTIONS.items() for verb in verbs
    }
    heading = ""
    for verb in order:
        if sections[verb] != heading:
            heading = sections[verb]
            lines += [f"## {heading}", ""]
        for command, context in _commands(sweeper.commands[verb], verb, group):
            lines += [f"### {context.command_path}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _commands(
    command: click.Command, name: str, parent: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100)
    yield command, context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _commands(command.commands[inner], inner, context)


def spec_page() -> str:
    """Every key of a sweep file, and of `base` for the default trainer, with type, default and meaning."""
    lines = ["# Keys of a sweep file", "", WRITTEN.format(page="spec"), ""]
    lines += [
        "`sweeper check FILE` reports everything wrong with a file. An editor that knows YAML schemas completes keys"
    ]
    lines += ["with `# yaml-language-server: $schema=schema.json` in a file of `search_spaces/`.", ""]
    lines += _section("The file", SpecFile, set())
    lines += [
        "# Keys of `base`",
        "",
        f"The config of the default trainer, `{DEFAULT_TRAINER}`, and of `python -m mano_trainers`. A dotted path such",
        "as `optim.lr` names one of them in `search_space`, `variants` and `ablation`;",
        "`--set base.optim.lr=1e-3` sets it.",
        "",
    ]
    lines += _section("base", TrainConfig, set())
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, model: type[BaseModel], seen: set[type[BaseModel]]) -> list[str]:
    """The table of a model, then those of the models within."""
    seen.add(model)
    lines = [f"## {title}", ""]
    if model.__doc__ and (said := inspect.cleandoc(model.__doc__)):
        lines += [said, ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        kinds = _models(field.annotation)
        said = " ".join(
            (field.description or (kinds[0].__doc__ if kinds else "") or ("Section." if kinds else KIND)).split()
        )
        lines.append(f"| `{key}` | {_cell(_type(field))} | {_cell(_default(field))} | {_cell(said)} |")
        inner += [(_title(title, key, kind, kinds), kind) for kind in kinds]
    lines.append("")
    for inner_title, kind in inner:
        if kind not in seen:
            lines += _section(inner_title, kind, seen)
    return lines


def _title(title: str, key: str, kind: type[BaseModel], kinds: list[type[BaseModel]]) -> str:
    path = key if title in ("The file", "base") else f"{title}.{key}"
    return path if len(kinds) == 1 else f"{path}: {re.sub(r'(?<!^)(?=[A-Z])', ' ', kind.__name__).lower()}"


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is made of, in written order; dimensions are behind a validator."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel) or (isinstance(value, tuple) and value and isinstance(value[0], BaseModel)):
        return "see below"
    return f"`{_yaml(value)}`" if value is not None else "none"


def _yaml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple() | list():
            return f"[{', '.join(map(_yaml, value))}]"
        case Mapping():
            return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
        case float():
            return f"{value:g}"
    return str(value)


def _type(field: FieldInfo) -> str:
    return _named(field.annotation) + _limits(field.metadata)


def _limits(metadata: Any) -> str:
    """Bounds, as ` > 0, <= 1`."""
    signs: dict[type, Callable[[Any], str]] = {
        annotated_types.Ge: lambda bound: f">= {bound.ge:g}",
        annotated_types.Gt: lambda bound: f"> {bound.gt:g}",
        annotated_types.Le: lambda bound: f"<= {bound.le:g}",
        annotated_types.Lt: lambda bound: f"< {bound.lt:g}",
    }
    flat = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    said = [signs[type(item)](item) for item in flat if type(item) in signs]
    return f" {', '.join(said)}" if said else ""


def _named(annotation: Any) -> str:
    """A type in the words of the error messages."""
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", type(None): "none", Any: "value"}
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in names:
        return names[annotation]
    if origin is Annotated:
        return _named(inner[0]) + _limits(inner[1:])
    if origin is Literal:
        return ", ".join(f"`{_yaml(choice)}`" for choice in inner)
    if origin in (Union, types.UnionType):
        known = [_named(kind) for kind in inner if kind is not type(None)]
        return " or ".join(dict.fromkeys(known))
    if origin in (tuple, list):
        return f"list of {' and '.join(dict.fromkeys(_named(kind) for kind in inner if kind is not ...))}"
    if origin is dict:
        return f"mapping to {_named(inner[1])}"
    return "mapping" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else str(annotation)


PAGES: Final[Mapping[str, Callable[[], str]]] = {"cli": cli_page, "spec": spec_page}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PAGES:
        sys.exit(f"usage: python -m tools.reference {'|'.join(PAGES)}")
    print(PAGES[sys.argv[1]](), end="")
