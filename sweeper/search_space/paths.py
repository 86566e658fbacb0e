"""Dotted paths of a nested config: set a value, list all values, and shorten names for tables."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


def set_path(config: dict[str, Any], path: str, value: object) -> None:
    """Set the dotted `path` in a nested mapping, making the mappings on the way.

    Raises:
        TypeError: a part of the path before the last is not a mapping.
    """
    *parents, last = path.split(".")
    for part in parents:
        config = config.setdefault(part, {})
        if not isinstance(config, dict):
            raise TypeError(f"`{part}` of `{path}` is not a mapping")
    config[last] = value


def leaves(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted path -> value of everything in a nested mapping: the inverse of `set_path`."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= leaves(value, f"{above}{key}.") if isinstance(value, Mapping) and value else {f"{above}{key}": value}
    return found


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Names for the columns of a table: the last segment of each path if it is unique, otherwise the whole path."""
    paths = list(paths)
    count = Counter(path.rsplit(".", 1)[-1] for path in paths)
    return {path: last if count[last := path.rsplit(".", 1)[-1]] == 1 else path for path in paths}


def column_names(paths: Iterable[str]) -> dict[str, str]:
    """As `short_names`, without the `lambda_` that all loss weights start with, where that leaves names different."""
    names = short_names(paths)
    cut = {path: name.removeprefix("lambda_") or name for path, name in names.items()}
    count = Counter(cut.values())
    return {path: name if count[name] == 1 else names[path] for path, name in cut.items()}
