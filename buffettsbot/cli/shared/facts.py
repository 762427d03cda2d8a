"""One fact as people read it: a person, a time, an amount; and the columns that show them."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from buffettsbot.cli.shared.table import Column
from buffettsbot.core.money import to_usdt


def field(title: str, name: str, **options: Any) -> Column:
    """A column that shows a field as it is; a dash where it is None. `options`: Column's own."""
    return Column(title, lambda row: _plain(row[name]), **options)


def person(title: str = "user", id_field: str = "chat_id") -> Column:
    """A column that names a person by username, or by id where they have none."""
    return Column(title, lambda row: handle(row["telegram_username"], row[id_field]))


def moment(title: str, name: str, zone: ZoneInfo, *, yields: int = 1) -> Column:
    """A column that shows a time in the owner's zone, to the minute (to the day if need be)."""
    return Column(
        title,
        lambda row: when(row[name], zone),
        narrow=lambda row: when(row[name], zone, "%d %b %Y"),
        yields=yields,
    )


def hash_column(title: str = "hash", name: str = "transaction_hash", *, yields: int = 1) -> Column:
    """A column that shows a hash; if room is short, enough of it to tell it from others."""
    return Column(
        title,
        lambda row: str(row[name]),
        narrow=lambda row: f"{row[name][:8]}…{row[name][-4:]}",
        yields=yields,
    )


def handle(username: str | None, chat_id: int) -> str:
    """Return how a person is named for people."""
    return f"@{username}" if username else str(chat_id)


def when(value: datetime | None, zone: ZoneInfo, form: str = "%d %b %Y %H:%M") -> str:
    """Return a time as people read it, in the owner's zone."""
    return value.astimezone(zone).strftime(form) if value else "–"


def usdt(micro: int) -> str:
    """Return an amount for people: 12500500000 → "12,500.5"."""
    return f"{Decimal(to_usdt(micro)):,f}"


def percent(share: float | None) -> str:
    """Return a share for people, a dash where there is none."""
    return "–" if share is None else f"{share:.0%}"


def picked(data: Any, fields: Sequence[str]) -> dict[str, Any]:
    """Return these attributes of an object, always in this order."""
    return {name: getattr(data, name) for name in fields}


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)
