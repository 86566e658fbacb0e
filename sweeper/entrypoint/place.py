"""Where a user's function is defined."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from sweeper.reporting.place import place_text


def written(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as written: inside decorators, `functools.partial`, or a callable object."""
    inner = inspect.unwrap(function)
    if isinstance(inner, functools.partial):
        return written(inner.func)
    return inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner).__call__


def defined_at(function: Callable[..., Any]) -> str | None:
    """File and line of a user's function; None for one that is ours or is not written in Python."""
    code = getattr(written(function), "__code__", None)
    return place_text(code.co_filename, code.co_firstlineno) if code else None
