"""The dimensions a sweep varies. Imports no sampler: the ledger turns a dimension into a distribution."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

ParamValue = float | int | str | bool | None


LARGEST: Final = 1e100
NARROWEST: Final = 1e-12
"""The narrowest range, as part of its larger bound: a number has 16 digits."""
LARGEST_INT: Final = 2**53
"""Whole numbers beyond it are not exact floats, with which samplers compute."""


class SpecModel(BaseModel):
    """Base of all spec models: unknown keys, silent casts, NaN and infinity are errors; instances do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _require_scalar(value: object) -> object:
    """One message for a wrong choice, where the union would give one for each of its types."""
    if not isinstance(value, bool | int | float | str | None) or (isinstance(value, float) and not isfinite(value)):
        hint = "; name each as a string, or write `variants`, which may set lists and mappings"
        what = hint if isinstance(value, list | tuple | dict) else ""
        raise ValueError(f"expected a string, a finite number, true, false or null, but got {value!r}{what}")
    return value


Choice = Annotated[bool | int | float | str | None, BeforeValidator(_require_scalar)]


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Choices = Annotated[
    tuple[Choice, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(_listed, json_schema_input_type=Choice | list[Choice]),
]


class _Conditional(SpecModel):
    when: dict[str, Choices] = Field(default_factory=dict)
    """The parameter exists only if each parameter named here has the value given for it, or one of the list; otherwise
    base's value stays."""


class Prior(SpecModel):
    """Where good values are expected: the first draws come from a normal distribution around it."""

    center: float
    """The most likely value."""
    spread: Annotated[float, Field(gt=0)]
    """Standard deviation; on a log scale a factor above 1: 3 means from a third to three times the center."""


class _Numeric(_Conditional):
    prior: Prior | None = None
    """Draws before the sampler learns, and all draws of `random` and `qmc`, come from around here; `cmaes` begins here,
    with this spread."""

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Studies of earlier versions recorded no prior, and having none is not a difference."""
        dumped: dict[str, Any] = handler(self)
        return {key: value for key, value in dumped.items() if not (key == "prior" and value is None)}


class FloatDimension(_Numeric):
    """A real number between two bounds, both included; or one of a list of numbers."""

    type: Literal["float"] = "float"
    low: float
    """Lower bound, included."""
    high: float
    """Upper bound, included."""
    log: bool = False
    """Sample on a log scale: as many values between 0.01 and 0.1 as between 0.1 and 1."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Only low, low + step, low + 2 step ... high. Not together with `log`."""
    values: Annotated[tuple[float, ...], Field(strict=False)] = ()
    """Only these numbers, instead of bounds; a grid tries them in this order."""

    @model_validator(mode="before")
    @classmethod
    def _bounds_of_values(cls, data: Any) -> Any:
        values = data.get("values") if isinstance(data, dict) else None
        if isinstance(values, list | tuple) and values and all(type(value) in (int, float) for value in values):
            data = {"low": min(values), "high": max(values)} | data
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.values:
            self._check_values()
            return self
        _check_bounds(self.low, self.high, self.log)
        _check_prior(self.prior, self.low, self.high, self.log)
        if self.step is not None:
            if self.log:
                raise ValueError("`step` and `log` cannot be used together")
            steps = (self.high - self.low) / self.step
            if steps < 1 or abs(steps - round(steps)) > 1e-6:
                raise ValueError(f"step {self.step:g} does not divide the range {self.low:g} to {self.high:g}")
        return self

    def _check_values(self) -> None:
        if (self.low, self.high) != (min(self.values), max(self.values)) or self.log or self.step is not None:
            raise ValueError("`values` cannot be combined with `low`, `high`, `log` or `step`")
        if self.prior is not None:
            raise ValueError("a prior needs bounds: leave out `prior`, or write `low` and `high` instead of `values`")
        _refuse_repeated("values", self.values)


class IntDimension(_Numeric):
    """A whole number between two bounds, both included."""

    type: Literal["int"]
    low: int
    """Lower bound, included."""
    high: int
    """Upper bound, included."""
    log: bool = False
    """Sample on a log scale."""
    step: Annotated[int, Field(ge=1)] = 1
    """Only low, low + step, low + 2 step ... high. Not together with `log`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if max(abs(self.low), abs(self.high)) > LARGEST_INT:
            raise ValueError(f"a bound of whole numbers must be between -{LARGEST_INT} and {LARGEST_INT}")
        _check_bounds(self.low, self.high, self.log)
        _check_prior(self.prior, self.low, self.high, self.log)
        if self.step != 1 and self.log:
            raise ValueError("`step` and `log` cannot be used together")
        if (self.high - self.low) % self.step:
            raise ValueError(f"step {self.step} does not divide the range {self.low} to {self.high}")
        return self


class CategoricalDimension(_Conditional):
    """One of the listed values; they have no order."""

    type: Literal["categorical"] = "categorical"
    choices: Annotated[tuple[Choice, ...], Field(strict=False, min_length=1)]
    """The values to choose from."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_repeated("choices", self.choices)
        return self


def _refuse_repeated(key: str, values: Sequence[ParamValue]) -> None:
    first: dict[ParamValue, ParamValue] = {}
    for value in values:
        known = first.setdefault(value, value)
        if known is not value and len({repr(known), repr(value)}) == 2:
            raise ValueError(f"`{key}` contains {known!r} and {value!r}, which samplers treat as the same")
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"`{key}` contains {repeated[0]!r} more than once")


