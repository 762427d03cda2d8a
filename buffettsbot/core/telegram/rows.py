"""The outbox as the deliverer sees it: what is due, who has it in hand, and what became of it.

A row in somebody's hands has a lease, which ends by itself when they die. A lease that is over and
still stands says: this may have been sent already.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OUTBOX


def count_due(db: Database, now: datetime) -> int:
    """Return how much waits to be sent at `now`."""
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(OUTBOX).where(_is_due(now))) or 0


def list_due(db: Database, now: datetime, limit: int | None = None) -> list[dict[str, Any]]:
    """Return what would be sent at `now`, the oldest first; changes nothing."""
    columns = (OUTBOX.c.id, OUTBOX.c.kind, OUTBOX.c.chat_id, OUTBOX.c.attempts, OUTBOX.c.created_at)
    query = select(*columns).where(_is_due(now)).order_by(OUTBOX.c.id).limit(limit)
    with db.read() as session:
        return [dict(row._mapping) for row in session.execute(query)]


def chats_with_due(db: Database, now: datetime, among: Collection[int]) -> set[int]:
    """Return for which of these chats something is due."""
    query = select(OUTBOX.c.chat_id).where(_is_due(now), OUTBOX.c.chat_id.in_(among)).distinct()
    with db.read() as session:
        return set(session.execute(query).scalars())


def take_due(
    db: Database, now: datetime, *, until: datetime, size: int, but_not: Collection[int]
) -> Sequence[Any]:
    """Take the oldest due row of each chat into one's hands until then, `size` rows at most.

    `but_not`: chats that may not be written to now. The rows are as they were before: `attempts`
    without the one that begins, `leased_until` of whoever had them in hand and died.
    """
    oldest = (
        select(func.min(OUTBOX.c.id))
        .where(_is_due(now), OUTBOX.c.chat_id.not_in(but_not))
        .group_by(OUTBOX.c.chat_id)
        .order_by(func.min(OUTBOX.c.id))
        .limit(size)
    )
    with db.begin() as session:
        found = session.execute(
            select(OUTBOX).where(OUTBOX.c.id.in_(oldest)).order_by(OUTBOX.c.id)
        ).all()
        taken = session.execute(
            update(OUTBOX)
            .where(OUTBOX.c.id.in_([row.id for row in found]), OUTBOX.c.status == "queued")
            .values(leased_until=until, attempts=OUTBOX.c.attempts + 1)
            .returning(OUTBOX.c.id)
        )
        ours = set(taken.scalars())
    return [row for row in found if row.id in ours]


def is_ours(db: Database, row: Any, *, until: datetime) -> bool:
    """Say whether a row that was taken is still to be sent, and still ours at least until then."""
    query = select(OUTBOX.c.id).where(
        _is(row),
        OUTBOX.c.status == "queued",
        OUTBOX.c.attempts == row.attempts + 1,
        OUTBOX.c.leased_until >= until,
    )
    with db.read() as session:
        return session.scalar(query) is not None


def write_down(session: Session, row: Any, values: Mapping[str, Any]) -> None:
    """Write down what became of a row that was taken."""
    session.execute(update(OUTBOX).where(_is(row)).values(**values))


def give_back(db: Database, row: Any) -> None:
    """Leave a row that was taken as it was before: nothing of it was begun."""
    with db.begin() as session:
        write_down(session, row, {"leased_until": row.leased_until, "attempts": row.attempts})


def _is_due(now: datetime) -> ColumnElement[bool]:
    return and_(
        OUTBOX.c.status == "queued",
        OUTBOX.c.not_before <= now,
        or_(OUTBOX.c.leased_until.is_(None), OUTBOX.c.leased_until <= now),
    )


def _is(row: Any) -> ColumnElement[bool]:
    """By more than its number: where a backup was restored, the number may be another's."""
    return and_(OUTBOX.c.id == row.id, OUTBOX.c.key == row.key)
