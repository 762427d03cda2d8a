"""Who may do alone what only one may do: a row with a holder and an end, taken by compare-and-set.

A holder that dies is followed by another once its time is over; no process and no host has to agree
on anything but the database and, within seconds, the clock.
"""

from datetime import datetime

from sqlalchemy import bindparam, delete, or_, select, update

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import LEASE
from buffettsbot.core.storage.statements import insert_once

_TAKE = (
    update(LEASE)
    .where(
        LEASE.c.name == bindparam("lease"),
        or_(LEASE.c.until <= bindparam("now"), LEASE.c.holder == bindparam("me")),
    )
    .returning(LEASE.c.name)
)


def take(db: Database, name: str, *, holder: str, now: datetime, until: datetime) -> bool:
    """Take or keep a lease; return whether it is held now."""
    row = {"name": name, "holder": holder, "until": until}
    with db.begin() as session:
        connection = session.connection()
        if insert_once(connection, LEASE, row) is not None:
            return True
        seen = {"lease": name, "now": now, "me": holder}
        values = {"holder": holder, "until": until}
        return connection.execute(_TAKE, seen | values).first() is not None


def release(db: Database, name: str, *, holder: str) -> None:
    """Give a lease back, if it is still held."""
    with db.begin() as session:
        session.execute(delete(LEASE).where(LEASE.c.name == name, LEASE.c.holder == holder))


def held_until(db: Database, name: str) -> datetime | None:
    """Return when a lease ends, None when nobody ever took it."""
    with db.read() as session:
        until: datetime | None = session.scalar(select(LEASE.c.until).where(LEASE.c.name == name))
        return until
