"""Digests: what a pass tells every admin of itself, in the transactions that it tells of."""

import itertools
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete
from sqlalchemy.engine import Connection

from buffettsbot.core.outbox.queue import Effect, admins, queue_all
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OUTBOX

MOST_NAMED = 20


class Digest:
    """What one run tells every admin. It grows in the transactions that it tells of, so that no
    kill can part them: while nobody has it in hand it is taken back and queued anew with the sum;
    once it is on its way, another begins.
    """

    def __init__(self, kind: str, *, wait: timedelta = timedelta(0)) -> None:
        self._kind = kind
        self._wait = wait
        self._run = uuid.uuid4().hex
        self._parts = itertools.count(1)
        self._keys: list[str] = []

    def add(self, connection: Connection, counts: Mapping[str, Any], now: datetime) -> None:
        """Add to it: numbers are added up, lists are joined (the first entries are enough)."""
        taken_back = connection.execute(_TAKE_BACK, {"keys": self._keys})
        so_far = {row.chat_id: row.payload for row in taken_back}
        part = f"{self._kind}:{self._run}:{next(self._parts)}"
        digests = [
            Effect(f"{part}:{admin}", self._kind, admin, _add_up(so_far.get(admin), counts))
            for admin in admins(connection)
        ]
        queue_all(connection, digests, now=now, wait=self._wait)
        self._keys = [digest.key for digest in digests]


_TAKE_BACK = (
    delete(OUTBOX)
    .where(
        OUTBOX.c.key.in_(bindparam("keys", expanding=True)),
        OUTBOX.c.status == "queued",
        OUTBOX.c.leased_until.is_(None),
    )
    .returning(OUTBOX.c.chat_id, OUTBOX.c.payload)
)


def _add_up(so_far: Any, more: Any) -> Any:
    if so_far is None:
        return more
    if isinstance(more, Mapping):
        return so_far | {name: _add_up(so_far.get(name), value) for name, value in more.items()}
    return (so_far + more)[:MOST_NAMED] if isinstance(more, list) else so_far + more


def raise_alarm(db: Database, *, unit: str, error: str, now: datetime) -> None:
    """Queue word for the staff that a unit of systemd has failed, once an hour for each unit.

    What fails every minute must not be told every minute, and what fails again must not be silent.
    """
    key = f"pass-failed:{unit}:{now:%Y-%m-%dT%H}"
    payload = {"pass": unit, "error": error}
    with db.begin() as session:
        connection = session.connection()
        alarms = [
            Effect(f"{key}:{admin}", "pass-failed", admin, payload) for admin in admins(connection)
        ]
        queue_all(connection, alarms, now=now)
