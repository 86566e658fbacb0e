"""A parameter's value as people read it."""

from typing import Any


def value_text(value: Any, digits: int = 3) -> str:
    """A value as a sweep file would write it, a float with this many digits."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.{digits}g}"
        case _:
            return str(value)
