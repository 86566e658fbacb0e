"""YAML for configuration files: 1.2 scalars, no surprises, and the place of every key and value.

PyYAML's own loader reads `1e-4` as a text and `no` as false, keeps the last of two equal keys, and expands aliases
until the memory is full. This one walks PyYAML's events and makes plain data by the YAML 1.2 core schema
(https://yaml.org/spec/1.2.2/#103-core-schema); anchors, aliases, tags and second documents are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from sweeper.errors import Problem, SpecError

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 32

KeyPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Place(NamedTuple):
    """A place in a text, both from 1."""

    line: int
    col: int


class SpecFinding(NamedTuple):
    """Something wrong at a path of the data; `place` is set if it is not simply the place of that path.

    A `place` that is a text is shown as it is (an option of the command line).
    """

    path: KeyPath
    what: str
    help: str | None = None
    place: Place | str | None = None
    at_key: bool = False


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None), the place of each part, and what was refused."""

    data: Any = None
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    findings: list[SpecFinding] = field(default_factory=list)


class _Abort(Exception):
    """The text cannot be read any further; the finding says why."""

    def __init__(self, what: str, help: str | None, place: Place) -> None:
        self.finding = SpecFinding((), what, help, place)


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file.

    Raises:
        SpecError: the file is missing, a folder or a pipe, unreadable, larger than 1 MB, or not UTF-8.
    """
    try:
        if path.is_fifo() and not str(path).startswith(("/dev/", "/proc/")):  # a shell's `<(command)` is there
            help = "write its output to a file, or use `<(command)` instead"
            raise SpecError([Problem("this is a pipe, which might never end", str(path), help)])
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError([Problem(f"cannot read the file: {reason}", str(path), "check the path")]) from error
    if len(raw) > MAX_BYTES:
        raise SpecError([Problem("the file is larger than 1 MB", str(path), "is it really a spec?")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        where = f"{path}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
        raise SpecError([Problem("the file is not UTF-8 text", where, "save it with the encoding UTF-8")]) from error


def parse_yaml(text: str) -> Document:
    """Read one YAML document. Nothing is raised: what is wrong is in `findings`, and `data` is as complete as
    possible."""
    document = Document()
    try:
        _refuse_tabs(text)
        _read(text, document)
    except _Abort as abort:
        document.data = None
        document.findings.append(abort.finding)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        finding = SpecFinding((), f"character U+{ord(text[error.position]):04X} is not allowed", "remove it", place)
        document.data, document.findings = None, [finding]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(1, 1) if mark is None else _place(mark)
        what = ", ".join(part for part in (error.context, error.problem) if part)
        document.data = None
        document.findings.append(SpecFinding((), f"not valid YAML: {what}", _syntax_help(error.problem), place))
    return document


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _refuse_tabs(text: str) -> None:
    for number, line in enumerate(text.split("\n"), start=1):
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if "\t" in indent and line.strip() and not line.lstrip().startswith("#"):
            raise _Abort("a tab in the indentation", "indent with spaces", Place(number, indent.index("\t") + 1))


def _syntax_help(problem: str | None) -> str:
    match problem or "":
        case text if "'\\t'" in text:
            return "use spaces, not tabs"
        case text if "mapping values are not allowed" in text:
            return "is the indentation right? a string that contains `: ` needs quotes"
        case text if "cannot start any token" in text:
            return "put quotes around a string that starts with this character"
        case _:
            return "check indentation, brackets and quotes here"


def _read(text: str, document: Document) -> None:
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    seen_document = seen_node = False
    for event in events:
        match event:
            case yaml.DocumentStartEvent() if seen_document:
                raise _Abort("the file contains several documents", "remove the `---` line", _place(event.start_mark))
            case yaml.DocumentStartEvent():
                seen_document = True
            case yaml.ScalarEvent() if not seen_node and event.style is None and event.start_mark == event.end_mark:
                break
            case yaml.NodeEvent():
                seen_node = True
                document.data = _node(event, events, (), document)
    if not seen_node:
        document.findings.append(SpecFinding((), "the file is empty", None, Place(1, 1)))


def _node(event: Any, events: Iterator[Any], path: KeyPath, document: Document) -> Any:
    """The data of the node that starts with `event`; takes its other events from `events`."""
    place = _place(event.start_mark)
    document.values[path] = place
    if len(path) > MAX_DEPTH:
        raise _Abort(f"nested more than {MAX_DEPTH} deep", None, place)
    if isinstance(event, yaml.AliasEvent):
        what = f"alias `*{event.anchor}` is not allowed"
        document.findings.append(SpecFinding(path, what, "write the value out here", place))
        return None
    if event.anchor is not None:
        what = f"anchor `&{event.anchor}` is not allowed"
        document.findings.append(SpecFinding(path, what, f"remove `&{event.anchor}`", place))
    if event.tag is not None:
        document.findings.append(SpecFinding(path, f"tag `{event.tag}` is not allowed", "remove it", place))
    match event:
        case yaml.ScalarEvent():
            return _scalar(event, path, place, document)
        case yaml.SequenceStartEvent():
            return _sequence(events, path, document)
        case _:
            return _mapping(events, path, document)


def _sequence(events: Iterator[Any], path: KeyPath, document: Document) -> list[Any]:
    items: list[Any] = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        items.append(_node(event, events, (*path, len(items)), document))
    return items


def _mapping(events: Iterator[Any], path: KeyPath, document: Document) -> dict[str, Any]:
    items: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        place = _place(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None or event.anchor is not None:
            raise _Abort("a key must be a plain string", "write `key: value`", place)
        key = str(event.value)
        below = (*path, key)
        if key in items:
            what = f"key `{key}` appears twice, first on line {document.keys[below].line}"
            document.findings.append(SpecFinding(below, what, "remove one of the two", place))
            _node(next(events), events, below, Document())
            continue
        document.keys[below] = place
        items[key] = _node(next(events), events, below, document)
    return items


def _scalar(event: Any, path: KeyPath, place: Place, document: Document) -> Any:
    """A plain scalar by the 1.2 core schema; a quoted or block scalar is a text."""
    text = str(event.value)
    if event.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            value = float(text)
            if isfinite(value):
                return value
    except ValueError:  # python refuses to read integers of thousands of digits
        document.findings.append(SpecFinding(path, "a number this long is not allowed", None, place))
        return None
    if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        document.findings.append(SpecFinding(path, f"expected a finite number but got {text}", None, place))
        return None
    return text
