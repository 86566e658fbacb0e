"""Where a user's function is defined."""

import inspect
from collections.abc import Callable
from typing import Any

from sweeper.reporting.place import place_text


def defined_at(function: Callable[..., Any]) -> str | None:
    """File and line of a user's function; None of one that is ours or is not written in Python."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return place_text(code.co_filename, code.co_firstlineno) if code else None
