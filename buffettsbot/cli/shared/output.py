"""The only printing in the command line: data to stdout, words to stderr.

Lists stream: however long, only a page of rows is held. Colour and rules are for terminals.
"""

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, islice
from typing import Any

from rich.bar import END_BLOCK_ELEMENTS, FULL_BLOCK
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from buffettsbot.cli.shared.table import (
    GAP,
    Column,
    cells,
    fitted,
    printable,
    printable_json,
    printable_lines,
    widths_of,
)

PAGE_ROWS = 500

COLOURS = {
    "accepted": "green",
    "active": "green",
    "expiring": "yellow",
    "pending": "yellow",
    "held": "yellow",
    "refused": "red",
    "expired": "red",
}


def bar(share: float, width: int) -> str:
    """Return a bar that fills this share of so many cells; whatever is more than nothing shows."""
    share = min(max(share, 0.0), 1.0)
    if not _is_utf8():
        return "#" * math.ceil(share * width)
    whole, eighths = divmod(math.ceil(share * width * 8), 8)
    return FULL_BLOCK * whole + END_BLOCK_ELEMENTS[eighths] * (eighths > 0)


def show_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[Column],
    *,
    as_json: bool = False,
    as_csv: bool = False,
    fields: Sequence[str],
    empty: str,
) -> None:
    """Show a list. JSON and CSV carry `fields`; people see `columns`, or the sentence `empty`."""
    if as_json:
        _stream_json(rows)
    elif as_csv:
        _stream_csv(rows, fields)
    else:
        _stream_table(iter(rows), columns, empty)


def show_object(data: Mapping[str, Any]) -> None:
    """Show one object as JSON."""
    sys.stdout.write(_json(data, indent=2) + "\n")


def show_json(data: Sequence[Mapping[str, Any]]) -> None:
    """Show a short list of objects as JSON."""
    _stream_json(data)


def show_styled(parts: Iterable[tuple[str, str]]) -> None:
    """Show pieces of text on stdout; their styles are for terminals."""
    safe = [(printable_lines(text), style) for text, style in parts]
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(Text.assemble(*safe), end="")
    else:
        sys.stdout.writelines(text for text, _ in safe)


def say(words: str, *, label: str = "", style: str = "") -> None:
    """Say something to the person, on stderr: the label in its style, then the words.

    On a terminal no word is broken, and a command to go on with stands on a line of its own.
    """
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        words = re.sub(r": (buffettsbot [^\n]+)$", r":\n  \1", words)
    text = Text.assemble((f"{label}: ", style) if label else "", printable_lines(words))
    console.print(text, soft_wrap=not console.is_terminal)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal while something long goes on; told `(done, of)` as it does."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def show_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Show named facts of one thing, a line each, on stdout."""
    facts = [(name, printable(text)) for name, text in lines]
    console = Console(highlight=False)
    if console.is_terminal:
        grid = Table.grid(padding=(0, len(GAP), 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in facts:
            grid.add_row(Text(name), Text(text, style=COLOURS.get(text, "")))
        console.print(grid)
        return
    width = max((cell_len(name) for name, _ in facts), default=0)
    sys.stdout.writelines(f"{f'{name:<{width}}{GAP}{text}'.rstrip()}\n" for name, text in facts)


def show_marked(lines: Iterable[tuple[str, str, str, str, str]]) -> None:
    """Show what was found, a line each on stdout: mark, its style, name, facts, advice."""
    found = [(mark, style, *map(printable, texts)) for mark, style, *texts in lines]
    width = max((cell_len(name) for _, _, name, *_ in found), default=0)
    console = Console(highlight=False)
    if not console.is_terminal:
        sys.stdout.writelines(
            f"{mark} {name:<{width}}{GAP}{facts}{f' → {advice}' if advice else ''}\n"
            for mark, _, name, facts, advice in found
        )
        return
    grid = Table.grid(padding=(0, len(GAP), 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for mark, style, name, facts, advice in found:
        text = Text.assemble(facts, (f"\n→ {advice}", "bold") if advice else "")
        grid.add_row(Text(mark, style), Text(name), text)
    console.print(grid)


def _stream_json(rows: Iterable[Mapping[str, Any]]) -> None:
    opening = "["
    for row in rows:
        sys.stdout.write(f"{opening}\n  {_json(dict(row))}")
        opening = ","
    sys.stdout.write("[]\n" if opening == "[" else "\n]\n")


def _stream_csv(rows: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(fields)
    for row in rows:
        writer.writerow(_csv_cell(row[name]) for name in fields)


def _csv_cell(value: Any) -> str:
    """No cell may begin what a spreadsheet would run as a formula, end the row, or command a
    terminal."""
    if isinstance(value, dict | list):
        return _json(value)
    if not isinstance(value, str):
        return "" if value is None else _jsonable(value)
    text = printable_lines(value.replace("\r\n", "\n").replace("\r", "\n"))
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\n") else text


def _stream_table(rows: Iterator[Mapping[str, Any]], columns: Sequence[Column], empty: str) -> None:
    first = list(islice(rows, PAGE_ROWS))
    if not first:
        say(empty)
        return
    console = Console(highlight=False)
    room = console.width if console.is_terminal else None
    columns = fitted(columns, first, room)
    widths = widths_of(columns, first, room)
    _show_line(console, cells((c.title for c in columns), columns, widths), ["bold"] * len(columns))
    if console.is_terminal:
        _show_line(console, ["─" * width for width in widths], ["dim"] * len(columns))
    for page in chain([first], iter(lambda: list(islice(rows, PAGE_ROWS)), [])):
        widths = widths_of(columns, page, room, widths)
        for row in page:
            texts = [column.shown(row) for column in columns]
            styles = [
                COLOURS.get(text, "") if column.coloured else ""
                for text, column in zip(texts, columns, strict=True)
            ]
            _show_line(console, cells(texts, columns, widths), styles)


def _show_line(console: Console, texts: Sequence[str], styles: Sequence[str]) -> None:
    if not console.is_terminal:
        sys.stdout.write(GAP.join(texts).rstrip() + "\n")
        return
    styled = [Text(text, style=style) for text, style in zip(texts, styles, strict=True)]
    console.print(Text(GAP).join(styled), soft_wrap=True)


def _json(data: Any, indent: int | None = None) -> str:
    """Return JSON as it can be written; in a locale without UTF-8 letters are escaped."""
    text = json.dumps(data, ensure_ascii=not _is_utf8(), indent=indent, default=_jsonable)
    return printable_json(text)


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _jsonable(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
