"""A line of the user's code, as `file:line`."""

from pathlib import Path
from typing import Final

OURS: Final = Path(__file__).parents[1]


def place_text(file: str, line: int) -> str | None:
    """A line of a file, by the shortest path; None of a file that is ours, or of no file."""
    path = Path(file)
    if file.startswith("<") or OURS in path.parents:
        return None
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"
