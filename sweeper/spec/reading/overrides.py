"""`--set key=value`: changes to the data of a spec before it is validated."""

import re
from collections.abc import Sequence
from typing import Any

from sweeper.spec.reading.messages import dotted, show
from sweeper.spec.reading.yaml_reader import Document, KeyPath, SpecFinding, parse_yaml


def apply_overrides(document: Document, overrides: Sequence[str]) -> dict[KeyPath, str]:
    """Write each `key=value` into the document's data; the value is YAML, the key a dotted path of the spec.

    What is wrong with an override is added to the document's findings.

    Returns:
        Path -> how the override is shown in an error, the later of two equal paths last.
    """
    places: dict[KeyPath, str] = {}
    for text in overrides:
        place = override_place(text)
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not value.strip():
            what = f"expected key=value but got {show(text)}"
            document.findings.append(SpecFinding((), what, "for example base.optim.epochs=2", place))
            continue
        parsed = parse_yaml(value)
        if parsed.findings:
            document.findings += [SpecFinding((), found.what, found.help, place) for found in parsed.findings]
            continue
        path = _key_path(document.data, key.strip())
        problem = _set(document.data, path, parsed.data)
        if problem:
            document.findings.append(SpecFinding((), problem, None, place))
            continue
        places.pop(path, None)
        places[path] = place
    return places


def override_place(text: str) -> str:
    """How an error names the override as its place."""
    shown = re.sub(r"(://[^:/@]*):[^/@]*@", r"\1:***@", show(text)[1:-1])  # the password of a URL
    return f"--set '{shown}'"


def _key_path(data: dict[str, Any], key: str) -> KeyPath:
    """The path a dotted key means. Keys of `search_space` and `variants` contain dots themselves: the longest one that
    fits is taken, and what is below a variant, a `when` or an entry of `enqueue` is one key."""
    head, _, rest = key.partition(".")
    space = data.get(head)
    if head in ("search_space", "variants") and rest and isinstance(space, dict | None):
        fitting = [name for name in space or {} if rest == name or rest.startswith(f"{name}.")]
        name = max(fitting, key=len, default=rest)
        below = rest[len(name) + 1 :]
        if head == "variants":
            return (head, name, below) if below else (head, name)
        return (head, name, *(below.split(".", 1 if below.startswith("when.") else -1) if below else ()))
    if key.startswith("ablation.factors.") and isinstance(data.get(head), dict):
        names = data[head].get("factors") or {}
        below = key.removeprefix("ablation.factors.")
        name = max((one for one in names if f"{below}.".startswith(f"{one}.")), key=len, default=below)
        level, _, path = below[len(name) + 1 :].partition(".")
        return (head, "factors", name, *(part for part in (level, path) if part))
    if head == "enqueue" and rest:
        index, _, name = rest.partition(".")
        return (head, int(index) if index.isdecimal() else index, *((name,) if name else ()))
    return tuple(key.split("."))


def _set(data: Any, path: KeyPath, value: object) -> str | None:
    """Set the value, creating mappings as needed; returns what is in the way, if anything."""
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(data, list):
            if not str(part).isdecimal() or int(part) >= len(data):
                return f"`{dotted(path[:depth])}` is a list of {len(data)}, it has no {show(str(part))}"
            part = int(part)
        elif not isinstance(data, dict):
            return f"`{dotted(path[:depth])}` is not a mapping, it cannot hold {show(str(part))}"
        elif not last and data.get(part) is None:
            data[part] = {}
        if last:
            data[part] = value
        else:
            data = data[part]
    return None
