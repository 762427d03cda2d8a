"""The remind pass: everyone whose membership ends soon is told once, by the right reminder.

A threshold of N days holds for whoever's end is at most N × 24 h away; inside several, the smallest
counts. A reminder's key names the customer, the end and the threshold: promise 5 is a unique index.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_
from sqlalchemy.engine import Connection

from buffettsbot.core.members.memberships import Member, members_where
from buffettsbot.core.members.notices import (
    REMINDER_KINDS,
    end_of,
    members_to_tell,
    not_queued,
    notice,
)
from buffettsbot.core.members.spans import spans
from buffettsbot.core.outbox.queue import queue_all
from buffettsbot.core.outbox.staff import MOST_NAMED, Digest
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import SUBSCRIPTION
from buffettsbot.core.storage.passes import Report


def remind(
    db: Database,
    *,
    now: datetime,
    days: Sequence[int],
    limit: int | None = None,
    watch: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Queue each due reminder, a picture and the details, and a digest for the admins.

    `days`: the thresholds. Safe to repeat, to race and to kill at any moment.
    """
    report = Report("remind")
    digest = Digest("digest-remind")
    for threshold, untold in _untold(db, days, now):
        for span in spans(db, untold, None if limit is None else limit - report.due):
            with db.begin() as session:
                connection = session.connection()
                members = members_to_tell(connection, and_(untold, span.condition), lock=True)
                told = _queue(connection, members, threshold, now)
                if told:
                    counts = {"told": told, "by_days": {str(threshold): told}}
                    people = [{name: one[name] for name in _NAMED} for one in members[:MOST_NAMED]]
                    digest.add(connection, counts | {"people": people}, now)
            report.due += told
            report.done += told
            watch(report)
    return report


_NAMED = ("chat_id", "telegram_username", "first_name", "last_name", "end_date")


def _queue(
    connection: Connection, members: Sequence[Mapping[str, Any]], threshold: int, now: datetime
) -> int:
    """Queue both messages to each member; return how many were not reminded by others meanwhile.

    The members are locked. Nobody renews between: a renewal takes back what is queued, so it comes
    before this or after.
    """
    pictures, details = (
        [
            notice(kind, member, about=f"{end_of(member)}:{threshold}", days=threshold)
            for member in members
        ]
        for kind in REMINDER_KINDS
    )
    told = queue_all(connection, pictures, now=now)
    queue_all(connection, details, now=now)
    return told


def due_reminders(
    db: Database, *, now: datetime, days: Sequence[int], limit: int | None = None
) -> Iterator[tuple[Member, int]]:
    """Yield who would be told at `now`, and by which threshold; changes nothing."""
    for threshold, untold in _untold(db, days, now):
        for member in members_where(db, untold, now=now, limit=limit):
            yield member, threshold


def _untold(
    db: Database, days: Sequence[int], now: datetime
) -> Iterator[tuple[int, ColumnElement[bool]]]:
    """Yield each threshold with the condition of those for whom it is the smallest one, and who
    were not reminded by it yet."""
    begins = now
    for threshold in sorted(set(days)):
        ends = now + timedelta(days=threshold)
        yield (
            threshold,
            and_(
                SUBSCRIPTION.c.expired_at.is_(None),
                SUBSCRIPTION.c.end_date > begins,
                SUBSCRIPTION.c.end_date <= ends,
                not_queued(db, "reminder", f":{threshold}"),
            ),
        )
        begins = ends
