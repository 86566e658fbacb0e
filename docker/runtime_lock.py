"""Prints the part of requirements.lock that an image needs: no test runner, linter or type checker goes into it.

    python docker/runtime_lock.py pyproject.toml requirements.lock EXTRA... > runtime.lock

Versions and hashes stay those of the lock, letter by letter. What is needed is found by the lock's own `# via` notes,
from the dependencies of the project and of the extras that are named.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def normal(name: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def roots(project: str, extras: Iterable[str]) -> set[str]:
    """Names that the project and its extras ask for directly."""
    table = tomllib.loads(project)["project"]
    wanted = [*table["dependencies"], *(line for extra in extras for line in table["optional-dependencies"][extra])]
    return {normal(NAME.match(line)[0]) for line in wanted}  # type: ignore[index]


def blocks(lock: str) -> dict[str, list[str]]:
    """Name -> the lock's blocks of it (one a version: markers choose between them), each with its notes."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock.strip()):
        found.setdefault(normal(NAME.match(block)[0]), []).append(block)  # type: ignore[index]
    return found


def needed_by(block: str) -> set[str]:
    """Names in a block's `# via` notes."""
    notes = re.findall(r"^ +#(?: via)? +(?!via$)([A-Za-z0-9][A-Za-z0-9._-]*)", block, flags=re.MULTILINE)
    return {normal(note) for note in notes}


def runtime_lock(project: str, lock: str, extras: Iterable[str]) -> str:
    """The blocks of what the roots need, in the lock's order.

    Raises:
        KeyError: no such extra.
        ValueError: the lock lacks a root; it is out of date.
    """
    known = blocks(lock)
    needed = roots(project, extras)
    if missing := needed - known.keys():
        raise ValueError(f"not in the lock: {', '.join(sorted(missing))}; run `make lock`")
    while more := {name for name in known.keys() - needed if any(needed_by(block) & needed for block in known[name])}:
        needed |= more
    return "\n".join(block for name in known if name in needed for block in known[name]) + "\n"


if __name__ == "__main__":
    print(runtime_lock(Path(sys.argv[1]).read_text(), Path(sys.argv[2]).read_text(), sys.argv[3:]), end="")
