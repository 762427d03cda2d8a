"""The database: one engine, two kinds of transaction, and its troubles as sentences.

SQLite gets WAL, foreign keys, a busy timeout, transactional DDL and `BEGIN IMMEDIATE` (the
SQLAlchemy
event recipe); PostgreSQL gets psycopg 3 with a pool. Both behave the same from outside.
"""

import contextlib
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, DisconnectionError, NoSuchModuleError
from sqlmodel import Session, create_engine

from buffettsbot.core.errors import BadSettings, NotAllowed, Unavailable
from buffettsbot.core.storage.troubles import explained

# The newest migration in `migrations/versions`; a test compares. Known here, so that an ordinary
# command need not import Alembic.
SCHEMA_VERSION = "0001"

CONNECT_SECONDS = 5
BUSY_SECONDS = 10
# Connections that are kept: one more than these would be opened and closed again for each use.
POOL_SIZE = 32
AUTOCOMMIT_POOL_SIZE = 12
REST_SECONDS = 5.0


class Database:
    """An engine for `url` (SQLAlchemy's form). Opening it connects to nothing."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url, pool_size=POOL_SIZE)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # A pool of its own: its connections never leave autocommit, which saves each look two
        # changes of mode and a rollback.
        self._autocommit = _engine(
            url,
            pool_size=AUTOCOMMIT_POOL_SIZE,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
        )

    @contextlib.contextmanager
    def begin(self) -> Iterator[Session]:
        """A write transaction: committed at the end, rolled back on any exception.

        Raises Unavailable when the database cannot answer or write; IntegrityError passes.
        """
        with explained(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking: each statement sees the newest data, nothing is locked.

        Raises Unavailable when the database cannot answer.
        """
        with explained(), Session(self._autocommit, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection for looking more than once: every statement sees the data of one moment.

        Nothing is locked, nothing can be changed for good. Raises Unavailable.
        """
        begin = "BEGIN" if self.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with explained(), self._autocommit.connect() as connection:
            connection.exec_driver_sql(begin)
            try:
                yield connection
            except BaseException:
                connection.invalidate()
                raise
            connection.exec_driver_sql("ROLLBACK")

    def version(self) -> str | None:
        """Return the version of the data's form, None for a database that has none yet."""
        with explained(), self._autocommit.connect() as connection:
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
        self._autocommit.dispose()


def _engine(url: str, **options: Any) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(url, parsed.database, options)
        driver_options = {"connect_timeout": CONNECT_SECONDS} | dict(parsed.query)
        engine = create_engine(
            parsed.set(query={}),
            connect_args=driver_options,
            max_overflow=0,
            pool_timeout=BUSY_SECONDS,
            pool_use_lifo=True,
            hide_parameters=True,
            **options,
        )
        _ask_after_rest(engine)
        return engine
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        raise BadSettings(
            "BUFFETTSBOT_DATABASE_URL is malformed: write sqlite:////path/to/file.db or "
            "postgresql://user@host/database"
        ) from None


def _ask_after_rest(engine: Engine) -> None:
    """A connection that rested may be dead (a restarted server, a firewall): ask before using it.

    SQLAlchemy's own `pool_pre_ping` asks every time, which costs two round trips a transaction.
    """

    def rest(_connection: Any, record: Any) -> None:
        record.info["resting_since"] = time.monotonic()

    def wake(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("resting_since", math.inf) < REST_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error

    event.listen(engine, "checkin", rest)
    event.listen(engine, "checkout", wake)


def _sqlite(url: str, path: str | None, options: Mapping[str, Any]) -> Engine:
    if path and path != ":memory:" and not path.startswith("file:"):
        _make_home(Path(path).parent)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        hide_parameters=True,
        **options,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    if options.get("isolation_level") != "AUTOCOMMIT":
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
    connection.isolation_level = None  # the driver must not begin or end transactions by itself
    connection.execute("PRAGMA foreign_keys = ON")
    with contextlib.suppress(sqlite3.OperationalError):  # a read-only file: looking still works
        connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
