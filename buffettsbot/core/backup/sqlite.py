"""SQLite's data as a file and back, by SQLite's own backup API.

Both directions are one transaction: a copy is of one moment though others write, and a restore
replaces every page or none, safely for whoever has the database open (a renamed file would not be:
they would go on with the old one, and its `-wal` would be taken for the new one's).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import quote

from buffettsbot.core.errors import Invalid, Unavailable
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.troubles import sentence_of

_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_PRIMARY = 0xFF  # an extended error code's last byte is the plain one


def dump(db: Database, into: Path) -> dict[str, int]:
    """Copy the data into an empty file; return how many rows each table has.

    Raises Unavailable when it cannot be read or written, or when the data are damaged: a copy of
    damage must not push good backups out.
    """
    with _explained(), closing(sqlite3.connect(into, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")
        copy.execute("PRAGMA journal_mode = OFF")
        with _live(db) as live:
            live.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # the file alone is the whole
        if problem := _problem(copy):
            raise Unavailable(
                f"The database is damaged, so there is no backup: {problem}. "
                "Restore the last good backup, and check the disk."
            )
        return _rows(copy)


def load(db: Database, source: Path) -> None:
    """Replace all data by those of a backup, in one transaction. Raises Invalid, Unavailable."""
    with _explained(), closing(_opened(source)) as backup:
        if problem := _problem(backup):
            raise Invalid(
                f"The data in {source} are damaged: {problem}. Nothing was changed; "
                "take another backup."
            )
        with _told_if_damaged(db), _live(db) as live:
            backup.backup(live, progress=_stop_when_busy)


def _opened(path: Path) -> sqlite3.Connection:
    """Open a sealed file as it is: nothing is written to it, and nothing beside it."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)


def _problem(connection: sqlite3.Connection) -> str | None:
    """Return what is wrong with a database's file, None when it is whole."""
    found: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    return None if found == "ok" else found.replace("\n", " ")


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY 1"
    ).fetchall()
    counted = {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 -- its own names
        for (name,) in tables
    }
    counted.pop("alembic_version", None)
    return counted


def _stop_when_busy(status: int, _remaining: int, _total: int) -> None:
    """The driver would ask again for ever; SQLite has waited long enough by itself."""
    if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise sqlite3.OperationalError("database is locked")


@contextmanager
def _live(db: Database) -> Iterator[sqlite3.Connection]:
    """Lend one of the database's own connections, in no transaction."""
    with db.read() as session:
        yield cast(sqlite3.Connection, session.connection().connection.driver_connection)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        words = str(error)
        if "full" in words:
            raise Unavailable("The disk is full. Make room and try again.") from None
        sentence = sentence_of(words) or f"SQLite cannot do it: {words}. Try again."
        raise Unavailable(sentence) from None


@contextmanager
def _told_if_damaged(db: Database) -> Iterator[None]:
    """SQLite cannot write into what is no database any more; and who has it open must be stopped
    before the file is moved away."""
    try:
        yield
    except (sqlite3.DatabaseError, Unavailable) as error:
        cause = error if isinstance(error, sqlite3.Error) else getattr(error.__cause__, "orig", 0)
        if getattr(cause, "sqlite_errorcode", 0) & _PRIMARY not in _DAMAGED:
            raise
        file = db.engine.url.database
        raise Unavailable(
            f"The database file is too damaged to be written. Stop the services, move {file} and "
            "the files with -wal and -shm at the end of that name away, then restore again."
        ) from None
