"""A line of the user's code, as `file:line`."""

import os
from pathlib import Path
from typing import Final

OURS: Final = Path(__file__).parents[1]


def place_text(file: str, line: int) -> str | None:
    """A line of a file, by the shortest path; None for a file that is ours, or for no file."""
    path = Path(file)
    if file.startswith("<") or OURS in path.parents:
        return None
    try:
        here = os.getcwd()
    except OSError:  # the training has deleted its working folder
        return f"{path}:{line}"
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{line}"
