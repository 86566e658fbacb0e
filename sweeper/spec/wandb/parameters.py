"""The parameters of a W&B sweep configuration, as a sweep file's dimensions."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sweeper.errors import UserError

SPREADS: Final = 3.0
"""Standard deviations to each side of a normal distribution's mean that the bounds in its place reach."""
UNIFORM: Final = ("uniform", "int_uniform", "q_uniform")
LOG: Final = ("log_uniform", "log_uniform_values", "q_log_uniform", "q_log_uniform_values")
INVERSE: Final = ("inv_log_uniform", "inv_log_uniform_values")
NORMAL: Final = ("normal", "log_normal", "q_normal", "q_log_normal")
KINDS: Final = (*UNIFORM, *LOG, *INVERSE, *NORMAL)


def parameters(given: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Dotted name -> definition, of nested parameters too."""
    for name, parameter in given.items():
        path = f"{above}{name}"
        if not isinstance(parameter, dict):
            raise UserError(f"parameter `{path}` is not a mapping, but {json.dumps(parameter)}")
        if isinstance(nested := parameter.get("parameters"), dict):
            yield from parameters(nested, f"{path}.")
        else:
            yield path, parameter


def dimension_of(name: str, parameter: Mapping[str, Any], notes: list[str]) -> tuple[Any, dict[str, Any] | None]:
    """The fixed value of a parameter and None, or None and its dimension. What has no counterpart goes to the notes.

    Raises:
        UserError: it has neither values nor bounds, or an unknown distribution.
    """
    if "value" in parameter:
        return parameter["value"], None
    if "values" in parameter:
        if "probabilities" in parameter:
            notes.append(f"`{name}`: choices are drawn with equal probability; it had {parameter['probabilities']}")
        return None, {"choices": _choices(name, parameter["values"], notes)}
    kind = parameter.get("distribution") or _bounds_kind(parameter)
    if kind not in KINDS:
        raise UserError(f"parameter `{name}` has the distribution `{kind}`", help=f"known are {', '.join(KINDS)}")
    if kind in NORMAL:
        return None, _normal(name, kind, parameter, notes)
    low, high = _bounds(name, kind, parameter)
    if low == high:
        notes.append(f"`{name}`: both bounds are {low:g}, so it is fixed")
        return low, None
    return None, _between(name, kind, low, high, parameter, notes)


def _choices(name: str, values: Any, notes: list[str]) -> list[Any]:
    """Texts, numbers and truth values; a list or mapping as its JSON text, and each once."""
    if not isinstance(values, list) or not values:
        raise UserError(f"`values` of parameter `{name}` is not a list of values, but {json.dumps(values)}")
    if any(isinstance(value, list | dict) for value in values):
        notes.append(f"`{name}`: lists and mappings are JSON texts; the stand-in for wandb reads them back")
    texts = [json.dumps(value) if isinstance(value, list | dict) else value for value in values]
    distinct = [value for index, value in enumerate(texts) if value not in texts[:index]]  # 1, 1.0 and true are equal
    if len(distinct) < len(texts):
        left_out = [value for index, value in enumerate(texts) if value in texts[:index]]
        notes.append(f"`{name}`: equal values are named once; left out: {', '.join(map(json.dumps, left_out))}")
    return distinct


def _bounds_kind(parameter: Mapping[str, Any]) -> str:
    """The distribution of bounds alone: integers if both of them are, as W&B has it."""
    if "mu" in parameter or "sigma" in parameter:
        return "normal"
    return "int_uniform" if all(type(parameter.get(key)) is int for key in ("min", "max")) else "uniform"


def _bounds(name: str, kind: str, parameter: Mapping[str, Any]) -> tuple[float, float]:
    """Lower and upper bound; those of `log_uniform`, without `_values`, are exponents of e."""
    low, high = _bound(name, parameter, "min"), _bound(name, parameter, "max")
    if kind in ("log_uniform", "q_log_uniform"):
        return math.exp(low), math.exp(high)
    return (math.exp(-high), math.exp(-low)) if kind == "inv_log_uniform" else (low, high)


def _bound(name: str, parameter: Mapping[str, Any], key: str) -> Any:
    value = parameter.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"parameter `{name}` has no `value`, no `values`, and no number as `{key}`")
    return value


def _between(
    name: str, kind: str, low: float, high: float, parameter: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    if kind == "int_uniform":
        return {"type": "int", "low": int(low), "high": int(high)}
    quantum = float(parameter.get("q", 1.0)) if kind.startswith("q_") else None
    whole = quantum is not None and quantum == int(quantum)
    if kind == "q_uniform":
        assert quantum is not None
        return _typed(_steps(name, low, high, quantum, notes), whole=whole)
    if quantum is not None:
        notes.append(f"`{name}`: values are not rounded to multiples of {quantum:g} ({kind})")
    if whole:  # a script expects whole numbers, and multiples of one are all of them
        return {"type": "int", "low": max(1, round(low)), "high": round(high), "log": True}
    return {"low": low, "high": high} | ({"log": True} if kind != "uniform" else {})


def _steps(name: str, low: float, high: float, step: float, notes: list[str]) -> dict[str, Any]:
    """Multiples of the step between the bounds, which the step must divide."""
    first, last = math.ceil(low / step - 1e-9) * step, math.floor(high / step + 1e-9) * step
    if (first, last) != (low, high):
        notes.append(f"`{name}`: multiples of {step:g} from {first:g} to {last:g}")
    return {"low": first, "high": last, "step": step}


def _typed(dimension: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    return {"type": "int", **{key: int(value) for key, value in dimension.items()}} if whole else dict(dimension)


def _normal(name: str, kind: str, parameter: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Bounds, and a prior that draws by the distribution itself until the sampler has learned."""
    mu, sigma = float(parameter.get("mu", 0.0)), float(parameter.get("sigma", 1.0))
    is_log = "log" in kind
    ends: Sequence[float] = (mu - SPREADS * sigma, mu + SPREADS * sigma, mu, sigma)
    low, high, center, spread = map(math.exp, ends) if is_log else ends
    notes.append(f"`{name}`: {kind} (mu {mu:g}, sigma {sigma:g}), but no further than {SPREADS:g} deviations")
    if kind.startswith("q_"):
        notes.append(f"`{name}`: values are not rounded to multiples of {parameter.get('q', 1)} ({kind})")
    prior = {"prior": {"center": center, "spread": spread}}
    return {"low": low, "high": high} | ({"log": True} if is_log else {}) | prior
