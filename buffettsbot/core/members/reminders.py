"""The remind pass: everyone whose membership ends soon is told once, by the right reminder.

A threshold of N days holds for whoever's end is at most N × 24 h away; inside several, the smallest
counts. A reminder's key names the customer, the end and the threshold: promise 5 is a unique index.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, select

from buffettsbot.core.members.memberships import Member, members_where
from buffettsbot.core.members.notices import REMINDER_KINDS, not_queued, queue_each
from buffettsbot.core.members.spans import spans
from buffettsbot.core.outbox.staff import Digest
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
    for threshold, due in _windows(days, now):
        untold = and_(due, not_queued(db, "reminder", str(threshold)))
        for span in spans(db, untold, None if limit is None else limit - report.due):
            with db.begin() as session:
                connection = session.connection()
                # A renewal takes back what is queued, so it comes before all of this, or after.
                here = and_(due, span.condition)
                connection.execute(
                    select(SUBSCRIPTION.c.customer_id).where(here).with_for_update(read=True)
                )
                told = [
                    queue_each(
                        connection,
                        kind=kind,
                        where=here,
                        now=now,
                        extra={"days": threshold},
                        key_end=str(threshold),
                    )
                    for kind in REMINDER_KINDS
                ][0]
                if told:
                    counts = {"told": told, "by_days": {str(threshold): told}}
                    digest.add(connection, counts, now)
            report.due += told
            report.done += told
            watch(report)
    return report


def due_reminders(
    db: Database, *, now: datetime, days: Sequence[int], limit: int | None = None
) -> Iterator[tuple[Member, int]]:
    """Yield who would be told at `now`, and by which threshold; changes nothing."""
    for threshold, due in _windows(days, now):
        untold = and_(due, not_queued(db, "reminder", str(threshold)))
        for member in members_where(db, untold, now=now, limit=limit):
            yield member, threshold


def _windows(days: Sequence[int], now: datetime) -> Iterator[tuple[int, ColumnElement[bool]]]:
    """Yield each threshold with the condition of those for whom it is the smallest one."""
    begins = now
    for threshold in sorted(set(days)):
        ends = now + timedelta(days=threshold)
        yield (
            threshold,
            and_(
                SUBSCRIPTION.c.expired_at.is_(None),
                SUBSCRIPTION.c.end_date > begins,
                SUBSCRIPTION.c.end_date <= ends,
            ),
        )
        begins = ends
