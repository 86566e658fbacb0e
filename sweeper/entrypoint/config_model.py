"""The config that a training function takes, as a pydantic model: its own, or one made of a dataclass or of a dict of
defaults, so that a misspelt key is reported before any trial and every default is on record.

    def train(config: Config): ...                       a pydantic model or a dataclass, nested ones too
    def train(config={"lr": 0.1, "optim": {...}}): ...   a dict: the keys there are, with their defaults
    def train(config): ...                               any keys, and no model
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from typing import Any, Final, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from sweeper.entrypoint.place import written
from sweeper.errors import UserError

STRICT_KEYS: Final = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())


def config_model(function: Callable[..., Any]) -> type[BaseModel] | None:
    """The model of what the function's first parameter takes; None: a dict of whatever keys there are.

    Raises:
        UserError: as `first_annotation`; or its dataclass cannot be read.
    """
    annotation = first_annotation(function)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, type) and is_dataclass(annotation):
        try:
            return _of_dataclass(annotation)
        except (NameError, TypeError) as error:
            raise UserError(f"cannot read the fields of {annotation!r}: {error}") from error
    default = _default(function)
    return _of_mapping("Config", default) if default else None


def with_model(function: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """The config as the function's first parameter asks for it: a pydantic model, a dataclass, or a dict."""
    model = config_model(function)
    if model is None:
        return deepcopy(dict(config))
    validated = model.model_validate(dict(config))
    annotation = first_annotation(function)
    if annotation is model:
        return validated
    return _as_dataclass(annotation, validated) if _default(function) is None else validated.model_dump()


def first_annotation(function: Callable[..., Any]) -> Any:
    """What annotates the first parameter, or None.

    Raises:
        UserError: the annotations cannot be read: one names something that does not exist, or it is not a function.
    """
    try:
        hints = get_type_hints(written(function))
    except (NameError, TypeError) as error:
        raise UserError(f"cannot read the annotations of {function!r}: {error}") from error
    return hints.get(next(iter(inspect.signature(function).parameters), ""))


def _default(function: Callable[..., Any]) -> Mapping[str, Any] | None:
    """The dict that is the default of the first parameter, if there is one with strings as keys."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    default = first.default if first is not None else None
    return default if isinstance(default, Mapping) and all(isinstance(key, str) for key in default) else None


def _of_mapping(name: str, defaults: Mapping[str, Any]) -> type[BaseModel]:
    """A model of the keys of a dict. The values may be of any type: a default of 1 may become 0.5."""
    fields: dict[str, Any] = {}
    for key, value in defaults.items():
        if isinstance(value, Mapping) and value:
            below = _of_mapping(key, value)
            fields[key] = (below, Field(default_factory=below))
        else:
            fields[key] = (Any, Field(default_factory=lambda value=value: deepcopy(value)))
    return create_model(name, __config__=STRICT_KEYS, **fields)


def _of_dataclass(kind: type) -> type[BaseModel]:
    """A model of a dataclass, which also creates an instance of it: what its `__post_init__` refuses, the model
    refuses."""
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {}
    for field in _fields(kind):
        hint = hints[field.name]
        if is_dataclass(hint) and isinstance(hint, type):
            hint = _of_dataclass(hint)
        fields[field.name] = (hint, _field_default(field))

    def is_accepted(self: BaseModel) -> BaseModel:
        _as_dataclass(kind, self)
        return self

    check: Any = model_validator(mode="after")(is_accepted)
    return create_model(kind.__name__, __config__=STRICT_KEYS, __validators__={"is_accepted": check}, **fields)


def _fields(kind: Any) -> list["dataclasses.Field[Any]"]:
    return [field for field in dataclasses.fields(kind) if field.init]


def _field_default(field: "dataclasses.Field[Any]") -> Any:
    """The default of a dataclass's field; a dataclass as a default is validated like any other value."""
    if field.default is not dataclasses.MISSING:
        value = field.default
        return Field(default_factory=lambda: _plain(value), validate_default=True) if is_dataclass(value) else value
    if field.default_factory is not dataclasses.MISSING:
        make = field.default_factory
        return Field(default_factory=lambda: _plain(make()), validate_default=True)
    return ...


def _plain(value: Any) -> Any:
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return {field.name: _plain(getattr(value, field.name)) for field in _fields(value)}


def _as_dataclass(kind: Any, model: BaseModel) -> Any:
    hints = get_type_hints(kind)
    values = {name: getattr(model, name) for name in type(model).model_fields}
    for name, value in values.items():
        if isinstance(value, BaseModel) and is_dataclass(hints[name]):
            values[name] = _as_dataclass(hints[name], value)
    return kind(**values)
