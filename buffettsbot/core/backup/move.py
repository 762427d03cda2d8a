"""Everything from one database into an empty one, of the other kind or the same."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Table, func, insert, inspect, select, tuple_
from sqlalchemy.engine import Connection

from buffettsbot.core.errors import Conflict, Unavailable
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import METADATA

PAGE_ROWS = 5000
# In this order, so that no row comes before one that it refers to.
TABLES: Sequence[Table] = METADATA.sorted_tables


def move(
    source: Database,
    target: Database,
    *,
    watch: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, int]:
    """Copy all data, as they are at one moment, into a database that holds nothing; return how many
    rows each table has.

    Both are this program's form afterwards. The source is only read. The target has everything or
    no row at all: its rows come in one transaction. `watch` is told of rows done, of how many.
    Raises Conflict when the target holds anything, NotAllowed when the source is of another form,
    Unavailable.
    """
    source.check_version()
    refuse_filled(target)
    from buffettsbot.core.storage import migrations  # half a second, once in a database's life

    migrations.upgrade(target)
    with source.snapshot() as here, target.begin() as session:
        there = session.connection()
        rows = {table.name: _count(here, table) for table in TABLES}
        done = 0
        for table in TABLES:
            for page in _pages(here, table):
                there.execute(insert(table), page)
                done += len(page)
                watch(done, sum(rows.values()))
            _go_on_counting(there, table)
        arrived = {table.name: _count(there, table) for table in TABLES}
        if arrived != rows:
            raise Unavailable(
                "Not every row arrived, so nothing was kept there. Try again; if it stays so, "
                "the target database alters what is written to it."
            )
    return rows


def refuse_filled(target: Database) -> None:
    """Raise Conflict unless a database is empty, or has our tables without a row."""
    with target.snapshot() as connection:
        found = set(inspect(connection).get_table_names())
        ours = {table.name for table in TABLES}
        foreign = found - ours - {"alembic_version"}
        filled = [
            table.name for table in TABLES if table.name in found and _count(connection, table)
        ]
    if foreign or filled:
        named = ", ".join(sorted(foreign) + filled)
        raise Conflict(
            f"The target is not empty: it holds {named}. Nothing was changed. "
            "Name a database that holds nothing."
        )


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _pages(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    """Yield all rows of a table, a page at a time, found by its primary key."""
    key = list(table.primary_key.columns)
    ordered = select(table).order_by(*key).limit(PAGE_ROWS)
    page = connection.execute(ordered).mappings().all()
    while page:
        yield [dict(row) for row in page]
        last = tuple(page[-1][column.name] for column in key)
        page = connection.execute(ordered.where(tuple_(*key) > last)).mappings().all()


def _go_on_counting(connection: Connection, table: Table) -> None:
    """Let PostgreSQL number the next row after those that came with their numbers."""
    if connection.dialect.name == "sqlite" or "id" not in table.c:
        return
    sequence = func.pg_get_serial_sequence(table.name, "id")
    following = select(func.coalesce(func.max(table.c.id), 0) + 1).scalar_subquery()
    connection.execute(select(func.setval(sequence, following, False)))
