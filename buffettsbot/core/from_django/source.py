"""The original Django system's tables, only ever read.

Everything comes as the database has it, times as text: the original's columns may hold what its
code never wrote, and a driver that cannot read one value must not stop the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Text, cast, column, extract, func, inspect, select, table

from buffettsbot.core.from_django.troubles import explained

PAGE = 1000


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


_USER = table("subscription_service_telegramuser", *map(column, RawUser._fields))
_PLAN = table("subscription_service_plan", *map(column, ("id", "period", "price")))
_SALE = table(
    "subscription_service_subscription",
    *(column(name) for name in ("transaction_hash", "start_date", "end_date", "duration")),
    *(column(name) for name in ("customer_id", "plan_id")),
)
TABLES = (_USER, _PLAN, _SALE)


@dataclass(frozen=True)
class Original:
    """The original's database, as it is at one moment. `name`: its URL without any secret."""

    name: str
    connection: Connection

    def count(self) -> int:
        """Return how many rows there are in all."""
        counts = [select(func.count()).select_from(one) for one in TABLES]
        with explained(self.name):
            return sum(self.connection.scalar(count) or 0 for count in counts)

    def users(self) -> Iterator[list[RawUser]]:
        """Yield everyone, page by page, who joined last first: a name that two have in different
        case is the last one's."""
        joined = _USER.c.date_joined
        columns = [cast(one, Text) if one is joined else one for one in _USER.c]
        query = select(*columns).order_by(joined.is_(None), joined.desc(), _USER.c.chat_id.desc())
        return self._pages(query, RawUser)

    def plans(self) -> list[RawPlan]:
        """Return the plans."""
        query = select(_PLAN.c.period, _PLAN.c.price).order_by(_PLAN.c.id)
        return [plan for page in self._pages(query, RawPlan) for plan in page]

    def sales(self) -> Iterator[list[RawSale]]:
        """Yield the subscriptions, page by page, the first to start first: of two spellings of one
        hash that one has bought."""
        start, duration = _SALE.c.start_date, _SALE.c.duration
        seconds = duration / 1_000_000.0 if self._is_sqlite else extract("epoch", duration)
        query = (
            select(
                _SALE.c.transaction_hash,
                cast(start, Text),
                cast(_SALE.c.end_date, Text),
                cast(seconds, Text),
                _SALE.c.customer_id,
                _USER.c.chat_id,
                _USER.c.at_private_group,
                _PLAN.c.period,
                _PLAN.c.price,
            )
            .select_from(_SALE)
            .outerjoin(_USER, _USER.c.chat_id == _SALE.c.customer_id)
            .outerjoin(_PLAN, _PLAN.c.id == _SALE.c.plan_id)
            .order_by(start.is_(None), start, _SALE.c.transaction_hash)
        )
        return self._pages(query, RawSale)

    def zoneless(self) -> list[str]:
        """Return the times that a PostgreSQL holds without their zone (Django's USE_TZ = False)."""
        if self._is_sqlite:
            return []
        found = inspect(self.connection)
        return [
            f"{one.name}.{there['name']}"
            for one in TABLES
            for there in found.get_columns(one.name)
            if there["name"] in one.c and getattr(there["type"], "timezone", True) is False
        ]

    @property
    def _is_sqlite(self) -> bool:
        return self.connection.dialect.name == "sqlite"

    def _pages(self, query: Select[*tuple[Any, ...]], row: type[Any]) -> Iterator[list[Any]]:
        with explained(self.name):
            found = self.connection.execute(query, execution_options={"yield_per": PAGE})
            for page in found.partitions():
                yield [row(*values) for values in page]
