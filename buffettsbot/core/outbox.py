"""What the world must be told: queued in the transaction that decided it, sent by no one here.

`payload` holds the data that a message is written from, not its words: language and texts are the
owner's, and are applied when it is sent.
"""

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, delete, select, update
from sqlalchemy.engine import Connection
from sqlmodel import col

from buffettsbot.core.db import Database, insert_once, paged
from buffettsbot.core.errors import Conflict, NotFound
from buffettsbot.core.models import OUTBOX, TELEGRAM_USER, Outbox

MOST_NAMED = 20


def queue(
    connection: Connection,
    *,
    key: str,
    kind: str,
    chat_id: int,
    payload: Mapping[str, Any],
    now: datetime,
    wait: timedelta = timedelta(0),
) -> None:
    """Queue one effect for a chat, to be sent after a wait; the same key again changes nothing."""
    row = {
        "key": key,
        "kind": kind,
        "chat_id": chat_id,
        "payload": dict(payload),
        "status": "queued",
        "attempts": 0,
        "not_before": now + wait,
        "created_at": now,
    }
    insert_once(connection, OUTBOX, row)


def queue_for_staff(
    connection: Connection, *, key: str, kind: str, payload: Mapping[str, Any], now: datetime
) -> None:
    """Queue the same notice for every admin there is; there may be none."""
    for chat_id in connection.execute(_STAFF).scalars().all():
        queue(
            connection, key=f"{key}:{chat_id}", kind=kind, chat_id=chat_id, payload=payload, now=now
        )


_STAFF = select(TELEGRAM_USER.c.chat_id).where(TELEGRAM_USER.c.is_staff)


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
        self._keys = []
        for chat_id in connection.execute(_STAFF).scalars().all():
            self._keys.append(f"{part}:{chat_id}")
            queue(
                connection,
                key=self._keys[-1],
                kind=self._kind,
                chat_id=chat_id,
                payload=_sum(so_far.get(chat_id), counts),
                now=now,
                wait=self._wait,
            )


_TAKE_BACK = (
    delete(OUTBOX)
    .where(
        OUTBOX.c.key.in_(bindparam("keys", expanding=True)),
        OUTBOX.c.status == "queued",
        OUTBOX.c.leased_until.is_(None),
    )
    .returning(OUTBOX.c.chat_id, OUTBOX.c.payload)
)


def _sum(so_far: Any, more: Any) -> Any:
    if so_far is None:
        return more
    if isinstance(more, Mapping):
        return so_far | {name: _sum(so_far.get(name), value) for name, value in more.items()}
    return (so_far + more)[:MOST_NAMED] if isinstance(more, list) else so_far + more


def list_outbox(
    db: Database, *, status: str | None = None, limit: int | None = None
) -> Iterator[Outbox]:
    """Yield what was queued, the newest first, page by page."""
    query = select(Outbox).order_by(col(Outbox.id).desc())
    if status is not None:
        query = query.where(col(Outbox.status) == status)

    def fetch(last: Outbox | None, size: int) -> Sequence[Outbox]:
        page = query.where(col(Outbox.id) < last.id) if last else query
        with db.read() as session:
            return session.scalars(page.limit(size)).all()

    return paged(fetch, limit)


def requeue(db: Database, number: int, *, now: datetime) -> Outbox:
    """Send again what failed, was cancelled or even sent. Raises NotFound, Conflict."""
    return _change(
        db,
        number,
        ("failed", "cancelled", "sent"),
        {"status": "queued", "not_before": now, "attempts": 0, "leased_until": None, "error": None},
    )


def cancel_one(db: Database, number: int) -> Outbox:
    """Take back what is queued. Raises NotFound, Conflict."""
    return _change(db, number, ("queued",), {"status": "cancelled"})


def _change(
    db: Database, number: int, expected: Sequence[str], values: Mapping[str, Any]
) -> Outbox:
    with db.begin() as session:
        changed = session.scalars(
            update(Outbox)
            .where(col(Outbox.id) == number, col(Outbox.status).in_(expected))
            .values(**values)
            .returning(Outbox)
        ).first()
        if changed is not None:
            return changed
        standing = session.get(Outbox, number)
    if standing is None:
        raise NotFound(f"There is no message {number}. To see them: buffettsbot outbox list")
    raise Conflict(f"Message {number} is {standing.status}, so this cannot be done.")


def cancel_for(connection: Connection, chats: Select[int], kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for the chats that a select finds."""
    connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.chat_id.in_(chats), OUTBOX.c.kind.in_(kinds), OUTBOX.c.status == "queued")
        .values(status="cancelled")
    )


def cancel(connection: Connection, chat_id: int, kinds: Sequence[str]) -> None:
    """Take back what is queued of these kinds for a chat."""
    connection.execute(_CANCEL, {"chat": chat_id, "kinds": list(kinds)})


_CANCEL = (
    update(OUTBOX)
    .where(
        OUTBOX.c.chat_id == bindparam("chat"),
        OUTBOX.c.status == "queued",
        OUTBOX.c.kind.in_(bindparam("kinds", expanding=True)),
    )
    .values(status="cancelled")
)


def for_chat(db: Database, chat_id: int, *, limit: int = 50) -> list[Outbox]:
    """Return what was queued and sent for a chat, the newest first."""
    query = select(Outbox).where(col(Outbox.chat_id) == chat_id).order_by(col(Outbox.id).desc())
    with db.read() as session:
        return list(session.scalars(query.limit(limit)).all())
