"""Tables for people: which columns fit, how wide they are, and one line after another.

What gives way where room is short is the columns' own choice; a row is always one line, and the
widths hold from page to page, so that a list may be endless.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.cells import cell_len, set_cell_size

Row = Mapping[str, Any]

GAP = "  "
SHORTEST_CUT = 12

# What would move the cursor, recolour the screen or turn the reading direction. Joiners stay: names
# and emoji need them.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True)
class Column:
    """One column: its heading, and the text of a row in it.

    `yields`: in which order it gives way where room is short (0: never), by its `narrow` text if it
    has one, else by leaving. `cut`: its text may end in "…" instead.
    """

    title: str
    text: Callable[[Row], str]
    right: bool = False
    coloured: bool = False
    narrow: Callable[[Row], str] | None = None
    yields: int = 0
    cut: bool = False

    def shown(self, row: Row) -> str:
        """Return the text of a row, safe to print."""
        return printable(self.text(row))


def printable(text: str) -> str:
    """Return a text in which nothing can command a terminal."""
    return text if text.isprintable() else _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def printable_lines(text: str) -> str:
    """Return a text that keeps its lines, and in which nothing else can command a terminal."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """Return JSON that says the same, its lines kept; what could command a terminal is escaped."""
    lines = text.split("\n")  # none of them is within a string
    return "\n".join(_UNPRINTABLE.sub(lambda c: f"\\u{ord(c[0]):04x}", line) for line in lines)


def fitted(columns: Sequence[Column], rows: Sequence[Row], room: int | None) -> list[Column]:
    """Return the columns as they fit into `room` cells (None: all of them do)."""
    kept = list(columns)
    for column in sorted((c for c in columns if c.yields), key=lambda column: column.yields):
        if room is None or _least(kept, rows) <= room:
            break
        at = kept.index(column)
        kept[at : at + 1] = [replace(column, text=column.narrow)] if column.narrow else []
    return kept


def widths_of(
    columns: Sequence[Column], rows: Sequence[Row], room: int | None, least: Sequence[int] = ()
) -> list[int]:
    """Return how wide each column has to be for these rows, but never less than `least`."""
    widths = _natural(columns, rows)
    if least:
        widths = [max(pair) for pair in zip(widths, least, strict=True)]
    excess = 0 if room is None else _total(widths) - room
    for at, column in enumerate(columns):
        if column.cut and excess > 0:
            taken = min(excess, max(widths[at] - SHORTEST_CUT, 0))
            widths[at], excess = widths[at] - taken, excess - taken
    return widths


def cells(texts: Iterable[str], columns: Sequence[Column], widths: Sequence[int]) -> list[str]:
    """Return the texts of one row, each as wide as its column."""
    return [
        _padded(text, column, width)
        for text, column, width in zip(texts, columns, widths, strict=True)
    ]


def _padded(text: str, column: Column, width: int) -> str:
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if column.cut else text
    room = " " * (width - length)
    return room + text if column.right else text + room


def _natural(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [
        max(cell_len(column.title), *(cell_len(column.shown(row)) for row in rows))
        for column in columns
    ]


def _least(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    return _total(
        min(width, SHORTEST_CUT) if column.cut else width
        for column, width in zip(columns, _natural(columns, rows), strict=True)
    )


def _total(widths: Iterable[int]) -> int:
    every = list(widths)
    return sum(every) + len(GAP) * (len(every) - 1)
