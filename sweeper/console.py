"""Text on stdout: JSON for scripts, tables for people."""

import json
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console  # slow to import, and no JSON needs it
    from rich.table import Table


def to_json(value: Any) -> str:
    """JSON for scripts, which has no NaN: a number that is not finite is null."""

    def clean(item: Any) -> Any:
        match item:
            case dict():
                return {key: clean(inner) for key, inner in item.items()}
            case list() | tuple():
                return [clean(inner) for inner in item]
            case float() if item != item or item in (float("inf"), float("-inf")):
                return None
            case _:
                return item

    return json.dumps(clean(value), indent=2)


def simple_table(columns: Sequence[str]) -> "Table":
    """A table without lines; the first column is flush left, the others right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def output_console() -> "Console":
    """A console on stdout. Square brackets in a trainer's text are not markup."""
    from rich.console import Console

    # In a notebook cell rich would write HTML: text is text there too.
    console = Console(highlight=False, markup=False, force_jupyter=False)
    # A pipe has no width; rich would fold the table at 80 columns.
    return console if console.is_terminal else Console(highlight=False, markup=False, force_jupyter=False, width=200)


def leave_terminal() -> None:
    """Discard what is printed from now on if it went to a terminal: that is closed, and printing would fail."""
    with open(os.devnull, "wb") as nowhere:
        for number in (1, 2):
            if stat.S_ISCHR(os.fstat(number).st_mode):  # one that was hung up is no longer a tty
                os.dup2(nowhere.fileno(), number)
