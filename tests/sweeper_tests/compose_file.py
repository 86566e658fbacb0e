"""Reads docker/compose.yaml as Compose does: merges, then variables. No Compose is needed to test what it says."""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from places import ROOT

DOCKER = ROOT / "docker"
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<rest>[^}]*))?\})")


class MissingVariableError(Exception):
    """Compose would not start: a variable that must be given is not, or is empty."""


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """The compose file as it is with these variables.

    Raises:
        MissingVariableError: `${NAME:?message}` of a variable that is missing or empty.
    """
    return _filled(yaml.safe_load((DOCKER / "compose.yaml").read_text()), environment)


def example_environment() -> dict[str, str]:
    """What .env.example sets, without the lines that are commented out."""
    lines = (DOCKER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))  # type: ignore[misc]


def secrets() -> dict[str, str]:
    """A different value for every secret of .env.example."""
    return {name: f"secret-of-{name.lower()}" for name in example_environment()}


def _filled(node: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, environment) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, environment) for value in node]
    if not isinstance(node, str):
        return node

    def fill(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        value = environment.get(match["name"], "")
        if not value and match["how"] == ":?":
            raise MissingVariableError(f"{match['name']}: {match['rest']}")
        return value or (match["rest"] if match["how"] == ":-" else "")

    return VARIABLE.sub(fill, node)
