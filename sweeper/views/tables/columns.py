"""Tables that fit the width of a terminal: text is cut, heads shortened, columns left out. Cells are never folded, and
an ID or a number is shown whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

GAP: Final = 2
SHORTEST_HEAD: Final = 7
"""Characters that a head keeps at least when it is cut to the width of its cells."""
CUT: Final = "…"


@dataclass(frozen=True)
class Column:
    """A column of a table of text.

    Attributes:
        head: above it.
        cells: its text, a line per row.
        justify: where cells stand.
        short_head: a shorter head; empty: `head` is cut if need be.
        short_cells: shorter texts that say the same, beside what stands above the table.
        shrinks_to: characters that are kept at least of sentences, which may be cut; None: cells are never cut.
        dropped: 0 of a column that always stays; else those with the largest number go first.
    """

    head: str
    cells: tuple[str, ...]
    justify: Literal["left", "right"] = "right"
    short_head: str = ""
    short_cells: tuple[str, ...] = ()
    shrinks_to: int | None = None
    dropped: int = 0

    @property
    def width(self) -> int:
        """Of its widest line."""
        return max(map(_width, (self.head, *self.cells)))

    @property
    def least_width(self) -> int:
        """Its width when sentences are cut as far as they may be."""
        return self.width if self.shrinks_to is None else min(self.width, max(self.shrinks_to, _width(self.head)))


def fitted(columns: Sequence[Column], width: int | None) -> tuple[list[Column], list[str]]:
    """The columns as they fit, and the heads of those that do not, the first to go last.

    Args:
        columns: of the table.
        width: of the terminal; None: no limit.
    """
    if width is None:
        return list(columns), []
    shown, gone = list(columns), list[str]()
    if _least(shown) > width:
        shown = [_with_short_head(column) for column in shown]
    if _least(shown) > width:
        shown = [replace(column, cells=column.short_cells or column.cells) for column in shown]
    while _least(shown) > width and (droppable := [column for column in shown if column.dropped]):
        last = max(droppable, key=lambda column: column.dropped)
        shown.remove(last)
        gone.insert(0, last.head)
    room = width - _least(shown)
    for index, column in enumerate(shown):
        if column.shrinks_to is not None:
            wide = min(column.width, column.least_width + max(0, room))
            room -= wide - column.least_width
            shown[index] = replace(column, cells=tuple(cut(cell, wide) for cell in column.cells))
    return shown, gone


def lines_of(columns: Sequence[Column]) -> list[str]:
    """The table as lines, the heads first."""
    widths = [column.width for column in columns]
    rows = zip(*([column.head, *column.cells] for column in columns), strict=True)
    return [
        (" " * GAP)
        .join(_padded(cell, wide, column.justify) for cell, wide, column in zip(row, widths, columns, strict=True))
        .rstrip()
        for row in rows
    ]


def cut(text: str, width: int) -> str:
    """Text of at most this many characters, marked where it was cut."""
    if _width(text) <= width:
        return text
    from rich.cells import chop_cells

    return chop_cells(text, width - 1)[0].rstrip() + CUT if width > 1 else CUT


def _least(columns: Sequence[Column]) -> int:
    return sum(column.least_width for column in columns) + GAP * (len(columns) - 1)


def _with_short_head(column: Column) -> Column:
    widest = max(map(_width, column.cells), default=0)
    return replace(column, head=column.short_head or cut(column.head, max(widest, SHORTEST_HEAD)))


def _padded(text: str, width: int, justify: str) -> str:
    fill = " " * (width - _width(text))
    return text + fill if justify == "left" else fill + text


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    from rich.cells import cell_len  # here, since JSON output does not need rich

    return cell_len(text)
