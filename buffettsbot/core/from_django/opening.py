"""The original Django system's database is opened to be read: on PostgreSQL, or a SQLite file."""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from buffettsbot.core.errors import Invalid, NotFound
from buffettsbot.core.from_django.source import TABLES, Original
from buffettsbot.core.from_django.troubles import explained
from buffettsbot.core.storage.database import CONNECT_SECONDS


@contextlib.contextmanager
def open_original(where: str) -> Iterator[Original]:
    """Given a URL, or the path of a SQLite file, yield the original's database as it is now.

    Raises NotFound for a file that is not there, Invalid for what is no database of the original,
    Unavailable when it cannot be reached. No message has the URL's password in it.
    """
    engine, name = _engine(where)
    try:
        with explained(name), engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
                connection.execute(text("SET LOCAL datestyle = 'ISO'"))
            _check(connection)
            yield Original(name, connection)
    finally:
        engine.dispose()


def _check(connection: Connection) -> None:
    """Raise Invalid unless every table and column is there that is read."""
    found = inspect(connection)
    for one in TABLES:
        if not found.has_table(one.name):
            raise Invalid(f"This is not the original's database: the table {one.name} is missing.")
        present = {there["name"] for there in found.get_columns(one.name)}
        missing = [column.name for column in one.c if column.name not in present]
        if missing:
            raise Invalid(
                f"This is not the original's database as its last version left it: {one.name} has "
                f"no {', '.join(missing)}. Run the original's own migrations first."
            )


def _engine(where: str) -> tuple[Engine, str]:
    if "://" not in where:
        return _sqlite(where), where
    try:
        url = make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", where))
    except (ArgumentError, ValueError):
        raise Invalid(_WRITE) from None
    if url.get_backend_name() == "sqlite" and url.database:
        return _sqlite(url.database), url.database
    if url.get_backend_name() != "postgresql":
        raise Invalid(_WRITE)
    options: Mapping[str, Any] = {"connect_timeout": CONNECT_SECONDS} | dict(url.query)
    name = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
    driver = url.set(drivername="postgresql+psycopg", query={})
    return create_engine(driver, connect_args=dict(options), poolclass=NullPool), name


_WRITE = (
    "The original's database is named by a URL, postgresql://user@host/database, or by the path of "
    "its SQLite file."
)


def _sqlite(path: str) -> Engine:
    if not os.path.isfile(path):
        raise NotFound(f"There is no file {path}. Name the original's SQLite file, or its URL.")

    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
        opened = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        opened.text_factory = lambda raw: raw.decode("utf-8", "replace")
        return opened

    return create_engine(URL.create("sqlite"), creator=connect, poolclass=NullPool)
