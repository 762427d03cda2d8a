"""The only printing in the command line: data to stdout, words to stderr.

Lists stream: however long, only a page of rows is held. Colour and boxes are for terminals.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any
from zoneinfo import ZoneInfo

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PAGE_ROWS = 100
PIPE_WIDTH = 400

COLOURS = {
    "accepted": "green",
    "active": "green",
    "expiring": "yellow",
    "pending": "yellow",
    "held": "yellow",
    "refused": "red",
    "expired": "red",
}


@dataclass(frozen=True)
class Column:
    """One column of a table for people: its heading, and the text of a row in it."""

    title: str
    text: Callable[[Mapping[str, Any]], str]
    right: bool = False
    coloured: bool = False
    fold: bool = False


def field(title: str, name: str, *, right: bool = False, coloured: bool = False) -> Column:
    """A column that shows a field as it is; nothing where it is None."""
    return Column(title, lambda row: _plain(row[name]), right=right, coloured=coloured)


def person(title: str = "user", id_field: str = "chat_id") -> Column:
    """A column that names a person by username, or by id where they have none."""
    return Column(title, lambda row: handle(row["telegram_username"], row[id_field]), fold=True)


def moment(title: str, name: str, zone: ZoneInfo) -> Column:
    """A column that shows a time in the owner's zone, to the minute."""
    return Column(title, lambda row: when(row[name], zone))


def short_hash(title: str = "hash", name: str = "transaction_hash") -> Column:
    """A column that shows enough of a hash to tell it from others."""
    return Column(title, lambda row: f"{row[name][:8]}…{row[name][-4:]}")


def handle(username: str | None, chat_id: int) -> str:
    """Return how a person is named for people."""
    return f"@{username}" if username else str(chat_id)


def when(value: datetime | None, zone: ZoneInfo) -> str:
    """Return a time as people read it, in the owner's zone."""
    return value.astimezone(zone).strftime("%d %b %Y %H:%M") if value else "–"


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
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2, default=_jsonable) + "\n")


def say(words: str, *, style: str = "") -> None:
    """Say something to the person, on stderr."""
    console = Console(stderr=True, highlight=False)
    console.print(Text(words, style=style), soft_wrap=True)


def show_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Show named facts of one thing, a line each, on stdout."""
    facts = list(lines)
    width = max((cell_len(name) for name, _ in facts), default=0)
    console = _console()
    for name, text in facts:
        line = Text(f"{name:<{width}}  ", style="dim" if console.is_terminal else "")
        console.print(line + Text(text, style=COLOURS.get(text, "")), soft_wrap=True)


def _stream_json(rows: Iterable[Mapping[str, Any]]) -> None:
    opening = "["
    for row in rows:
        text = json.dumps(dict(row), ensure_ascii=False, default=_jsonable)
        sys.stdout.write(f"{opening}\n  {text}")
        opening = ","
    sys.stdout.write("[]\n" if opening == "[" else "\n]\n")


def _stream_csv(rows: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(fields)
    for row in rows:
        writer.writerow(_csv_cell(row[name]) for name in fields)


def _csv_cell(value: Any) -> str:
    """No cell may begin what a spreadsheet would run as a formula."""
    text = value if isinstance(value, str) else "" if value is None else _jsonable(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text


def _stream_table(rows: Iterator[Mapping[str, Any]], columns: Sequence[Column], empty: str) -> None:
    first = list(islice(rows, PAGE_ROWS))
    if not first:
        say(empty)
        return
    console = _console()
    widths = [
        max(cell_len(column.title), *(cell_len(column.text(row)) for row in first))
        for column in columns
    ]
    pages = chain([first], iter(lambda: list(islice(rows, PAGE_ROWS)), []))
    for number, page in enumerate(pages):
        console.print(_table(page, columns, widths, header=number == 0, boxed=console.is_terminal))


def _table(
    page: Iterable[Mapping[str, Any]],
    columns: Sequence[Column],
    widths: Sequence[int],
    *,
    header: bool,
    boxed: bool,
) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD if boxed else None,
        show_header=header,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
    )
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            min_width=None if column.fold else width,
            width=None if column.fold else width,
            no_wrap=not column.fold,
            overflow="fold",
        )
    for row in page:
        table.add_row(*(_cell(column, row) for column in columns))
    return table


def _cell(column: Column, row: Mapping[str, Any]) -> Text:
    text = column.text(row)
    return Text(text, style=COLOURS.get(text, "") if column.coloured else "")


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _jsonable(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
