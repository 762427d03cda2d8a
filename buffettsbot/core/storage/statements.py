"""Statements that many rooms need: rows inserted once, lists read page by page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Select, Table
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import ReturningInsert
from sqlalchemy.sql.selectable import SelectBase

# Rows read at once where a list may be endless: memory stays flat, pages are found by key.
PAGE = 500

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
    """Insert a row unless one exists by any of the table's unique rules; return its primary key,
    or None (never ask `rowcount`: it lies on PostgreSQL)."""
    return connection.execute(_insert_once(connection.dialect.name, table), dict(row)).scalar()


def insert_each_once(connection: Connection, table: Table, rows: Select[*tuple[Any, ...]]) -> int:
    """Insert the rows that a select finds, unless they exist; return how many were inserted."""
    statement = each_once(table, rows)[connection.dialect.name]
    return len(connection.execute(statement).all())


def each_once(table: Table, rows: SelectBase) -> Mapping[str, ReturningInsert[Any]]:
    """Build for each dialect the insert of the rows that a select finds, unless they exist.

    It returns the primary keys of those inserted.
    """
    names = [column.name for column in rows.selected_columns]
    return {
        dialect: insert(table)
        .from_select(names, rows)
        .on_conflict_do_nothing()
        .returning(*table.primary_key.columns)
        for dialect, insert in _INSERTS.items()
    }


_INSERTS: dict[str, Any] = {"sqlite": sqlite_insert, "postgresql": postgresql_insert}


def insert_rows_once(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Insert rows that all have the same columns, unless they exist; return how many were."""
    if not rows:
        return 0
    statement = _insert_once(connection.dialect.name, table)
    return len(connection.execute(statement, [dict(row) for row in rows]).all())


@cache
def _insert_once(dialect: str, table: Table) -> Any:
    insert = _INSERTS[dialect](table)
    return insert.on_conflict_do_nothing().returning(*table.primary_key.columns)


RACES = 5
