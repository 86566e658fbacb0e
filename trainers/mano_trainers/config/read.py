"""Reads a config from a YAML file, with overrides, and says what is wrong with it. The sweeper has its own reader,
which keeps the place of every key; the trainer runs without it.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mano_trainers.config import TrainConfig
from mano_trainers.errors import ConfigError


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The config of a YAML file with `dotted.key=value` overrides, values written as in YAML.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or an override cannot be understood.
        ValidationError: keys or values are wrong; it lists all of them.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", str(path)) from None
    mapping = parse_yaml(text, str(path))
    mapping = {} if mapping is None else mapping
    if not isinstance(mapping, dict):
        raise ConfigError("must hold keys and values", str(path), "begin with a line such as `seed: 0`")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError("must be KEY=VALUE", f"--set {override}", "for example --set optim.lr=1e-3")
        *parents, last = key.split(".")
        inner = mapping
        for name in parents:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{name} contains a value, not keys", f"--set {override}")
        inner[last] = parse_yaml(text, f"--set {override}")
    return TrainConfig.model_validate(mapping)


def problems(error: ValidationError, path: Path) -> list[tuple[str, str, str | None]]:
    """What, where and how to fix it, of each of pydantic's errors in a config from this file."""
    return [_problem(item, path) for item in error.errors()]


class _Loader(yaml.SafeLoader):
    """YAML by the 1.2 core schema, as sweep files are read: `1e-4` is a number, `010` is ten, `no` is a text; a key
    given twice is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """An integer: decimal whatever it begins with, or after 0o or 0x."""
        return int(node.value, 0) if node.value[:2] in ("0o", "0x") else int(node.value)


for tag, first, pattern in (
    ("int", "-+0123456789", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", "-+.0123456789", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    ("bool", "tTfF", r"true|True|TRUE|false|False|FALSE"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), list(first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)


def parse_yaml(text: str, where: str) -> Any:
    """The data of a YAML document.

    Raises:
        ConfigError: it is not YAML; names `where` and the line.
    """
    try:
        return yaml.load(text, _Loader)
    except ValueError:  # python refuses to read integers of thousands of digits
        raise ConfigError("a number this long is not allowed", where) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        raise ConfigError(f"{error.problem}", f"{where}{place}") from None


def _problem(item: Any, path: Path) -> tuple[str, str, str | None]:
    key = ".".join(str(part) for part in item["loc"])
    what, help_line = f"{item['msg']}, but got {item['input']!r}", None
    if item["type"] == "value_error":  # the text says everything, and the input may be a whole section
        what = str(item["ctx"]["error"])
    if item["type"] == "extra_forbidden":
        section: Any = TrainConfig
        for part in item["loc"][:-1]:
            section = section.model_fields[part].annotation
        names = list(section.model_fields)
        close = difflib.get_close_matches(key.rsplit(".", 1)[-1], names, 1)
        what = "there is no such key"
        help_line = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(names)}"
    return what, f"{path} {key}", help_line
