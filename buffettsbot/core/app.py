"""All of it put together: the settings, the database, and the clock."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from buffettsbot.core.db import Database
from buffettsbot.core.errors import BuffettsbotError
from buffettsbot.core.settings import Settings, load_settings


def utcnow() -> datetime:
    """The only look at the system's clock in the core."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class App:
    """What every command and route works with."""

    settings: Settings
    db: Database
    now: Callable[[], datetime] = utcnow


def open_app(settings: Settings | None = None, *, prepared: bool = True) -> App:
    """Open the database that the settings name; a fresh SQLite one is made on the spot.

    Raises BadSettings, Unavailable, or NotAllowed when the data needs `db upgrade` (not checked
    unless `prepared`).
    """
    settings = settings or load_settings()
    db = Database(settings.database)
    try:
        if prepared:
            _prepare(db)
    except BuffettsbotError:
        db.close()
        raise
    return App(settings, db)


def _prepare(db: Database) -> None:
    if db.is_sqlite and db.version() is None:
        from buffettsbot.core import migrations  # half a second, once in a database's life

        migrations.upgrade(db)
    db.check_version()
