"""The original Django system's tables, only ever read: on PostgreSQL, or a SQLite file.

Everything comes as the database has it, times as text: the original's columns may hold what its
code never wrote, and a driver that cannot read one value must not stop the rest.
"""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Select,
    Text,
    cast,
    column,
    create_engine,
    extract,
    func,
    inspect,
    make_url,
    select,
    table,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from buffettsbot.core.errors import Invalid, NotAllowed, NotFound, Unavailable
from buffettsbot.core.storage.database import CONNECT_SECONDS

PAGE = 1000

USERS, PLANS, SALES = (
    f"subscription_service_{name}" for name in ("telegramuser", "plan", "subscription")
)
COLUMNS = {
    USERS: "chat_id telegram_username first_name last_name at_private_group date_joined is_staff",
    PLANS: "id period price",
    SALES: "transaction_hash start_date end_date duration customer_id plan_id",
}


class RawUser(NamedTuple):
    """A row of the original's people."""

    chat_id: Any
    telegram_username: Any
    first_name: Any
    last_name: Any
    at_private_group: Any
    date_joined: Any
    is_staff: Any


class RawPlan(NamedTuple):
    """A row of the original's plans."""

    period: Any
    price: Any


class RawSale(NamedTuple):
    """A subscription of the original, and what its customer's and its plan's rows say.

    `seconds`: its duration. `known`: the customer's id as their own row has it.
    """

    transaction_hash: Any
    start_date: Any
    end_date: Any
    seconds: Any
    customer_id: Any
    known: Any
    at_private_group: Any
    period: Any
    price: Any


_U, _P, _S = (table(name, *map(column, names.split())) for name, names in COLUMNS.items())


def _queries(*, sqlite: bool) -> dict[str, Select[*tuple[Any, ...]]]:
    """Who joined last comes first: a name that two have in different case is the last one's. Of
    two spellings of one hash the first to start has bought with it."""
    duration = _S.c.duration / 1_000_000.0 if sqlite else extract("epoch", _S.c.duration)
    joined, started = _U.c.date_joined, _S.c.start_date
    return {
        USERS: select(*(_as_text(one) for one in _U.c)).order_by(
            joined.is_(None), joined.desc(), _U.c.chat_id.desc()
        ),
        PLANS: select(_P.c.period, _P.c.price).order_by(_P.c.id),
        SALES: select(
            _S.c.transaction_hash,
            cast(started, Text),
            cast(_S.c.end_date, Text),
            cast(duration, Text),
            _S.c.customer_id,
            _U.c.chat_id,
            _U.c.at_private_group,
            _P.c.period,
            _P.c.price,
        )
        .select_from(_S)
        .outerjoin(_U, _U.c.chat_id == _S.c.customer_id)
        .outerjoin(_P, _P.c.id == _S.c.plan_id)
        .order_by(started.is_(None), started, _S.c.transaction_hash),
    }


def _as_text(one: Any) -> Any:
    return cast(one, Text) if one is _U.c.date_joined else one


@dataclass(frozen=True)
class Original:
    """The original's database, as it is at one moment. `name`: its URL without any secret."""

    name: str
    connection: Connection

    def count(self) -> dict[str, int]:
        """Return how many rows each table has."""
        with _explained(self.name):
            return {
                one.name: self.connection.scalar(select(func.count()).select_from(one)) or 0
                for one in (_U, _P, _S)
            }

    def users(self) -> Iterator[list[RawUser]]:
        """Yield everyone, page by page, who joined last first."""
        return self._pages(USERS, RawUser)

    def plans(self) -> list[RawPlan]:
        """Return the plans."""
        return [plan for page in self._pages(PLANS, RawPlan) for plan in page]

    def sales(self) -> Iterator[list[RawSale]]:
        """Yield the subscriptions, page by page, the first to start first."""
        return self._pages(SALES, RawSale)

    def zoneless(self) -> list[str]:
        """Return the times that a PostgreSQL holds without their zone (Django's USE_TZ = False)."""
        if self.connection.dialect.name == "sqlite":
            return []
        found = inspect(self.connection)
        return [
            f"{name}.{one['name']}"
            for name, columns in COLUMNS.items()
            for one in found.get_columns(name)
            if one["name"] in columns.split() and getattr(one["type"], "timezone", 1) is False
        ]

    def _pages(self, name: str, row: type[Any]) -> Iterator[list[Any]]:
        query = _queries(sqlite=self.connection.dialect.name == "sqlite")[name]
        with _explained(self.name):
            found = self.connection.execute(query, execution_options={"yield_per": PAGE})
            for page in found.partitions():
                yield [row(*values) for values in page]


@contextlib.contextmanager
def open_original(where: str) -> Iterator[Original]:
    """Given a URL, or the path of a SQLite file, yield the original's database as it is now.

    Raises NotFound for a file that is not there, Invalid for what is no database of the original,
    Unavailable when it cannot be reached. No message has the URL's password in it.
    """
    engine, name = _engine(where)
    try:
        with _explained(name), engine.connect() as connection:
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
    found = inspect(connection)
    for name, columns in COLUMNS.items():
        if not found.has_table(name):
            raise Invalid(f"This is not the original's database: the table {name} is missing.")
        present = {one["name"] for one in found.get_columns(name)}
        missing = [one for one in columns.split() if one not in present]
        if missing:
            raise Invalid(
                f"This is not the original's database as its last version left it: {name} has no "
                f"{', '.join(missing)}. Run the original's own migrations first."
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


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _explain(str(error.orig), name) from None


def _explain(words: str, name: str) -> Exception:
    if re.search(r"not a database|malformed", words):
        return Invalid(
            f"This is not the original's database: {name} is no SQLite file, or damaged."
        )
    if re.search(r"permission denied|unable to open", words):
        return NotAllowed(f"The original's database {name} may not be read by this user.")
    if re.search(r"authentication failed|no password", words):
        return NotAllowed(f"The original's database {name} refuses the login.")
    if re.search(r"database .* does not exist", words):
        return NotFound(f"The server has no such database: {name}. Check its name.")
    return Unavailable(
        f"The original's database {name} does not answer. Check that it runs and that the URL is "
        "right, then try again; what was imported so far stays, the rest follows."
    )