def _dimension_kind(value: object) -> str | None:
    """Which dimension the mapping describes: `choices` or `type` tell, and without either it is a float."""
    if isinstance(value, SpecModel):
        return str(getattr(value, "type", ""))
    if not isinstance(value, Mapping):
        return "float"
    return "categorical" if "choices" in value else value.get("type", "float")


AnyDimension = FloatDimension | IntDimension | CategoricalDimension
Dimension = Annotated[
    Annotated[FloatDimension, Tag("float")]
    | Annotated[IntDimension, Tag("int")]
    | Annotated[CategoricalDimension, Tag("categorical")],
    Discriminator(_dimension_kind),
]
_DIMENSION: Final[TypeAdapter[AnyDimension]] = TypeAdapter(Dimension)


def dimensions_of(raw: Mapping[str, Any]) -> dict[str, AnyDimension]:
    """The dimensions of a search space that are right in themselves."""
    space = {}
    for path, dimension in raw.items():
        try:
            space[path] = _DIMENSION.validate_python(dimension)
        except ValidationError:
            continue  # the spec's own model says what is wrong
    return space


def _check_bounds(low: float, high: float, log: bool) -> None:
    largest = max(abs(low), abs(high))
    if largest > LARGEST:
        raise ValueError(f"a bound must be between -{LARGEST:.0e} and {LARGEST:.0e}, beyond which samplers overflow")
    if low >= high:
        raise ValueError(f"`low` must be less than `high`, but got low {low:g} and high {high:g}")
    if log and low <= 0:
        raise ValueError(f"`low` must be > 0 on a log scale, but got {low:g}")
    if high - low < max(NARROWEST * largest, 1 / LARGEST) or (log and low < 1 / LARGEST):
        raise ValueError(f"the range {low:g} to {high:g} is too small for the precision of numbers")


def _check_prior(prior: Prior | None, low: float, high: float, log: bool) -> None:
    if prior is None:
        return
    if not low <= prior.center <= high:
        raise ValueError(f"the center of the prior must be between {low:g} and {high:g}, but got {prior.center:g}")
    if log and prior.spread <= 1:
        raise ValueError(f"on a log scale the spread of the prior is a factor > 1, but got {prior.spread:g}")


def extremes(dimension: AnyDimension) -> list[tuple[tuple[str | int, ...], ParamValue]]:
    """The values that show whether a config accepts the whole dimension: both ends, or every listed value.

    Returns:
        Pairs of the path below the dimension (`("low",)`, `("choices", 0)`) and the value there.
    """
    if isinstance(dimension, CategoricalDimension):
        return [(("choices", index), value) for index, value in enumerate(dimension.choices)]
    if isinstance(dimension, FloatDimension) and dimension.values:
        return [(("values", index), value) for index, value in enumerate(dimension.values)]
    return [(("low",), dimension.low), (("high",), dimension.high)]
