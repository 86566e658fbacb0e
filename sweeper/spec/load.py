"""Read a sweep file: its text, the overrides of the command line, and every error with its place."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from sweeper.entrypoint.resolve import remember_spec_folder
from sweeper.errors import Problem, SpecError
from sweeper.spec.reading.messages import dotted
from sweeper.spec.reading.overrides import apply_overrides, override_place
from sweeper.spec.reading.yaml_reader import Document, KeyPath, Place, SpecFinding, parse_yaml, read_text
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.validation.spec import check_spec

EXAMPLE: Final = "example:"
"""Before the name of a sweep file that comes with the package."""
EXAMPLES: Final = Path(__file__).parents[1] / "examples"


def load_spec(path: Path, overrides: Sequence[str] = (), trials: int | None = None) -> SweepSpec:
    """Read and validate a sweep file.

    Args:
        path: the YAML file; `example:NAME` is one that comes with the package.
        overrides: `key=value` with a dotted path of the spec and a YAML value, applied in order.
        trials: replaces the number of trials; kept as the override `trials=N`.

    Raises:
        SpecError: with everything that is wrong with the file and the overrides, each with its place.
    """
    if trials is not None:
        overrides = (*overrides, f"trials={trials}")
    text = read_text(_file(path))
    remember_spec_folder(path.absolute().parent)
    return parse_spec(text, path, overrides)


def _file(path: Path) -> Path:
    if not str(path).startswith(EXAMPLE):
        return path
    name = str(path).removeprefix(EXAMPLE)
    names = sorted(file.stem for file in EXAMPLES.glob("*.yaml"))
    if name not in names:
        close = get_close_matches(name, names, n=1)
        help = f"did you mean `{EXAMPLE}{close[0]}`?" if close else f"the examples are: {', '.join(names)}"
        raise SpecError([Problem(f"there is no example `{name}`", help=help)])
    return EXAMPLES / f"{name}.yaml"


def parse_spec(text: str, path: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """As `load_spec`, for a text that was read before (a study keeps the text of its spec); `path` is for errors."""
    document = parse_yaml(text)
    if any(finding.path == () for finding in document.findings):
        raise SpecError(_problems(document, {}, path, ()))  # the text could not be read to its end
    refused = [finding.path for finding in document.findings]
    places = apply_overrides(document, overrides) if isinstance(document.data, dict) else {}
    spec, findings = check_spec(document.data)
    document.findings += [
        finding for finding in findings if not any(finding.path[: len(known)] == known for known in refused)
    ]
    if spec is None or document.findings:
        raise SpecError(_problems(document, places, path, overrides))
    return SweepSpec(**dict(spec), text=text, path=path, overrides=tuple(overrides))


def _problems(document: Document, places: dict[KeyPath, str], path: Path, overrides: Sequence[str]) -> list[Problem]:
    """The findings with their places, in the order of the file; those of the command line last."""
    order = list(dict.fromkeys(override_place(text) for text in overrides))
    located: list[tuple[Place, Problem]] = []
    for finding in document.findings:
        place = finding.place or _override_of(finding.path, places) or _place_of(finding, document)
        key = dotted(finding.path)
        if isinstance(place, str):
            located.append((Place(sys.maxsize, order.index(place)), Problem(finding.what, place, finding.help)))
        else:
            where = f"{path}:{place.line}:{place.col} {key}".rstrip()
            located.append((place, Problem(finding.what, where, finding.help)))
    return [problem for _, problem in sorted(located, key=lambda pair: pair[0])]


def _override_of(path: KeyPath, places: dict[KeyPath, str]) -> str | None:
    """The override that set the value at the path, or something above or below it."""
    for changed, place in reversed(places.items()):
        shared = min(len(changed), len(path))
        if shared and changed[:shared] == path[:shared]:
            return place
    return None


def _place_of(finding: SpecFinding, document: Document) -> Place:
    """The place of the path in the file; of the nearest key above it if it is missing."""
    path = finding.path
    if path in document.values and not finding.at_key:
        return document.values[path]
    while path and path not in document.values:
        path = path[:-1]
    return document.keys.get(path) or document.values.get(path) or Place(1, 1)
