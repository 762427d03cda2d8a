"""Statements that many rooms need: rows inserted once, lists read page by page."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import JSON, String, Table, bindparam, cast, column, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import ReturningInsert

# Rows read at once where a list may be endless: memory stays flat, pages are found by key.
PAGE = 500
# How often a transaction that lost a race is tried again.
RACES = 5

Item = TypeVar("Item")


def paged(
    fetch: Callable[[Item | None, int], Sequence[Item]], limit: int | None = None
) -> Iterator[Item]:
    """Yield rows page by page, up to `limit`: `fetch(last, size)` returns those after `last`.

    Only a page is ever held, and a page is found by key, so the last costs what the first does.
    """
    last: Item | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = fetch(last, size)
        yield from page
        if len(page) < size:
            return
        left = None if left is None else left - size
        last = page[-1]


def insert_once(connection: Connection, table: Table, row: Mapping[str, Any]) -> Any | None:
    """Insert a row unless one exists by any of the table's unique rules.

    Return its primary key, or None (never ask `rowcount`: it lies on PostgreSQL).
    """
    return connection.execute(_insertion(connection.dialect.name, table), dict(row)).scalar()


_INSERTS: dict[str, Any] = {"sqlite": sqlite_insert, "postgresql": postgresql_insert}


def insert_rows_once(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert rows that all have the same columns, unless they exist; return how many were."""
    if not rows:
        return 0
    if connection.dialect.name == "sqlite":
        inserted = connection.execute(_insertion("sqlite", table), rows)
    else:
        # psycopg looks for each parameter in the statement's text, so that a row of the outbox
        # costs 64 µs of processor time; in one document, which is one parameter, 15.
        statement = _insert_document(table, tuple(rows[0]))
        inserted = connection.execute(statement, {"document": _document(table, rows)})
    return len(inserted.all())


def _document(table: Table, rows: Sequence[dict[str, Any]]) -> str:
    """Rows as one JSON document. JSON inside it is text, which PostgreSQL does not look into: it
    would refuse what a string of JSON may hold and its own may not."""
    nested = [name for name in rows[0] if isinstance(table.c[name].type, JSON)]
    texts = ({n: json.dumps(row[n]) for n in nested if row[n] is not None} for row in rows)
    return json.dumps([row | text for row, text in zip(rows, texts, strict=True)], default=str)


@cache
def _insertion(dialect: str, table: Table) -> Any:
    insert = _INSERTS[dialect](table)
    return insert.on_conflict_do_nothing().returning(*table.primary_key.columns)


@cache
def _insert_document(table: Table, names: tuple[str, ...]) -> ReturningInsert[Any]:
    """PostgreSQL's insert of the rows of a `_document`."""
    types = {name: table.c[name].type for name in names}
    columns = [column(n, String() if isinstance(t, JSON) else t) for n, t in types.items()]
    document = cast(bindparam("document", type_=String()), JSON())
    rows = func.json_to_recordset(document).table_valued(*columns).render_derived(with_types=True)
    found = select(*(cast(rows.c[name], kind) for name, kind in types.items()))
    insert = postgresql_insert(table).from_select(names, found)
    return insert.on_conflict_do_nothing().returning(*table.primary_key.columns)
