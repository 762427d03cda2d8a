"""The original's database for tests, made by its own schema, and how it is brought over."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from helpers import DAY, NOW, broken, hash_of, rows
from sqlalchemy import create_engine, text

from buffettsbot.core.from_django.bring import Imported, bring_all
from buffettsbot.core.from_django.opening import open_original
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Audit, Outbox, Payment, Plan, Subscription, TelegramUser

DATA = Path(__file__).parents[1] / "data" / "django"
MONTH = timedelta(days=30)
TABLES = (TelegramUser, Plan, Subscription, Payment, Outbox, Audit)


class Original:
    """The original's database, and what its code and its admins write there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        script = (DATA / f"{self.engine.dialect.name}.sql").read_text()
        for statement in script.split(";\n"):
            if statement.strip():
                self.run(statement)

    def run(self, statement: str, *many: dict[str, Any], **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), list(many) or values)

    def at(self, moment: datetime | None) -> Any:
        """A time as Django stores it: on SQLite without its zone, in UTC."""
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f") if self.is_sqlite and moment else moment

    def plan(self, period: str = "1 month", price: int = 50) -> None:
        self.run(
            "INSERT INTO subscription_service_plan (period, price) VALUES (:period, :price)",
            period=period,
            price=price,
        )

    def user(self, chat_id: Any, name: str | None = None, **fields: Any) -> None:
        self.users([{"chat_id": chat_id, "name": name or f"u{chat_id}"} | fields])

    def users(self, people: list[dict[str, Any]]) -> None:
        usual = {"first": "Ann", "last": None, "group": True, "joined": NOW - DAY, "staff": False}
        values = [usual | one for one in people]
        for one in values:
            one["joined"] = self.at(one["joined"])
        self.run(
            "INSERT INTO subscription_service_telegramuser VALUES "
            "('!', NULL, false, :chat_id, :name, :first, :last, :group, :joined, :staff)",
            *values,
        )

    def sale(self, transaction_hash: str, customer: Any, start: datetime, **fields: Any) -> None:
        self.sales([{"hash": transaction_hash, "customer": customer, "start": start} | fields])

    def sales(self, sold: list[dict[str, Any]]) -> None:
        """What was sold: ends after its days (30) unless told otherwise."""
        usual: dict[str, Any] = {"days": 30, "plan": "1 month", "end": ...}
        values = [usual | one for one in sold]
        for one in values:
            length = timedelta(days=one.pop("days"))
            end = one["start"] + length if one["end"] is ... else one["end"]
            one |= {"start": self.at(one["start"]), "end": self.at(end)}
            one["duration"] = length // timedelta(microseconds=1) if self.is_sqlite else length
        self.run(
            "INSERT INTO subscription_service_subscription VALUES (:hash, :start, :end, :duration, "
            ":customer, (SELECT id FROM subscription_service_plan WHERE period = :plan))",
            *values,
        )

    def renew(self, customer: int, transaction_hash: str, start: datetime) -> None:
        """As the original renews: the old row goes, and with it the days that were left."""
        self.run(
            "DELETE FROM subscription_service_subscription WHERE customer_id = :who", who=customer
        )
        self.sale(transaction_hash, customer, start)


def bring(
    db: Database, original: Original, now: datetime = NOW, *, dry_run: bool = False
) -> Imported:
    with open_original(original.url) as opened:
        imported = bring_all(db, opened, actor="root", now=now, dry_run=dry_run)
    assert broken(db, now) == []
    return imported


def kinds(imported: Imported) -> Counter[str]:
    return Counter(one.kind for one in imported.odd)


def everything(db: Database) -> list[list[dict[str, Any]]]:
    return [[row.model_dump() for row in rows(db, table)] for table in TABLES]


def crowd(original: Original, count: int) -> None:
    """So many people, each a member."""
    original.plan()
    numbers = range(1, count + 1)
    original.users(
        [{"chat_id": n, "name": f"u{n}", "joined": NOW - timedelta(minutes=n)} for n in numbers]
    )
    original.sales(
        [{"hash": hash_of(n + 1), "customer": n, "start": NOW - n * DAY / 60} for n in numbers]
    )
