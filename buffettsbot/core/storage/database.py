"""The database: one engine, two kinds of transaction, and its troubles as sentences.

SQLite gets WAL, foreign keys, a busy timeout, transactional DDL and `BEGIN IMMEDIATE` (by the event
recipe of SQLAlchemy's manual); PostgreSQL gets psycopg 3 with a pool. Both behave the same from
outside.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlmodel import Session, create_engine

from buffettsbot.core.errors import BadSettings, NotAllowed, Unavailable
from buffettsbot.core.storage.troubles import explained

# The newest migration in `migrations/versions`; a test compares. Known here, so that an ordinary
# command need not import Alembic.
SCHEMA_VERSION = "0001"

CONNECT_SECONDS = 5
BUSY_SECONDS = 10
POOL_SIZE = 32

# The two kinds of transaction. Outside of them each statement is one by itself.
_WRITING: dict[str, dict[str, Any]] = {
    "sqlite": {"sqlite_begin": "BEGIN IMMEDIATE"},
    "postgresql": {"isolation_level": "READ COMMITTED"},
}
_SNAPSHOT: dict[str, dict[str, Any]] = {
    "sqlite": {"sqlite_begin": "BEGIN"},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}


class Database:
    """An engine for `url` (SQLAlchemy's form). Opening it connects to nothing.

    Its connections are in autocommit, so that a look, the most frequent use, pays for no BEGIN.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writing = self.engine.execution_options(**_WRITING[self.engine.dialect.name])

    @contextlib.contextmanager
    def begin(self) -> Iterator[Session]:
        """A write transaction: committed at the end, rolled back on any exception.

        Raises Unavailable when the database cannot answer or write; IntegrityError passes.
        """
        with (
            explained(),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking: each statement sees the newest data, nothing is locked.

        Raises Unavailable when the database cannot answer.
        """
        with explained(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection for looking more than once: every statement sees the data of one moment.

        Nothing is locked, nothing can be changed for good. Raises Unavailable.
        """
        kind = _SNAPSHOT[self.engine.dialect.name]
        with explained(), self.engine.connect().execution_options(**kind) as connection:
            yield connection

    def version(self) -> str | None:
        """Return the version of the data's form, None for a database that has none yet."""
        with explained(), self.engine.connect() as connection:
            if not self.engine.dialect.has_table(connection, "alembic_version"):
                return None
            found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return found

    def answers(self) -> bool:
        """Return whether it can be read now."""
        try:
            with self.read() as session:
                # of a table: SQLite answers a constant without its file
                session.execute(text("SELECT version_num FROM alembic_version"))
        except Unavailable:
            return False
        return True

    def check_version(self) -> None:
        """Raise NotAllowed, saying what to do, unless the data has the form this program knows."""
        found = self.version()
        if found is None or found < SCHEMA_VERSION:
            raise NotAllowed(
                "The database is not prepared for this version of buffettsbot. "
                "Run: buffettsbot db upgrade"
            )
        self.refuse_newer(found)

    def refuse_newer(self, found: str | None) -> None:
        """Raise NotAllowed when the data have a form that only a newer program knows."""
        if found is None or found <= SCHEMA_VERSION:
            return
        raise NotAllowed(
            f"The database is from a newer version of buffettsbot (its data has version {found}, "
            f"this program knows {SCHEMA_VERSION}). Install the newer version; nothing was changed."
        )

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(url, parsed.database)
        driver_options = {"connect_timeout": CONNECT_SECONDS} | dict(parsed.query)
        return create_engine(
            parsed.set(query={}),
            connect_args=driver_options,
            isolation_level="AUTOCOMMIT",
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=BUSY_SECONDS,
            pool_use_lifo=True,
            pool_pre_ping=True,  # one that rested may be dead: a restarted server, a firewall
            hide_parameters=True,
        )
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        raise BadSettings(
            "BUFFETTSBOT_DATABASE_URL is malformed: write sqlite:////path/to/file.db or "
            "postgresql://user@host/database"
        ) from None


def _sqlite(url: str, path: str | None) -> Engine:
    if path and path != ":memory:" and not path.startswith("file:"):
        _make_home(Path(path).parent)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        isolation_level="AUTOCOMMIT",  # the driver must not begin or end transactions by itself
        pool_size=POOL_SIZE,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_home(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The database's directory {directory} cannot be made: {error.strerror}. "
            "Choose another place with BUFFETTSBOT_DATABASE_URL."
        ) from None


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    with contextlib.suppress(sqlite3.OperationalError):  # a read-only file: looking still works
        connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    if begin := connection.get_execution_options().get("sqlite_begin"):
        connection.exec_driver_sql(begin)
