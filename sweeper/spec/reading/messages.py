"""What is wrong with a config, worded for people: pydantic's errors, and keys that a model does not know."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sweeper.spec.model import TRAINER_PATTERN
from sweeper.spec.reading.yaml_reader import KeyPath, SpecFinding
from sweeper.spec.sections import NAME_PATTERN, WARM_TRIALS_PATTERN

_PATTERN_WORDS: Final = {
    NAME_PATTERN: "lower-case letters, digits, `_` and `-`, at most 64",
    TRAINER_PATTERN: "`package.module:function`",
    WARM_TRIALS_PATTERN: "`all` or `best N`",
}
_KINDS: Final = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "path_type": "a path",
    "finite_number": "a finite number",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}
_BOUNDS: Final = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}
_YAML_1_1_WORDS: Final = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def show(value: object) -> str:
    """A value of the file as a message shows it: short, on one line, and without control characters."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in value)
            return f"`{text if len(text) <= 80 else text[:77] + '...'}`"
        case _:
            return f"{value}"


def dotted(path: Iterable[str | int]) -> str:
    """The path as one text: `loss.lambda_joint`, `guards.0.kind`."""
    return ".".join(show(part)[1:-1] if isinstance(part, str) else str(part) for part in path)


def did_you_mean(name: str, known: Sequence[str]) -> str | None:
    """The help line for a misspelt name: the closest known one, or all of them if they are few."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if not close:  # right leaf, wrong section: `lr` for `optim.lr`
        last = name.rsplit(".", 1)[-1]
        leaves = {candidate.rsplit(".", 1)[-1]: candidate for candidate in known}
        close = [leaves[leaf] for leaf in get_close_matches(last, list(leaves), n=1, cutoff=0.8)]
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 12 else None


def sub_model(annotation: object) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as `Model`, `Model | None` or `Annotated[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next((model for arg in get_args(annotation) if (model := sub_model(arg)) is not None), None)
    return None


def leaf_paths(model: type[BaseModel]) -> list[str]:
    """All dotted paths of a config model that hold a value and not a section."""
    paths: list[str] = []
    for name, info in model.model_fields.items():
        below = sub_model(info.annotation)
        paths += [name] if below is None else [f"{name}.{leaf}" for leaf in leaf_paths(below)]
    return paths


def unknown_path(model: type[BaseModel], path: str) -> tuple[str, str | None] | None:
    """Why a dotted path does not name a value of the config: what is wrong and the help, or None if it does."""
    current: type[BaseModel] | None = model
    parts = path.split(".")
    for depth, part in enumerate(parts, start=1):
        if current is None or part not in current.model_fields:
            return f"unknown key {show(part)}", did_you_mean(path, leaf_paths(model))
        annotation = current.model_fields[part].annotation
        current = sub_model(annotation)
        if current is None and (annotation is Any or get_origin(annotation) is dict):
            return None  # a free mapping: anything may be below it
        if current is None and depth < len(parts):
            return f"`{'.'.join(parts[:depth])}` is a value and has no key {show(parts[depth])}", None
    if current is not None:
        names = ", ".join(f"`{path}.{leaf}`" for leaf in leaf_paths(current))
        return f"`{path}` is a section, not a value", f"name one of {names}"
    return None


def findings_of(
    error: ValidationError, data: object, root: KeyPath, fix: Callable[[KeyPath], str | None]
) -> list[SpecFinding]:
    """One finding per error of pydantic, at its path in `data` (below `root`), worded for people.

    Args:
        error: what the validation of `data` raised.
        data: the validated mapping.
        root: path of `data` in the file.
        fix: gives the help line for the unknown key at a location of pydantic.
    """
    return [
        _finding(details, data, root, fix)
        for details in error.errors(include_url=False)
        if not (details["type"] == "too_short" and details["input"])  # it has entries, and each is reported
    ]


def _finding(details: Any, data: object, root: KeyPath, fix: Callable[[KeyPath], str | None]) -> SpecFinding:
    path = (*root, *_data_path(details["loc"], data, details["type"]))
    value, context = details["input"], details.get("ctx", {})
    name = show(str(path[-1])) if path else "the file"
    match details["type"]:
        case "missing":
            return SpecFinding(path, f"missing key {name}", f"add `{path[-1]}:`")
        case "union_tag_not_found":
            key = context["discriminator"].strip("'")
            return SpecFinding((*path, key), f"missing key `{key}`", f"add `{key}:`")
        case "union_tag_invalid":
            key = context["discriminator"].strip("'") if "'" in context["discriminator"] else "type"
            return _choice((*path, key), context["tag"], context["expected_tags"].split(", "))
        case "literal_error":
            return _choice(path, value, context["expected"].replace(" or ", ", ").split(", "))
        case "extra_forbidden":
            return SpecFinding(path, f"unknown key {name}", fix(details["loc"]), at_key=True)
        case "string_pattern_mismatch":
            words = _PATTERN_WORDS.get(context["pattern"], f"a string like {context['pattern']}")
            return SpecFinding(path, f"expected {words}, but got {show(value)}")
        case "too_short" | "string_too_short":
            return SpecFinding(path, "expected at least 1 entry but got none")
        case "value_error":
            text = str(context["error"])
            return SpecFinding((*path, *_named_first(text, value)), text)
        case kind if kind in _BOUNDS:
            sign, key = _BOUNDS[kind]
            return SpecFinding(path, f"expected a number {sign} {context[key]:g} but got {value:.12g}")
        case kind if kind in _KINDS:
            return SpecFinding(path, f"expected {_KINDS[kind]} but got {show(value)}", _kind_help(kind, value))
        case _:
            return SpecFinding(path, f"{details['msg'][:1].lower()}{details['msg'][1:]}, but got {show(value)}")


def _named_first(text: str, section: object) -> KeyPath:
    """The dotted key that a text about a config starts with, `loss.lambda_shape needs ...`, if the file has it."""
    path = tuple(text.partition(" ")[0].split("."))
    for part in path if len(path) > 1 else ("",):
        if not isinstance(section, Mapping) or part not in section:
            return ()
        section = section[part]
    return path


def _choice(path: KeyPath, value: object, expected: Sequence[str]) -> SpecFinding:
    names = [name.strip("'") for name in expected]
    close = get_close_matches(value, names, n=1) if isinstance(value, str) else []
    listed = ", ".join(f"`{name}`" for name in names)
    help = f"did you mean `{close[0]}`?" if close else None
    return SpecFinding(path, f"expected one of {listed}, but got {show(value)}", help)


def _kind_help(kind: str, value: object) -> str | None:
    match kind, value:
        case "bool_type" | "bool_parsing", str() if value.lower() in _YAML_1_1_WORDS:
            return f"write `{_YAML_1_1_WORDS[value.lower()]}`"
        case "string_type", bool() | int() | float():
            return f'put it in quotes: "{show(value)}"'
        case "int_type" | "int_from_float", float() if value.is_integer():
            return f"write {int(value)}"
        case _:
            return None


def _data_path(loc: Sequence[str | int], data: object, kind: str) -> KeyPath:
    """Pydantic's location without the names of union branches, which are in no file."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        inside_dict = isinstance(data, dict) and part in data
        inside_list = isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        if inside_dict or inside_list:
            data = data[part]  # type: ignore[index]  # checked above
            path.append(part)
        elif kind == "missing" and index == len(loc) - 1:
            path.append(part)
    return tuple(path)
