"""Is every promise kept? Each row that breaks one is found, whoever broke it.

A row found here means a bug, a damaged disk, a pass that does not run, or somebody who wrote into
the tables by hand. Looking is safe while others work; nothing is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from buffettsbot.core.health.promises import EFFECTS, EXPIRIES, INVARIANTS, PAYMENTS, Invariant
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import METADATA


@dataclass(frozen=True)
class BrokenPromise:
    """A row that breaks a promise. `row`: a payment's hash, a customer's chat id, a message's id,
    or the key of the row."""

    invariant: str
    table: str
    row: str
    message: str


def find_broken(db: Database, *, now: datetime) -> Iterator[BrokenPromise]:
    """Yield every row that breaks a promise; nothing is changed. Raises Unavailable."""
    moments = {
        "now": now,
        "effects_due": now - EFFECTS,
        "payments_due": now - PAYMENTS,
        "expiries_due": now - EXPIRIES,
    }
    with db.read() as session:
        connection = session.connection()
        if db.is_sqlite:
            yield from _damage(connection)
        yield from _missing_indexes(connection)
        for invariant in (*INVARIANTS, *_references()):
            for (row,) in connection.execute(invariant.rows, moments):
                yield BrokenPromise(invariant.name, invariant.table, str(row), invariant.message)


def _references() -> Iterator[Invariant]:
    """Yield an invariant for each foreign key there is: what it names exists."""
    for table in METADATA.sorted_tables:
        for key in table.foreign_keys:
            named = key.column.table
            yield Invariant(
                "reference-broken",
                table.name,
                f"The {named.name} that its {key.parent.name} names does not exist.",
                select(*table.primary_key)
                .outerjoin(named, key.parent == key.column)
                .where(key.parent.is_not(None), key.column.is_(None)),
            )


def _damage(connection: Connection) -> Iterator[BrokenPromise]:
    message = "The file is damaged. Restore the last good backup."
    for (said,) in connection.exec_driver_sql("PRAGMA quick_check(20)"):
        if said != "ok":
            yield BrokenPromise("file-damaged", "", str(said), message)


_INDEXES = {
    "sqlite": text("SELECT name FROM sqlite_master WHERE type = 'index'"),
    "postgresql": text(
        "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid"
        " WHERE indisvalid AND pg_table_is_visible(pg_class.oid)"
    ),
}


def _missing_indexes(connection: Connection) -> Iterator[BrokenPromise]:
    """Promises that are kept by an index are only kept while it is there."""
    message = "This unique index is gone, and a promise with it."
    there = set(connection.scalars(_INDEXES[connection.dialect.name]))
    for table in METADATA.sorted_tables:
        for index in table.indexes:
            if index.unique and index.name not in there:
                yield BrokenPromise("guarantee-missing", table.name, str(index.name), message)
